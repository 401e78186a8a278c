/*
 * bantam-seed: builds small disks for a VM's start: for cloud-init, for a service,
 * or a FAT file system of any folder. `bantam seed` runs it.
 *
 * The image appears under its name only when it is complete. This program needs no
 * root and no loop device: devices/backend/fat/fat.h writes the file system.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/fat/fat.h"
#include "tools/bantam-seed/options.h"
#include "tools/bantam-seed/seed.h"
#include "vmm/core/keys.h"
#include "vmm/core/new_file.h"
#include "vmm/core/output.h"
#include "vmm/core/parse.h"
#include "vmm/usage/progress.h"

#define EXIT_FAILED 1
#define EXIT_WRONG_USAGE 2

struct request {
	const char *output, *label, *dir;
	bool force, follow, quiet, sync;
	bool terminal; /* standard error is one */
	uint64_t size_bytes;
	unsigned mode; /* 0: not given */
	/* cloud-init */
	const char *user_data, *meta_data, *network_config, *vendor_data;
	struct cloud cloud;
	/* service */
	const char *binary, *keystore, *launch;
	struct list env, env_files, args;
	bool no_login; /* what was written lets no user in */
	/* texts that the lists point into */
	struct text *held;
	size_t nheld;
};

static int hold(struct request *req, const struct text *text)
{
	struct text *bigger = realloc(req->held, (req->nheld + 1) * sizeof(*bigger));

	if (!bigger)
		return -ENOMEM;
	req->held = bigger;
	req->held[req->nheld++] = *text;
	return 0;
}

static void request_clear(struct request *req)
{
	struct list *lists[] = { &req->cloud.keys, &req->cloud.ips,	 &req->cloud.gateways,
				 &req->cloud.dns,  &req->cloud.packages, &req->cloud.runs,
				 &req->env,	   &req->env_files,	 &req->args };

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		list_clear(lists[i]);
	while (req->nheld)
		text_clear(&req->held[--req->nheld]);
	free(req->held);
}

static int add(struct list *list, const char *value, struct err *err)
{
	return list_add(list, value) ? err_sys(err, ENOMEM, "arguments") : 0;
}

static int add_key(struct request *req, const char *value, struct err *err)
{
	size_t before = req->cloud.keys.n;
	struct text text;
	int rc = cloud_add_key(&req->cloud, value, &text, err);
	char fault[160];

	for (size_t i = before; !rc && i < req->cloud.keys.n; i++) {
		struct err why;

		if (!cloud_key_fault(req->cloud.keys.item[i], fault, sizeof(fault)))
			continue;
		err_set(&why, EINVAL, "--ssh-key: key %zu %s; sshd will refuse it", i + 1, fault);
		fprintf(stderr, "bantam: seed: warning: %s\n", why.text);
	}
	if (!text.data)
		return rc;
	if (hold(req, &text)) {
		text_clear(&text);
		return err_sys(err, ENOMEM, "%s", value);
	}
	return rc;
}

static int set_size(struct request *req, const char *value, struct err *err)
{
	int rc = parse_size(value, &req->size_bytes);

	if (rc)
		return err_set(err, -rc, "--size %.40s: not a size; write it like 512M or 2G",
			       value);
	return 0;
}

/* Handles one option; value is NULL if it has none. */
static int take(struct request *req, const struct usage_option *option, const char *value,
		struct err *err)
{
	const int opt = option->id;
	const struct {
		int opt;
		const char **to;
	} texts[] = {
		{ OPT_OUTPUT, &req->output },
		{ OPT_LABEL, &req->label },
		{ OPT_USER_DATA, &req->user_data },
		{ OPT_META_DATA, &req->meta_data },
		{ OPT_NETWORK_CONFIG, &req->network_config },
		{ OPT_VENDOR_DATA, &req->vendor_data },
		{ OPT_HOSTNAME, &req->cloud.hostname },
		{ OPT_USER, &req->cloud.user },
		{ OPT_PASSWORD, &req->cloud.password },
		{ OPT_MAC, &req->cloud.mac },
		{ OPT_INTERFACE, &req->cloud.interface },
		{ OPT_INSTANCE_ID, &req->cloud.instance_id },
		{ OPT_BINARY, &req->binary },
		{ OPT_KEYSTORE, &req->keystore },
		{ OPT_LAUNCH, &req->launch },
	};
	const struct {
		int opt;
		struct list *to;
	} lists[] = {
		{ OPT_IP, &req->cloud.ips },	   { OPT_GATEWAY, &req->cloud.gateways },
		{ OPT_DNS, &req->cloud.dns },	   { OPT_PACKAGE, &req->cloud.packages },
		{ OPT_RUN, &req->cloud.runs },	   { OPT_ENV, &req->env },
		{ OPT_ENV_FILE, &req->env_files }, { OPT_ARG, &req->args },
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (texts[i].opt != opt)
			continue;
		if (*texts[i].to)
			return err_set(err, EINVAL, "--%s: given twice", option->name);
		*texts[i].to = value;
		return 0;
	}
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		if (lists[i].opt == opt)
			return add(lists[i].to, value, err);
	if (opt == OPT_SSH_KEY)
		return add_key(req, value, err);
	if (opt == OPT_SIZE)
		return set_size(req, value, err);
	if (opt == OPT_MODE && parse_mode(value, &req->mode))
		return err_set(err, EINVAL, "--mode %.40s: must be a file's mode, such as 640",
			       value);
	if (opt == OPT_SYNC && parse_bool(value, &req->sync))
		return err_set(err, EINVAL, "--sync %.40s: must be on or off", value);
	req->force |= opt == OPT_FORCE;
	req->follow |= opt == OPT_FOLLOW;
	req->quiet |= opt == OPT_QUIET;
	return 0;
}

