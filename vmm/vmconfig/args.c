/*
 * vmconfig/args: the command line of the compatible face, to the JSON that a client would send.
 *
 * The options are rows of the tables, too: those of a VmConfig ("--disk" is an item of disks, for
 * "--cpus" the object cpus), those of its payload (--kernel), and the memory's zones. What a value
 * means beyond its form is checked later, by vmconfig_normalise, as a client's request is.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/parse.h"
#include "vmm/usage/usage.h"
#include "vmm/vmconfig/words.h"

/* Options of upstream that are not in the tables, or whose fields are refused. */
static const char not_ours[][20] = {
	"pmem",	     "device",	      "user-device", "vdpa",	"tpm",	   "numa",
	"restore",   "gdb",	      "igvm",	     "sgx-epc", "ivshmem", "generic-vhost-user",
	"host-data", "fw-cfg-config",
};

/* An option: its row, and the object in the VmConfig that has the row's key. */
struct option {
	const struct vmconfig_field *field;
	char parent[8]; /* "": the VmConfig itself */
};

static const char *cli_name(const struct vmconfig_field *f)
{
	return *f->cli ? f->cli : f->key;
}

static bool find_in(enum vmconfig_object object, const char *parent, const char *name,
		    struct option *out)
{
	for (const struct vmconfig_field *f = vmconfig_fields(object); f->kind != KIND_NONE; f++) {
		if (strcmp(cli_name(f), name) != 0)
			continue;
		out->field = f;
		snprintf(out->parent, sizeof(out->parent), "%s", parent);
		return true;
	}
	return false;
}

static bool find_option(const char *name, struct option *out)
{
	return strcmp(name, "-") != 0 &&
	       (find_in(VMCONFIG_VM, "", name, out) ||
		find_in(VMCONFIG_PAYLOAD, "payload", name, out) ||
		(!strcmp(name, "memory-zone") && find_in(VMCONFIG_MEMORY, "memory", name, out)));
}

/* --- keys ------------------------------------------------------------------------------------ */

/*
 * Finds the key of an object. A limiter's numbers are keys of the object that has the limiter:
 * "bw_size" is rate_limiter_config.bandwidth.size. path gets the keys on the way.
 */
static const struct vmconfig_field *find_key(enum vmconfig_object object, const char *key,
					     const char *path[3])
{
	for (const struct vmconfig_field *f = vmconfig_fields(object); f->kind != KIND_NONE; f++) {
		const struct vmconfig_field *b = vmconfig_fields(VMCONFIG_LIMITER);

		path[0] = f->key;
		path[1] = path[2] = NULL;
		if (!strcmp(cli_name(f), key) && strcmp(key, "-") != 0)
			return f;
		if (f->object != VMCONFIG_LIMITER || f->kind != KIND_OBJECT)
			continue;
		for (; b->kind != KIND_NONE; b++) {
			size_t n = strlen(b->cli);
			const struct vmconfig_field *found;

			path[1] = b->key;
			if (strncmp(key, b->cli, n) != 0 || key[n] != '_')
				continue;
			found = vmconfig_find(VMCONFIG_BUCKET, key + n + 1);
			path[2] = found ? found->key : NULL;
			if (found)
				return found;
		}
	}
	return NULL;
}

static int unknown_key(const char *what, enum vmconfig_object object, const char *key,
		       struct err *err)
{
	const char *names[64], *near;
	size_t n = 0;

