/* args: the command line of the compatible face. See api.h. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/chardev/chardev.h"
#include "devices/backend/store/backing.h"
#include "vmm/api/api.h"
#include "vmm/api/endpoints.h"
#include "vmm/api/openapi.h"
#include "vmm/confine/confine.h"
#include "vmm/confine/plan.h"
#include "vmm/core/keys.h"
#include "vmm/core/log.h"
#include "vmm/core/parse.h"
#include "vmm/usage/usage.h"
#include "vmm/vmconfig/vmconfig.h"

struct args {
	struct api_options options;
	const char *log_file;
	unsigned verbose;
	enum confine_mode confine;
	struct confine_jail jail;
	const char *backing_dir[STORE_FOLDERS_MAX];
	unsigned nbacking_dirs;
	bool help, version, openapi;
};

typedef int (*option_fn)(struct args *args, const char *value, struct err *err);

/* --- values ------------------------------------------------------------------------------- */

/* "PATH", "path=PATH" or "fd=N". */
static int place(struct api_place *at, const char *option, const char *value, bool bare,
		 struct err *err)
{
	uint64_t fd;

	if (at->path || at->fd >= 0)
		return err_set(err, EINVAL, "--%s: given twice", option);
	if (!strncmp(value, "fd=", 3)) {
		if (parse_u64(value + 3, &fd) || fd > INT32_MAX || fcntl((int)fd, F_GETFD) < 0)
			return err_set(err, EINVAL,
				       "--%s %s: is not an open file descriptor's number", option,
				       value);
		at->fd = (int)fd;
		return 0;
	}
	if (!strncmp(value, "path=", 5))
		value += 5;
	else if (!bare)
		return err_set(err, EINVAL, "--%s %s: must be path=PATH or fd=N", option, value);
	if (!*value)
		return err_set(err, EINVAL, "--%s: the path is empty", option);
	at->path = value;
	return 0;
}

static int set_socket(struct args *args, const char *value, struct err *err)
{
	return place(&args->options.socket, "api-socket", value, true, err);
}

static int set_monitor(struct args *args, const char *value, struct err *err)
{
	return place(&args->options.monitor, "event-monitor", value, false, err);
}

static int set_log_file(struct args *args, const char *value, struct err *err)
{
	args->log_file = value;
	return 0;
}

static int add_backing_dir(struct args *args, const char *value, struct err *err)
{
	if (args->nbacking_dirs == STORE_FOLDERS_MAX)
		return err_set(err, E2BIG, "--backing-dir %s: more than %u", value,
			       STORE_FOLDERS_MAX);
	args->backing_dir[args->nbacking_dirs++] = value;
	return 0;
}

static int accept_value(struct args *args, const char *value, struct err *err)
{
	return 0;
}

static int set_seccomp(struct args *args, const char *value, struct err *err)
{
	static const char *const known[] = { "true", "false", "log", "errno" };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(value, known[i]))
			return 0;
	return err_set(err, EINVAL, "--seccomp %s: must be true, false, log or errno", value);
}

static int action_of(const char *text, const char *const *names, enum vm_action *out)
{
	for (int i = VM_RESTART; i <= VM_IGNORE; i++)
		if (names[i] && !strcmp(text, names[i])) {
			*out = (enum vm_action)i;
			return 0;
		}
	return -EINVAL;
}

/* "reboot=…,panic=…" */
static int set_confine(struct args *args, const char *value, struct err *err)
{
	static const char *const names[] = { "on", "require", "log", "off" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(value, names[i])) {
			args->confine = (enum confine_mode)i;
			return 0;
		}
	return err_set(err, EINVAL, "--confine %s: must be on, require, log or off", value);
}