/* --- the command line ----------------------------------------------------------- */

/* Returns 0, -errno, or 1 if the user asks for help. */
static int parse(struct request *req, int argc, char **argv, const struct usage_option *options,
		 bool wants_dir, struct err *err)
{
	struct usage_words words = {
		.argc = argc - 1, .argv = argv + 1, .options = options, .see = "bantam seed --help"
	};
	const struct usage_option *option;
	const char *value;
	int rc;

	while ((rc = usage_next(&words, &option, &value, err)) > 0) {
		if (option && option->id == OPT_HELP)
			return 1;
		if (option)
			rc = take(req, option, value, err);
		else if (wants_dir && !req->dir)
			req->dir = value;
		else
			rc = err_set(err, EINVAL, "\"%.60s\": one argument too many; see %s", value,
				     words.see);
		if (rc < 0)
			return rc;
	}
	if (rc)
		return rc;
	if (wants_dir && !req->dir)
		return err_set(err, EINVAL, "the folder DIR is missing; see %s", words.see);
	if (!req->output)
		return err_set(err, EINVAL, "-o FILE is missing: the image to make");
	return 0;
}

/* --- contents of each kind ----------------------------------------------------- */

static int add_document(struct fat *fat, const char *name, const char *path, struct text *text,
			struct err *err)
{
	static const char *const cloud[] = { [CLOUD_USER_DATA] = "user-data",
					     [CLOUD_META_DATA] = "meta-data",
					     [CLOUD_NETWORK_CONFIG] = "network-config",
					     [CLOUD_VENDOR_DATA] = "vendor-data" };
	int rc = path ? text_load(path, text, err) : 0;
	struct err why;

	for (unsigned i = 0; path && !rc && i < sizeof(cloud) / sizeof(cloud[0]); i++) {
		char fault[200];

		if (strcmp(name, cloud[i]) || !cloud_document_fault(i, text, fault, sizeof(fault)))
			continue;
		err_set(&why, EINVAL, "--%s %.200s %s; cloud-init will ignore it", name, path,
			fault);
		fprintf(stderr, "bantam: seed: warning: %s\n", why.text);
	}
	if (!rc && text->data)
		rc = fat_add_data(fat, name, text->data, text->len, err);
	return rc;
}

static int cloud_conflicts(const struct request *req, struct err *err)
{
	const struct cloud *c = &req->cloud;

	if (req->user_data && (c->user || c->password || c->keys.n || c->packages.n || c->runs.n))
		return err_set(err, EINVAL,
			       "--user-data is the whole document: --user, --ssh-key, "
			       "--password, --package and --run belong into it");
	if (req->network_config &&
	    (c->ips.n || c->gateways.n || c->dns.n || c->mac || c->interface))
		return err_set(err, EINVAL,
			       "--network-config is the whole document: --ip, --gateway, "
			       "--dns, --mac and --interface belong into it");
	if (req->meta_data && c->instance_id)
		return err_set(err, EINVAL,
			       "--meta-data is the whole document: --instance-id belongs into it");
	if (req->meta_data && req->user_data && c->hostname)
		return err_set(err, EINVAL,
			       "--hostname belongs into --user-data or --meta-data, which "
			       "are given");
	return 0;
}

