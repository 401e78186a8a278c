/*
 * vmconfig/words: values as the command line writes them, to JSON.
 *
 * A comma separates, unless it is in brackets or in quotes. The same tables as for JSON say what a
 * word means; an object as one value is its fields in the table's order, with ":" between them
 * (topology=2:4:1:1), and in a list with "@" (affinity=[0@[1-3],1@[4]]).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/parse.h"
#include "vmm/vmconfig/words.h"

#define RANGE_MAX 8192

static int wrong(const struct vmconfig_word *w, struct err *err, const char *want)
{
	return err_set(err, EINVAL, "%s: %.100s: must be %s", w->what, w->text, want);
}

/* Returns the end of the first part of text, which sep or the end of text follows. */
static const char *part_end(const char *text, char sep)
{
	bool quoted = false;
	int depth = 0;

	for (; *text; text++) {
		if (*text == '"')
			quoted = !quoted;
		else if (!quoted && *text == '[')
			depth++;
		else if (!quoted && *text == ']')
			depth--;
		else if (!quoted && depth <= 0 && *text == sep)
			break;
	}
	return text;
}

static bool balanced(const char *text)
{
	unsigned quotes = 0;
	int depth = 0;

	for (; *text && depth >= 0; text++) {
		quotes += *text == '"';
		if (!(quotes % 2))
			depth += (*text == '[') - (*text == ']');
	}
	return !depth && !(quotes % 2);
}

char *vmconfig_next_part(const char **text, char sep)
{
	const char *end;
	char *part;

	if (!*text)
		return NULL;
	end = part_end(*text, sep);
	part = strndup(*text, (size_t)(end - *text));
	*text = *end ? end + 1 : NULL;
	return part;
}

static json_t *unquoted(const char *text)
{
	char *copy = strdup(text), *to = copy;
	json_t *out;

	for (; copy && *text; text++)
		if (*text != '"')
			*to++ = *text;
	if (!copy)
		return NULL;
	*to = 0;
	out = json_string(copy);
	free(copy);
	return out;
}

/* Capitals and hyphens do not matter: "virtio-mem" is VirtioMem. */
static bool same_choice(const char *choice, size_t len, const char *text)
{
	for (; len; choice++, len--, text++) {
		while (*text == '-' || *text == '_')
			text++;
		if ((*choice | 0x20) != (*text | 0x20))
			return false;
	}
	return !*text;
}

static int choice(const struct vmconfig_word *w, const struct vmconfig_field *f, json_t **out,
		  struct err *err)
{
	for (const char *c = f->choices; *c;) {
		size_t n = strcspn(c, "|");

		if (same_choice(c, n, w->text)) {
			*out = json_stringn(c, n);
			return 0;
		}
		c += n + (c[n] == '|');
	}
	return wrong(w, err, f->choices);
}

static int number(const struct vmconfig_word *w, bool size, json_t **out, struct err *err)
{
	uint64_t n;
	int rc = size ? parse_size(w->text, &n) : parse_u64(w->text, &n);

	if (rc || n > INT64_MAX)
		return wrong(w, err, size ? "a size such as 512M or 2G" : "a whole number");
	*out = json_integer((json_int_t)n);
	return 0;
}

/* "3" or "1-3", added to list. */
static int range(const struct vmconfig_word *w, json_t *list, struct err *err)
{
	char buf[48];
	uint64_t first, last;
	char *dash;

	snprintf(buf, sizeof(buf), "%s", w->text);
	dash = strchr(buf, '-');
	if (dash)
		*dash++ = 0;
	if (strlen(w->text) >= sizeof(buf) || parse_u64(buf, &first) ||
	    parse_u64(dash ? dash : buf, &last) || last < first || last > INT64_MAX ||
	    last - first >= RANGE_MAX)
		return wrong(w, err, "numbers or ranges, such as [0,2-3]");
	for (; first <= last; first++)
		json_array_append_new(list, json_integer((json_int_t)first));
	return 0;
}

/* The fields of an object in the table's order, with sep between them. */
static int object(const struct vmconfig_word *w, enum vmconfig_object o, char sep, json_t **out,
		  struct err *err)
{
	const struct vmconfig_field *f = vmconfig_fields(o);
	const char *rest = w->text;
	char *part;
	int rc = 0;

	*out = json_object();
	while (!rc && (part = vmconfig_next_part(&rest, sep))) {
		struct vmconfig_word item = { w->what, part };
		json_t *value = NULL;

		if (f->kind == KIND_NONE)
			rc = wrong(w, err, "fewer values");
		else if (f->kind == KIND_BOOL && !strcmp(part, f->key))
			value = json_true(); /* features=amx */
		else
			rc = vmconfig_word(&item, f, &value, err);
		if (!rc && value)
			json_object_set_new(*out, f->key, value);
		free(part);
		f++;
	}
	return rc;
}

static int list_item(const struct vmconfig_word *w, const struct vmconfig_field *f, json_t *list,
		     struct err *err)
{
	json_t *value = NULL;
	int rc = 0;

	switch ((enum vmconfig_kind)f->kind) {
	case KIND_UINTS:
		return range(w, list, err);
	case KIND_LIST: /* descriptors are numbers, what is ignored or refused anything */
		if (!number(w, false, &value, NULL))
			break;
		value = unquoted(w->text);
		break;
	case KIND_OBJECTS:
		rc = object(w, (enum vmconfig_object)f->object, '@', &value, err);
		break;
	default:
		value = unquoted(w->text);
		break;
	}
	if (!rc && json_array_append_new(list, value))
		rc = wrong(w, err, "UTF-8");
	else if (rc)
		json_decref(value);
	return rc;
}

/* "[a,b]" or "a". */
static int list(const struct vmconfig_word *w, const struct vmconfig_field *f, json_t **out,
		struct err *err)
{
	size_t len = strlen(w->text);
	bool bracket = w->text[0] == '[' && len > 1 && w->text[len - 1] == ']';
	char *inner = bracket ? strndup(w->text + 1, len - 2) : strdup(w->text);
	const char *rest = inner;
	char *part;
	int rc = 0;

	*out = json_array();
	while (!rc && (part = vmconfig_next_part(&rest, ','))) {
		struct vmconfig_word item = { w->what, part };

		if (*part)
			rc = list_item(&item, f, *out, err);
		free(part);
	}
	free(inner);
	return rc;
}

int vmconfig_word(const struct vmconfig_word *w, const struct vmconfig_field *f, json_t **out,
		  struct err *err)
{
	bool on;
	int rc;

	*out = NULL;
	if (!balanced(w->text))
		return wrong(w, err, "with as many closing as opening brackets and quotes");
	switch ((enum vmconfig_kind)f->kind) {
	case KIND_UINT:
		rc = number(w, false, out, err);
		break;
	case KIND_BYTES:
		rc = number(w, true, out, err);
		break;
	case KIND_BOOL:
		if (parse_bool(w->text, &on))
			return wrong(w, err, "on or off");
		*out = json_boolean(on);
		return 0;
	case KIND_ENUM:
		rc = choice(w, f, out, err);
		break;
	case KIND_OBJECT:
		rc = object(w, (enum vmconfig_object)f->object, ':', out, err);
		break;
	case KIND_OBJECTS:
	case KIND_TEXTS:
	case KIND_UINTS:
	case KIND_LIST:
		rc = list(w, f, out, err);
		break;
	default:
		*out = unquoted(w->text);
		rc = 0;
		break;
	}
	if (!rc && !*out)
		rc = wrong(w, err, "UTF-8");
	if (rc) {
		json_decref(*out);
		*out = NULL;
	}
	return rc;
}