static int set_action(struct args *args, const char *value, struct err *err)
{
	static const char *const reboot[] = { "restart", "exit", "keep", NULL };
	static const char *const panic[] = { "restart", "exit", "keep", "ignore" };
	char text[64], *save, *one;

	snprintf(text, sizeof(text), "%s", value);
	for (one = strtok_r(text, ",", &save); one; one = strtok_r(NULL, ",", &save)) {
		if (!strncmp(one, "reboot=", 7) &&
		    !action_of(one + 7, reboot, &args->options.reboot))
			continue;
		if (!strncmp(one, "panic=", 6) && !action_of(one + 6, panic, &args->options.panic))
			continue;
		return err_set(err, EINVAL,
			       "--action %s: must be reboot=restart|exit|keep, "
			       "panic=restart|exit|keep|ignore, or both",
			       value);
	}
	return 0;
}

static int set_no_shutdown(struct args *args, const char *value, struct err *err)
{
	args->options.no_shutdown = true;
	return 0;
}

static int set_help(struct args *args, const char *value, struct err *err)
{
	args->help = true;
	return 0;
}

static int set_version(struct args *args, const char *value, struct err *err)
{
	args->version = true;
	return 0;
}

static int set_openapi(struct args *args, const char *value, struct err *err)
{
	args->openapi = true;
	return 0;
}

/* --- the options of the process ----------------------------------------------------------- */

#define TEXT(member) offsetof(struct args, jail.member)

static const struct option {
	const char *name, *meta; /* meta NULL: it takes no value */
	option_fn set;		 /* NULL: the value goes to a text of struct args */
	const char *help;
	size_t text;
} options[] = {
	{ "api-socket", "PATH|path=PATH|fd=N", set_socket, "where the API listens" },
	{ "event-monitor", "path=PATH|fd=N", set_monitor, "where events go, as JSON" },
	{ "backing-dir", "DIR", add_backing_dir,
	  "backing files of disks may also lie in or below DIR; may be repeated" },
	{ "confine", CONFINE_CHOICES, set_confine,
	  "take from the process what no VM needs; require: an error if the host refuses a part" },
	{ "uid", "USER", NULL, "as root: become USER, a name or a number, before files are opened",
	  TEXT(uid) },
	{ "gid", "GROUP", NULL, "with --uid: the group, not the one of USER", TEXT(gid) },
	{ "chroot", "DIR", NULL, "as root: make DIR the root; all paths of the API are below it",
	  TEXT(chroot) },
	{ "netns", "NAME|PATH", NULL, "as root: use this network namespace (ip netns add NAME)",
	  TEXT(netns) },
	{ "cgroup", "NAME|PATH", NULL, "run in this group of cgroup v2, made if it is not there",
	  TEXT(cgroup) },
	{ "limit", "KEY=VALUE", NULL,
	  "limits of the group and of the process, with commas; bantam run --help has the keys",
	  TEXT(limit) },
	{ "log-file", "FILE", set_log_file, "where log lines go, instead of stderr" },
	{ "log-format", "FORMAT", accept_value, "accepted and ignored" },
	{ "seccomp", "true|false|log|errno", set_seccomp, "accepted and ignored" },
	{ "action", "reboot=…,panic=…", set_action,
	  "what follows a reset (restart, exit, keep) and a panic (ignore, too)" },
	{ "no-shutdown", NULL, set_no_shutdown, "a power-off leaves the VM's configuration" },
	{ "openapi", NULL, set_openapi, "print what the API takes and answers, as OpenAPI 3.0" },
	{ "version", NULL, set_version, "print the version (-V)" },
	{ "help", NULL, set_help, "this text (-h)" },
};
#define NOPTIONS (sizeof(options) / sizeof(options[0]))

static void usage(FILE *out)
{
	fputs("usage: cloud-hypervisor --api-socket PATH [OPTION]…\n"
	      "       bantam api --api-socket PATH [OPTION]…\n\n"
	      "Serves the API of Cloud Hypervisor for one VM.\n\n",
	      out);
	for (size_t i = 0; i < NOPTIONS; i++) {
		char lead[64];

		snprintf(lead, sizeof(lead), "--%s%s%s", options[i].name,
			 options[i].meta ? " " : "", options[i].meta ? options[i].meta : "");
		usage_row(out, 2, USAGE_HELP_AT, lead, options[i].help, NULL);
	}
	usage_row(out, 2, USAGE_HELP_AT, "-v", "more log lines; twice: still more", NULL);
	fputs("\nThese describe a VM, which boots at once:\n\n", out);
	vmconfig_options_help(out);
}