static int fill_cloud(struct request *req, struct fat *fat, struct err *err)
{
	struct text user = { NULL, 0 }, meta = { NULL, 0 }, network = { NULL, 0 };
	struct text vendor = { NULL, 0 };
	int rc = 0;

	if (!req->user_data)
		rc = cloud_user_data(&req->cloud, &user, err);
	if (!rc)
		rc = add_document(fat, "user-data", req->user_data, &user, err);
	if (!rc && !req->network_config)
		rc = cloud_network_config(&req->cloud, &network, err);
	if (!rc)
		rc = add_document(fat, "network-config", req->network_config, &network, err);
	if (!rc)
		rc = add_document(fat, "vendor-data", req->vendor_data, &vendor, err);
	if (!rc && !req->meta_data)
		rc = cloud_meta_data(&req->cloud, &user, &network, &vendor, &meta, err);
	if (!rc)
		rc = add_document(fat, "meta-data", req->meta_data, &meta, err);
	req->no_login = !rc && !cloud_lets_in(&user, &meta, &vendor);
	text_clear(&user);
	text_clear(&meta);
	text_clear(&network);
	text_clear(&vendor);
	return rc;
}

/* Lines of files come first, so that --env overrides them. */
static int gather_env(struct request *req, struct list *env, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < req->env_files.n; i++) {
		const char *path = req->env_files.item[i];
		struct text text;

		rc = text_load(path, &text, err);
		if (!rc && hold(req, &text)) {
			text_clear(&text);
			rc = err_sys(err, ENOMEM, "%s", path);
		}
		if (!rc)
			rc = launch_parse_env(path, &req->held[req->nheld - 1], env, err);
	}
	for (size_t i = 0; !rc && i < req->env.n; i++) {
		rc = launch_check_env(req->env.item[i], err);
		if (!rc && list_add(env, req->env.item[i]))
			rc = err_sys(err, ENOMEM, "--env");
	}
	return rc;
}

static int fill_service(struct request *req, struct fat *fat, struct err *err)
{
	struct text script = { NULL, 0 };
	struct list env = { NULL, 0 };
	int rc = 0;

	if (!req->launch) {
		rc = gather_env(req, &env, err);
		if (!rc)
			rc = launch_script(&env, &req->args, &script, err);
	}
	if (!rc)
		rc = add_document(fat, "launch", req->launch, &script, err);
	if (!rc)
		rc = fat_add_file(fat, "service", req->binary, err);
	if (!rc && req->keystore)
		rc = fat_add_tree(fat, "keystore", req->keystore, err);
	text_clear(&script);
	list_clear(&env);
	return rc;
}

static int fill_fat(struct request *req, struct fat *fat, struct err *err)
{
	return fat_add_tree(fat, NULL, req->dir, err);
}

static int service_conflicts(const struct request *req, struct err *err)
{
	if (!req->binary)
		return err_set(err, EINVAL, "--binary FILE is missing: the service");
	if (req->launch && (req->env.n || req->env_files.n || req->args.n))
		return err_set(err, EINVAL,
			       "--launch is the whole script: --env, --env-file and --arg "
			       "belong into it");
	return 0;
}

static int check_cloud(const struct request *req, struct err *err)
{
	int rc = cloud_conflicts(req, err);

	return rc ? rc : cloud_check(&req->cloud, err);
}

static int check_fat(const struct request *req, struct err *err)
{
	return 0;
}

/* --- the image ----------------------------------------------------------------- */

static const struct kind {
	const char *name, *label;
	bool wants_dir;
	enum fat_times times;
	int64_t latest_s;
	int (*check)(const struct request *req, struct err *err);
	int (*fill)(struct request *req, struct fat *fat, struct err *err);
} kinds[] = {
	{ "cloud-init", "CIDATA", false, FAT_TIMES_ONE, FAT_EPOCH_S, check_cloud, fill_cloud },
	{ "service", "SERVICEDISK", false, FAT_TIMES_ONE, FAT_EPOCH_S, service_conflicts,
	  fill_service },
	{ "fat", NULL, true, FAT_TIMES_KEPT, FAT_LAST_S, check_fat, fill_fat },
};
#define NKINDS (sizeof(kinds) / sizeof(kinds[0]))

static void say(const struct request *req, const char *label, const struct fat *fat)
{
	struct fat_info info;
	char size[32];

	fat_get_info(fat, &info);
	parse_size_text(info.size_bytes, size, sizeof(size));
	printf("%s: FAT%u, %s%s%s, %u file%s", req->output, info.bits, size,
	       label ? ", label " : "", label ? label : "", info.files, info.files == 1 ? "" : "s");
	if (info.folders)
		printf(" in %u folder%s", info.folders, info.folders == 1 ? "" : "s");
	putchar('\n');
}

