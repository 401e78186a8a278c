/* change: the commands whose request has a body: create, resize, resize-disk. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bantam-ctl/ctl.h"
#include "vmm/core/parse.h"

int ctl_put(struct ctl *ctl, const char *request, json_t *body)
{
	char *text = json_dumps(body, JSON_COMPACT);
	struct answer a = { 0 };
	json_t *object;
	int status;

	json_decref(body);
	if (!text)
		return ctl_fail(ctl, CTL_ERROR, "%s", strerror(ENOMEM));
	status = ctl_ask(ctl, "PUT", request, text, &a);
	if (!status && ctl->option[CTL_JSON] && a.body_bytes) {
		puts(a.body);
	} else if (!status && ctl->command->show && a.body_bytes) {
		object = json_loadb(a.body, a.body_bytes, 0, NULL);
		ctl->command->show(object);
		json_decref(object);
	}
	free(a.body);
	free(text);
	return status;
}

int ctl_create(struct ctl *ctl)
{
	const char *path = ctl->arg[0];
	json_error_t error;
	json_t *config;
	FILE *f = !strcmp(path, "-") ? stdin : fopen(path, "re");

	if (!f)
		return ctl_fail(ctl, CTL_ERROR, "%s: %s", path, strerror(errno));
	config = json_loadf(f, JSON_REJECT_DUPLICATES, &error);
	if (f != stdin)
		fclose(f);
	if (!config)
		return ctl_fail(ctl, CTL_ERROR, "%s: line %d: %s", path, error.line, error.text);
	return ctl_put(ctl, "vm.create", config);
}

/* JSON's integers are signed here and in most servers. */
static bool fits(uint64_t value)
{
	return value <= INT64_MAX;
}

int ctl_resize(struct ctl *ctl)
{
	static const struct {
		enum ctl_option option;
		int (*parse)(const char *text, uint64_t *out);
		const char *key, *what;
	} rows[] = {
		{ CTL_CPUS, parse_u64, "desired_vcpus", "--cpus: a number" },
		{ CTL_MEMORY, parse_size, "desired_ram", "--memory: a size, such as 512M" },
		{ CTL_BALLOON, parse_size, "desired_balloon", "--balloon: a size, such as 512M" },
	};
	json_t *body = json_object();

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *text = ctl->option[rows[i].option];
		uint64_t value;

		if (!text)
			continue;
		if (rows[i].parse(text, &value) || !fits(value)) {
			json_decref(body);
			return ctl_fail(ctl, CTL_USAGE, "\"%.80s\" is no value of %s", text,
					rows[i].what);
		}
		json_object_set_new(body, rows[i].key, json_integer((json_int_t)value));
	}
	if (!json_object_size(body)) {
		json_decref(body);
		return ctl_fail(ctl, CTL_USAGE, "needs one of --balloon, --cpus and --memory");
	}
	return ctl_put(ctl, "vm.resize", body);
}

int ctl_resize_disk(struct ctl *ctl)
{
	uint64_t bytes;

	if (parse_size(ctl->arg[1], &bytes) || !fits(bytes))
		return ctl_fail(ctl, CTL_USAGE, "\"%.80s\" is no size, such as 20G", ctl->arg[1]);
	return ctl_put(ctl, "vm.resize-disk",
		       json_pack("{s:s,s:I}", "id", ctl->arg[0], "desired_size",
				 (json_int_t)bytes));
}