/* Returns the option of that name, which has len bytes, or NULL. */
static const struct option *find(const char *name, size_t len)
{
	for (size_t i = 0; i < NOPTIONS; i++)
		if (strlen(options[i].name) == len && !strncmp(name, options[i].name, len))
			return &options[i];
	return NULL;
}

/* "-v", "-vv", "-V", "-h". Returns false if arg is none of them. */
static bool short_option(struct args *args, const char *arg)
{
	size_t n = strspn(arg + 1, "v");

	if (n && !arg[1 + n]) {
		args->verbose += (unsigned)n;
		return true;
	}
	args->version |= !strcmp(arg, "-V");
	args->help |= !strcmp(arg, "-h");
	return !strcmp(arg, "-V") || !strcmp(arg, "-h");
}

/* Sets the option of argv[*at], and *at to the next word. */
static int process_option(struct args *args, const struct option *o, int argc, char **argv, int *at,
			  struct err *err)
{
	const char *value = strchr(argv[*at], '='), **text;

	value = value ? value + 1 : NULL;
	if (o->meta && !value && *at + 1 < argc)
		value = argv[++*at];
	++*at;
	if (o->meta && !value)
		return err_set(err, EINVAL, "--%s: needs a value: %s", o->name, o->meta);
	if (!o->meta && value)
		return err_set(err, EINVAL, "--%s: takes no value", o->name);
	if (o->set)
		return o->set(args, value, err);
	text = (const char **)((char *)args + o->text);
	if (*text)
		return err_set(err, EINVAL, "--%s: given twice", o->name);
	*text = value;
	return 0;
}

static int no_option(const char *word, struct err *err)
{
	const char *names[NOPTIONS + VMCONFIG_OPTIONS_MAX];
	size_t n = vmconfig_option_names(names, VMCONFIG_OPTIONS_MAX);

	for (size_t i = 0; i < NOPTIONS; i++)
		names[n++] = options[i].name;
	return keys_no_word("option", word, names, n, "--help", err);
}

static int parse(struct args *args, int argc, char **argv, struct err *err)
{
	int rc = 0;

	for (int i = 0; rc >= 0 && i < argc;) {
		const char *arg = argv[i];
		const struct option *o;

		if (arg[0] == '-' && arg[1] != '-' && short_option(args, arg)) {
			i++;
			continue;
		}
		o = strncmp(arg, "--", 2) ? NULL : find(arg + 2, strcspn(arg + 2, "="));
		if (o) {
			rc = process_option(args, o, argc, argv, &i, err);
			continue;
		}
		rc = vmconfig_take_option(args->options.vm, argc, argv, &i, err);
		if (!rc)
			rc = no_option(arg, err);
	}
	return rc < 0 ? rc : confine_jail_check(&args->jail, err);
}