static void warn_of_login(const struct request *req)
{
	struct err text;

	if (req->user_data)
		err_set(&text, EINVAL,
			"--user-data %.200s: has neither ssh_authorized_keys nor a password: only an "
			"account that the image already has can log in",
			req->user_data);
	else
		err_set(&text, EINVAL, "no --ssh-key and no --password: %s%s%s can log in",
			req->cloud.user ? "" : "only an account that the image already has",
			req->cloud.user ? "not even --user " : "",
			req->cloud.user ? req->cloud.user : "");
	fprintf(stderr, "bantam: seed: warning: %s\n", text.text);
}

static void on_progress(void *opaque, uint64_t done_bytes)
{
	progress_tick(opaque, done_bytes, done_bytes);
}

/* With a bar on a terminal if it takes long. */
static int write_image(const struct request *req, struct fat *fat, int fd,
		       struct progress *progress, struct err *err)
{
	struct fat_info info;
	int rc;

	fat_get_info(fat, &info);
	progress_start(progress, req->terminal && !req->quiet ? "on" : "off", info.data_bytes);
	rc = fat_write(fat, fd, req->output, err);
	progress_end(progress);
	return rc;
}

static int make(struct request *req, const struct kind *kind, struct err *err)
{
	struct progress progress;
	struct fat_options options = { .label = req->label ? req->label : kind->label,
				       .min_bytes = req->size_bytes,
				       .follow = req->follow,
				       .times = kind->times,
				       .progress = on_progress,
				       .opaque = &progress };
	struct new_file file = { .fd = -1 };
	struct fat *fat = NULL;
	int rc = fat_latest(kind->latest_s, &options.latest_s, err);

	if (!rc)
		rc = fat_create(&options, &fat, err);
	if (!rc)
		rc = new_file_look(&file, req->output, req->force, err);
	if (!rc && file.had)
		fat_forbid(fat, &file.old);
	if (!rc)
		rc = kind->fill(req, fat, err);
	if (!rc)
		rc = fat_layout(fat, err);
	/* Create the new file only after the names are gathered: it may be in the folder itself. */
	if (!rc)
		rc = new_file_open(&file, req->output, req->force, err);
	if (!rc && req->mode && fchmod(file.fd, req->mode))
		rc = err_sys(err, errno, "%s: --mode", req->output);
	if (!rc)
		rc = write_image(req, fat, file.fd, &progress, err);
	if (!rc)
		rc = new_file_finish(&file, req->sync, err);
	if (!rc && !req->quiet)
		say(req, options.label, fat);
	if (!rc && !req->quiet && req->no_login)
		warn_of_login(req);
	new_file_abandon(&file);
	fat_destroy(fat);
	return rc;
}

static int fail(const char *text, int status)
{
	fprintf(stderr, "bantam: seed: %s\n", text);
	return status;
}

static int no_kind(const char *word, struct err *err)
{
	const char *names[NKINDS];

	for (size_t i = 0; i < NKINDS; i++)
		names[i] = kinds[i].name;
	return keys_no_word("kind of seed (cloud-init, service or fat)", word, names, NKINDS,
			    "bantam seed --help", err);
}

static int command(int argc, char **argv)
{
	const struct kind *kind = NULL;
	struct request req = { .sync = true };
	struct usage_option options[USAGE_OPTIONS_MAX];
	struct err err = { "" };
	int rc;

	if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
	    !strcmp(argv[1], "help")) {
		seed_help(argc < 2 ? stderr : stdout);
		return argc < 2 ? EXIT_WRONG_USAGE : 0;
	}
	for (size_t i = 0; i < NKINDS; i++)
		if (!strcmp(argv[1], kinds[i].name))
			kind = &kinds[i];
	if (!kind) {
		no_kind(argv[1], &err);
		return fail(err.text, EXIT_WRONG_USAGE);
	}
	/* Hitting RLIMIT_FSIZE (ulimit -f) is an error, not a reason to die. */
	signal(SIGXFSZ, SIG_IGN);
	new_file_on_signals();
	seed_options(kind->name, options);
	rc = parse(&req, argc - 1, argv + 1, options, kind->wants_dir, &err);
	if (rc == 1) {
		seed_help(stdout);
		request_clear(&req);
		return 0;
	}
	if (!rc) {
		req.terminal = isatty(STDERR_FILENO); /* a question that the filter refuses */
		seed_confine(req.output);
		rc = kind->check(&req, &err);
	}
	if (rc) {
		request_clear(&req);
		return fail(err.text, EXIT_WRONG_USAGE);
	}
	rc = make(&req, kind, &err);
	request_clear(&req);
	return rc ? fail(err.text, EXIT_FAILED) : 0;
}

int main(int argc, char **argv)
{
	output_begin();
	return output_end(command(argc, argv), EXIT_FAILED);
}