	for (const struct vmconfig_field *f = vmconfig_fields(object); f->kind != KIND_NONE; f++)
		if (n < sizeof(names) / sizeof(names[0]) && strcmp(f->cli, "-") != 0)
			names[n++] = cli_name(f);
	near = parse_nearest(key, names, n);
	return err_set(err, EINVAL, "%s: unknown key \"%.60s\"%s%s%s", what, key,
		       near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

/* Sets the value at the path; takes the reference. */
static int set_path(json_t *object, const char *const path[3], json_t *value)
{
	unsigned last = path[1] ? 2 : 0;

	for (unsigned i = 0; i < last; i++) {
		json_t *inside = json_object_get(object, path[i]);

		if (!inside) {
			inside = json_object();
			json_object_set_new(object, path[i], inside);
		}
		object = inside;
	}
	if (json_object_get(object, path[last])) {
		json_decref(value);
		return -EEXIST;
	}
	return json_object_set_new(object, path[last], value) ? -ENOMEM : 0;
}

/* The key that a first bare word is the value of. */
static const struct vmconfig_field *bare_key(enum vmconfig_object object)
{
	for (const struct vmconfig_field *f = vmconfig_fields(object); f->kind != KIND_NONE; f++)
		if (f->flags & FIELD_BARE)
			return f;
	return NULL;
}

static int set_key(json_t *out, const char *option, enum vmconfig_object object, const char *key,
		   const char *value, struct err *err)
{
	const char *path[3];
	const struct vmconfig_field *f = find_key(object, key, path);
	char what[96];
	struct vmconfig_word word = { what, value };
	json_t *json;
	int rc;

	snprintf(what, sizeof(what), "--%s", option);
	if (!f)
		return unknown_key(what, object, key, err);
	snprintf(what, sizeof(what), "--%s: %s", option, key);
	if (!*value)
		return 0; /* "tap=" is not given */
	rc = vmconfig_word(&word, f, &json, err);
	if (rc)
		return rc;
	rc = set_path(out, path, json);
	return rc ? err_set(err, -rc == EEXIST ? EINVAL : -rc, "%s: is given twice", what) : 0;
}

/* "key=value", a flag, or the first word of an option that needs no key. */
static int set_part(json_t *out, const char *option, enum vmconfig_object object, char *part,
		    bool first, struct err *err)
{
	const struct vmconfig_field *bare = bare_key(object), *f;
	char *equals = strchr(part, '=');
	const char *path[3];

	if (equals) {
		*equals = 0;
		return set_key(out, option, object, part, equals + 1, err);
	}
	f = find_key(object, part, path);
	if (f && f->kind == KIND_BOOL)
		return set_key(out, option, object, part, "on", err);
	if (f)
		return err_set(err, EINVAL, "--%s: %s: needs a value", option, part);
	if (first && bare)
		return set_key(out, option, object, cli_name(bare), part, err);
	return err_set(err, EINVAL, "--%s: \"%.100s\": write it as KEY=VALUE", option, part);
}

/* "--serial file=X" says the mode, too. */
static int set_mode(json_t *out, enum vmconfig_object object)
{
	const char *mode = json_object_get(out, "file")	  ? "File" :
			   json_object_get(out, "socket") ? "Socket" :
							    NULL;
	const struct vmconfig_field *f = vmconfig_find(object, "mode");

	if (!f || !mode || json_object_get(out, "mode"))
		return 0;
	return json_object_set_new(out, "mode", json_string(mode)) ? -ENOMEM : 0;
}

static int parse_object(const char *option, enum vmconfig_object object, const char *text,
			json_t **out, struct err *err)
{
	const char *rest = *text ? text : NULL;
	bool first = true;
	char *part;
	int rc = 0;

	*out = json_object();
	while (!rc && (part = vmconfig_next_part(&rest, ','))) {
		rc = set_part(*out, option, object, part, first, err);
		free(part);
		first = false;
	}
	if (!rc && set_mode(*out, object))
		rc = err_sys(err, ENOMEM, "--%s", option);
	return rc;
}

/* --- options ---------------------------------------------------------------------------------- */

/* One value of an option. The caller owns *out, also after an error. */
static int read_value(const char *name, const struct vmconfig_field *f, const char *text,
		      json_t **out, struct err *err)
{
	char what[40];
	struct vmconfig_word word = { what, text };

	snprintf(what, sizeof(what), "--%s", name);
	*out = NULL;
	switch ((enum vmconfig_kind)f->kind) {
	case KIND_OBJECT:
	case KIND_OBJECTS:
		return parse_object(name, (enum vmconfig_object)f->object, text, out, err);
	case KIND_BOOL:
		return vmconfig_word(&word, f, out, err);
	default: /* a path or a command line, with its commas, quotes and brackets */
		*out = json_string(text);
		return *out ? 0 : err_set(err, EINVAL, "%s: must be UTF-8", what);
	}
}

/* An object: its keys go to those that are there, which --memory-zone may have made. */
static int merge(const char *name, json_t *there, json_t *value, struct err *err)
{
	if (json_object_size(there) != 1 || !json_object_get(there, "zones"))
		return err_set(err, EINVAL, "--%s: is given twice", name);
	return json_object_update(there, value) ? err_sys(err, ENOMEM, "--%s", name) : 0;
}

static int put_value(json_t *parent, const char *name, const struct vmconfig_field *f,
		     json_t *value, struct err *err)
{
	json_t *there = json_object_get(parent, f->key);
	bool list = f->kind == KIND_OBJECTS || f->kind == KIND_LIST;

	if (there && !list)
		return merge(name, there, value, err);
	if (!there && list) {
		there = json_array();
		json_object_set_new(parent, f->key, there);
	}
	if (list ? json_array_append(there, value) : json_object_set(parent, f->key, value))
		return err_sys(err, ENOMEM, "--%s", name);
	return 0;
}

static int add_value(json_t *vm, const char *name, const struct option *o, const char *text,
		     struct err *err)
{
	json_t *parent = *o->parent ? json_object_get(vm, o->parent) : vm, *value;
	int rc = read_value(name, o->field, text, &value, err);

	if (!rc && !parent) {
		parent = json_object();
		json_object_set_new(vm, o->parent, parent);
	}
	if (!rc)
		rc = put_value(parent, name, o->field, value, err);
	json_decref(value);
	return rc;
}

static int refuse_known(const char *name, struct err *err)
{
	for (size_t i = 0; i < sizeof(not_ours) / sizeof(not_ours[0]); i++)
		if (!strcmp(not_ours[i], name))
			return err_set(err, ENOTSUP, "--%s: bantam does not have this option",
				       name);
	return 0;
}

static bool is_option(const char *word)
{
	return word[0] == '-' && word[1];
}

int vmconfig_take_option(json_t *vm, int argc, char **argv, int *at, struct err *err)
{
	const char *word = argv[*at], *value;
	struct option o;
	char name[32];
	size_t len;
	int rc;

	if (strncmp(word, "--", 2) != 0)
		return 0;
	len = strcspn(word + 2, "=");
	value = word[2 + len] ? word + 3 + len : NULL;
	if (len >= sizeof(name))
		return 0;
	memcpy(name, word + 2, len);
	name[len] = 0;
	rc = refuse_known(name, err);
	if (rc)
		return rc;
	if (!find_option(name, &o))
		return 0;
	++*at;
	if (o.field->kind == KIND_BOOL) {
		rc = add_value(vm, name, &o, value ? value : "on", err);
		return rc ? rc : 1;
	}
	if (!value && (*at == argc || (is_option(argv[*at]) && o.field->kind != KIND_TEXT)))
		return err_set(err, EINVAL, "--%s: needs a value", name);
	rc = add_value(vm, name, &o, value ? value : argv[(*at)++], err);
	while (!rc && *at < argc && !is_option(argv[*at]) &&
	       (o.field->kind == KIND_OBJECTS || o.field->kind == KIND_LIST))
		rc = add_value(vm, name, &o, argv[(*at)++], err);
	return rc ? rc : 1;
}

unsigned vmconfig_option_fds(const json_t *vm, int *fd, unsigned max)
{
	json_t *net, *item;
	unsigned n = 0;
	size_t i, k;

	json_array_foreach(json_object_get(vm, "net"), i, net)
	{
		json_array_foreach(json_object_get(net, "fds"), k, item)
		{
			if (n < max)
				fd[n++] = (int)json_integer_value(item);
		}
	}
	return n;
}

/* --- help --------------------------------------------------------------------------------------- */

static void help_line(FILE *out, const char *before, const char *key, const char *after,
		      const char *help)
{
	int indent = (int)strspn(before, " ");
	char lead[96];

	snprintf(lead, sizeof(lead), "%s%s%s", before + indent, key, after);
	usage_row(out, indent, USAGE_HELP_AT, lead, help, NULL);
}

static const char *value_help(const struct vmconfig_field *f)
{
	switch ((enum vmconfig_kind)f->kind) {
	case KIND_BOOL:
		return "on|off";
	case KIND_ENUM:
		return f->choices;
	case KIND_UINT:
		return "N";
	case KIND_BYTES:
		return "SIZE";
	case KIND_PATH:
		return "FILE";
	case KIND_OBJECTS:
	case KIND_UINTS:
	case KIND_TEXTS:
	case KIND_LIST:
		return "[…]";
	default:
		return "TEXT";
	}
}

static void help_key(FILE *out, const struct vmconfig_field *f)
{
	char after[64];
	bool bare = f->flags & FIELD_BARE;
	size_t n;

	n = (size_t)snprintf(after, sizeof(after), "=%s%s", bare ? "]" : "", value_help(f));
	for (size_t i = 0; f->kind == KIND_ENUM && i < n; i++)
		after[i] = (char)tolower((unsigned char)after[i]);
	help_line(out, bare ? "      [" : "      ", cli_name(f), after, f->help);
}

static bool shown(const struct vmconfig_field *f)
{
	return strcmp(f->cli, "-") != 0 && !(f->flags & (FIELD_IGNORED | FIELD_REFUSED));
}

static void help_keys(FILE *out, enum vmconfig_object object)
{
	const struct vmconfig_field *b, *k;
	char before[32];

	for (const struct vmconfig_field *f = vmconfig_fields(object); f->kind != KIND_NONE; f++) {
		if (shown(f) && f->object != VMCONFIG_ZONE)
			help_key(out, f);
		if (f->object != VMCONFIG_LIMITER || f->kind != KIND_OBJECT)
			continue;
		for (b = vmconfig_fields(VMCONFIG_LIMITER); b->kind != KIND_NONE; b++) {
			snprintf(before, sizeof(before), "      %.8s_", b->cli);
			for (k = vmconfig_fields(VMCONFIG_BUCKET); k->kind != KIND_NONE; k++)
				help_line(out, before, k->key, "=N", k->help);
		}
	}
}

static void help_table(FILE *out, enum vmconfig_object object)
{
	for (const struct vmconfig_field *f = vmconfig_fields(object); f->kind != KIND_NONE; f++) {
		bool keys = f->kind == KIND_OBJECT || f->kind == KIND_OBJECTS;

		if (!shown(f))
			continue;
		help_line(out, "  --", cli_name(f),
			  keys		       ? " KEY=VALUE,…" :
			  f->kind == KIND_BOOL ? "" :
			  f->kind == KIND_TEXT ? " TEXT" :
						 " FILE",
			  f->help);
		if (keys)
			help_keys(out, (enum vmconfig_object)f->object);
		if (f->object == VMCONFIG_MEMORY && keys) {
			help_line(out, "  --", "memory-zone", " KEY=VALUE,…",
				  "a part of the memory");
			help_keys(out, VMCONFIG_ZONE);
		}
	}
}

void vmconfig_options_help(FILE *out)
{
	help_table(out, VMCONFIG_PAYLOAD);
	help_table(out, VMCONFIG_VM);
}

size_t vmconfig_option_names(const char **names, size_t max)
{
	static const enum vmconfig_object objects[] = { VMCONFIG_PAYLOAD, VMCONFIG_VM };
	size_t n = 0;

	for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++)
		for (const struct vmconfig_field *f = vmconfig_fields(objects[i]);
		     f->kind != KIND_NONE && n < max; f++)
			if (shown(f))
				names[n++] = cli_name(f);
	return n;
}