static int open_log(const struct args *args, struct err *err)
{
	int fd;

	log_set_level(args->verbose > 1 ? LOG_DEBUG : args->verbose ? LOG_INFO : LOG_WARN);
	log_show_level(true);
	if (!args->log_file)
		return 0;
	/* The API does not wait for the reader of a fifo, who may come later. */
	fd = open(args->log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
		  0600);
	if (fd < 0 && errno == ENXIO)
		fd = open(args->log_file, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_sys(err, errno, "--log-file %s", args->log_file);
	log_set_fd(fd);
	return 0;
}

/* Adds the descriptors that paths name anywhere in the VM of the options. */
static int plan_paths(struct confine_plan *plan, json_t *value, struct err *err)
{
	const char *key;
	json_t *child;
	size_t i;
	int rc = 0;

	if (json_is_string(value))
		return confine_plan_path(plan, json_string_value(value), err);
	json_object_foreach(value, key, child)
	{
		if (!rc)
			rc = plan_paths(plan, child, err);
	}
	json_array_foreach(value, i, child)
	{
		if (!rc)
			rc = plan_paths(plan, child, err);
	}
	return rc;
}

/* The disks that boot at once: those of the API come too late for the limits of their devices. */
static void plan_disks(struct confine_jail *jail, json_t *vm)
{
	json_t *disk;
	size_t i;

	json_array_foreach(json_object_get(vm, "disks"), i, disk)
	{
		const char *path = json_string_value(json_object_get(disk, "path"));

		if (path && jail->ndisks < CONFINE_DISKS_MAX)
			jail->disk[jail->ndisks++] = path;
	}
}

/* Clients name files later, so this takes only what no VM needs. */
static int confine_api(struct args *args, struct err *err)
{
	struct confine_plan plan = {
		.mode = args->confine, .files_later = true, .host_network = true, .interfaces = true
	};
	const struct api_options *o = &args->options;
	int rc = plan_paths(&plan, o->vm, err);

	plan_disks(&args->jail, o->vm);
	plan.jail = args->jail;
	plan.jail.disks_later = true;

	plan.nfds += vmconfig_option_fds(o->vm, plan.fd + plan.nfds, CONFINE_FDS_MAX - plan.nfds);
	if (!rc && o->socket.fd >= 0)
		rc = confine_keep_fd(&plan, o->socket.fd, err);
	if (o->socket.path)
		plan.report[plan.nreports++] = o->socket.path;
	if (!rc && o->monitor.fd >= 0)
		rc = confine_keep_fd(&plan, o->monitor.fd, err);
	if (!rc && args->log_file)
		rc = confine_plan_path(&plan, args->log_file, err);
	confine_at_refusal(chardev_restore_terminal_in_handler);
	return rc ? rc : confine_begin(&plan, err);
}

/* Below the new root, if there is one. */
static int allow_folders(const struct args *args, struct err *err)
{
	int rc = 0;

	for (unsigned i = 0; !rc && i < args->nbacking_dirs; i++)
		rc = store_allow_folder(args->backing_dir[i], err);
	return rc;
}

static int serve(struct args *args, struct err *err)
{
	struct api_options *o = &args->options;
	int rc = confine_api(args, err), status = OUTCOME_ERROR;

	if (!rc)
		rc = open_log(args, err);
	if (!rc) {
		rc = allow_folders(args, err);
		status = OUTCOME_USAGE;
	}
	if (rc) {
		fprintf(stderr, "cloud-hypervisor: %s\n", err->text);
		return status;
	}
	if (!json_object_size(o->vm)) {
		json_decref(o->vm);
		o->vm = NULL;
	}
	if (!o->vm && !o->socket.path && o->socket.fd < 0) {
		usage(stderr);
		return OUTCOME_USAGE;
	}
	return api_serve(o);
}

static int print_openapi(void)
{
	json_t *document = NULL;
	int rc = api_openapi(&document);

	if (!rc && json_dumpf(document, stdout, JSON_INDENT(2)) && !ferror(stdout))
		rc = -ENOMEM;
	json_decref(document);
	if (!rc)
		putchar('\n'); /* main reports what does not get out */
	if (rc)
		fprintf(stderr, "cloud-hypervisor: --openapi: %s\n", strerror(-rc));
	return rc ? OUTCOME_ERROR : 0;
}

int api_command(int argc, char **argv)
{
	struct args args = { .options = { .socket = { NULL, -1 },
					  .monitor = { NULL, -1 },
					  .reboot = VM_RESTART,
					  .panic = VM_IGNORE,
					  .compatible = true,
					  .vm = json_object() } };
	struct err err = { "" };
	int rc;

	/* Sockets and files are for this user alone. */
	umask(077);
	rc = args.options.vm ? parse(&args, argc, argv, &err) : err_sys(&err, ENOMEM, "options");
	if (rc) {
		fprintf(stderr, "cloud-hypervisor: %s\n", err.text);
		rc = OUTCOME_USAGE;
	} else if (args.help) {
		usage(stdout);
	} else if (args.version) {
		puts("cloud-hypervisor " API_BUILD_VERSION);
	} else if (args.openapi) {
		rc = print_openapi();
	} else {
		rc = serve(&args, &err);
	}
	json_decref(args.options.vm);
	return rc;
}
