/*
 * plan: see plan.h. The tables of keys say what a value needs (KEY_FDS, KEY_NETWORK, KEY_INTERFACE, KEY_READS …), so that this
 * file names no device.
 */
#include "vmm/confine/plan.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <strings.h>

/* Keeps the number at the beginning of text, if there is one. */
static int keep_number(struct confine_plan *plan, const char *text, struct err *err)
{
	char *end;
	long fd = strtol(text, &end, 10);

	/* What is not a descriptor is an error of the device, which tells it better. */
	return end == text || fd < 0 || fd > INT_MAX ? 0 : confine_keep_fd(plan, (int)fd, err);
}

int confine_plan_path(struct confine_plan *plan, const char *path, struct err *err)
{
	static const char *const folders[] = { "/dev/fd/", "/proc/self/fd/",
					       "/proc/thread-self/fd/" };

	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		if (!strncmp(path, folders[i], strlen(folders[i])))
			return keep_number(plan, path + strlen(folders[i]), err);
	return 0;
}

/* "3:4:5", "fd:3", or a path, which has no number there. */
static int keep_fds(struct confine_plan *plan, const char *text, struct err *err)
{
	int rc = 0;

	for (const char *at = text; !rc && at; at = strchr(at, ':'))
		rc = keep_number(plan, *at == ':' ? ++at : at, err);
	return rc;
}

/* "auto" and another file's name mean a raw image: see store_format_of_name. */
static bool names_files(const struct keyvals *kv, const char *path)
{
	const char *format = keys_text_of(kv, "format"), *suffix = strrchr(path, '.');

	if (format && strcmp(format, "auto") != 0)
		return strcmp(format, "raw") != 0;
	return suffix && !strncasecmp(suffix, ".qcow", 5);
}

/* A key's path, or a line of its list. */
static int add_path(struct confine_plan *plan, const struct keyvals *kv, const struct key *key,
		    const char *path, struct err *err)
{
	bool makes = keys_find(kv->table, "create") < 0 || keys_text_of(kv, "create");
	bool read_only = keys_num_of(kv, "ro") || keys_num_of(kv, "readonly");
	unsigned access = 0;
	int rc = confine_plan_path(plan, path, err);

	if (key->flags & KEY_READS)
		access |= CONFINE_READ;
	if (key->flags & KEY_WRITES && !read_only)
		access |= CONFINE_WRITE;
	if (key->flags & KEY_MAKES && makes)
		access |= CONFINE_MAKE;
	if (key->flags & KEY_AROUND && names_files(kv, path))
		access |= CONFINE_AROUND;
	return rc || !access ? rc :
			       confine_add_path(plan, path,
						strcspn(path, key->flags & KEY_LIST ? "\n" : ""),
						access, err);
}

static int add_key(struct confine_plan *plan, const struct keyvals *kv, unsigned i, struct err *err)
{
	const struct key *key = &kv->table[i];
	const char *text = keys_text(kv, i);
	int rc = 0;

	if (!text)
		return 0;
	if (key->kind == KEY_TEXT || keys_num(kv, i)) {
		plan->host_network |= !!(key->flags & KEY_NETWORK);
		plan->interfaces |= !!(key->flags & KEY_INTERFACE);
	}
	if (key->flags & KEY_FDS)
		rc = keep_fds(plan, text, err);
	if (key->flags & KEY_NAME && strncmp(text, "fd:", 3)) {
		if (plan->nnames == CONFINE_NAMES_MAX)
			return err_set(err, E2BIG, "options name more than %d sockets and links",
				       CONFINE_NAMES_MAX);
		plan->name[plan->nnames++] = text;
	}
	/* A list of paths has one in each line. */
	for (const char *line = text; !rc && line && key->kind == KEY_PATH;
	     line = strchr(line, '\n'))
		rc = add_path(plan, kv, key, *line == '\n' ? ++line : line, err);
	return rc;
}

int confine_plan_keys(struct confine_plan *plan, const struct keyvals *kv, struct err *err)
{
	int rc = 0;

	for (unsigned i = 0; !rc && kv->table[i].name; i++)
		rc = add_key(plan, kv, i, err);
	return rc;
}

/* Texts of the config, which lives as long as the process. */
static void plan_jail(struct confine_jail *jail, const struct config *config)
{
	const struct keyvals *vm = &config->vm;

	jail->uid = keys_text(vm, CONFIG_UID);
	jail->gid = keys_text(vm, CONFIG_GID);
	jail->chroot = keys_text(vm, CONFIG_CHROOT);
	jail->netns = keys_text(vm, CONFIG_NETNS);
	jail->cgroup = keys_text(vm, CONFIG_CGROUP);
	jail->limit = keys_text(vm, CONFIG_LIMIT);
	jail->dry_run = keys_num(vm, CONFIG_DRY_RUN);
	for (unsigned i = 0; i < config->ndevices && jail->ndisks < CONFINE_DISKS_MAX; i++) {
		const struct config_device *d = &config->device[i];
		const char *path = strcmp(d->type->option, "--disk") != 0 ?
					   NULL :
					   keys_text_of(&d->kv, "path");

		if (path)
			jail->disk[jail->ndisks++] = path;
	}
}

static bool has_memory_shared(const struct config_device *d)
{
	return d->type->memory && d->type->memory(&d->kv) != MEMORY_ANY;
}

/* A path that cannot be looked at counts as one. Who may change the path is trusted. */
static bool is_block(const struct config_device *d)
{
	const char *path = keys_text_of(&d->kv, "path");
	struct stat st;

	return path && (stat(path, &st) || S_ISBLK(st.st_mode));
}

unsigned confine_plan_lacks(const struct config *config)
{
	unsigned has = 0;

	for (unsigned i = 0; i < config->ndevices; i++) {
		const struct config_device *d = &config->device[i];

		has |= d->type->calls;
		if (has_memory_shared(d))
			has |= CALLS_DAEMON;
		/* Below another root the path is another file's. */
		if (is_block(d) || keys_has(&config->vm, CONFIG_CHROOT))
			has |= CALLS_BLOCK;
	}
	return CALLS_ALL & ~has;
}

int confine_plan_config(struct confine_plan *plan, const struct config *config, struct err *err)
{
	const char *sink;
	int rc;

	plan->mode = (enum confine_mode)keys_num(&config->vm, CONFIG_CONFINE);
	plan_jail(&plan->jail, config);
	/* The helper that reads the first disk; the other one serves a user network. */
	plan->helper[0] = keys_has(&config->vm, CONFIG_KERNEL) ? NULL : "bantam-fs";
	rc = confine_plan_keys(plan, &config->vm, err);
	for (unsigned i = 0; !rc && i < config->ndevices; i++) {
		if (keys_num_of(&config->device[i].kv, "user"))
			plan->helper[1] = "bantam-net-user";
		sink = keys_text_of(&config->device[i].kv, "sink");
		plan->ptys |= sink && !strcmp(sink, "pty");
		plan->shared |= has_memory_shared(&config->device[i]);
		rc = confine_plan_keys(plan, &config->device[i].kv, err);
	}
	return rc;
}
