/*
 * vmconfig/check: values against the tables.
 *
 * An object's fields come out in the order of its table, whatever the client's order. A null is an
 * absent field. A default is written in the table as JSON and is checked as a client's value is, so
 * that the default "{}" of an object brings the defaults inside it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/core/parse.h"
#include "vmm/vmconfig/vmconfig_impl.h"

#define SHOW_BYTES 96

static int check_field(struct vmconfig_walk *w, const struct vmconfig_field *f, const json_t *in,
		       json_t **out);

/* --- messages --------------------------------------------------------------------------------- */

/* What a value of this field must be: "a whole number from 1 to 254". */
static const char *expected(const struct vmconfig_field *f, char *buf, size_t len)
{
	const char *what = "";

	switch ((enum vmconfig_kind)f->kind) {
	case KIND_UINT:
	case KIND_BYTES:
	case KIND_UINTS:
		if (f->max)
			snprintf(buf, len, "a whole number from %llu to %llu",
				 (unsigned long long)f->min, (unsigned long long)f->max);
		else
			snprintf(buf, len, "a whole number");
		return buf;
	case KIND_ENUM:
		snprintf(buf, len, "one of %s", f->choices);
		return buf;
	case KIND_TEXT:
	case KIND_PATH:
	case KIND_TEXTS:
		if (f->kind == KIND_TEXTS || !f->max)
			what = "a text";
		else
			snprintf(buf, len, "a text of %s%llu bytes", f->min ? "1 to " : "at most ",
				 (unsigned long long)f->max);
		break;
	case KIND_ID:
		what = "a name of 1 to 63 letters, digits or signs, without blanks, quotes and "
		       "braces";
		break;
	case KIND_UUID:
		what = "a UUID, such as 123e4567-e89b-12d3-a456-426614174000";
		break;
	case KIND_IP:
		what = "an address, such as 192.168.249.1";
		break;
	case KIND_MAC:
		what = "the MAC address of a card, such as 02:00:00:00:00:01";
		break;
	case KIND_BOOL:
		what = "true or false";
		break;
	case KIND_OBJECT:
		what = "an object";
		break;
	case KIND_OBJECTS:
	case KIND_LIST:
		what = "a list";
		break;
	case KIND_ANY:
	case KIND_NONE:
		break;
	}
	if (*what)
		snprintf(buf, len, "%s", what);
	return buf;
}

static int refuse(struct vmconfig_walk *w, const struct vmconfig_field *f, const json_t *in)
{
	char want[128], is[SHOW_BYTES];

	return vmconfig_fail(w, EINVAL, NULL, "%s: must be %s", vmconfig_show(in, is, sizeof(is)),
			     expected(f, want, sizeof(want)));
}

/* --- values ----------------------------------------------------------------------------------- */

static bool good_id(const char *text)
{
	size_t len = strlen(text);

	for (size_t i = 0; i < len; i++)
		if (text[i] <= ' ' || text[i] > '~' || strchr("\"'\\{}", text[i]))
			return false;
	return len > 0;
}

static bool good_hex(const char *text, const char *pattern)
{
	for (; *pattern; text++, pattern++)
		if (*pattern == 'x' ? !*text || !strchr("0123456789abcdefABCDEF", *text) :
				      *text != *pattern)
			return false;
	return !*text;
}

static bool good_ip(const char *text)
{
	struct in6_addr addr;

	return inet_pton(AF_INET, text, &addr) == 1 || inet_pton(AF_INET6, text, &addr) == 1;
}

/* Neither a group's address nor all zeroes. */
static bool good_mac(const char *text)
{
	return good_hex(text, "xx:xx:xx:xx:xx:xx") && !strchr("13579bdfBDF", text[1]) &&
	       strcmp(text, "00:00:00:00:00:00") != 0;
}

static bool good_choice(const char *choices, const char *text)
{
	size_t len = strlen(text);

	for (;; choices++) {
		size_t n = strcspn(choices, "|");

		if (n == len && !memcmp(choices, text, n))
			return true;
		choices += n;
		if (!*choices)
			return false;
	}
}

static bool good_text(const struct vmconfig_field *f, const json_t *in)
{
	const char *text = json_string_value(in);
	size_t len = json_string_length(in);

	if (!text || (f->max && len > f->max))
		return false;
	switch ((enum vmconfig_kind)f->kind) {
	case KIND_PATH:
		return len > 0;
	case KIND_ID:
		return good_id(text);
	case KIND_UUID:
		return good_hex(text, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
	case KIND_IP:
		return good_ip(text);
	case KIND_MAC:
		return good_mac(text);
	case KIND_ENUM:
		return good_choice(f->choices, text);
	default:
		return len >= f->min;
	}
}

static int check_number(struct vmconfig_walk *w, const struct vmconfig_field *f, const json_t *in)
{
	json_int_t n = json_integer_value(in);

	if (!json_is_integer(in) || n < 0 || (uint64_t)n < f->min ||
	    (f->max && (uint64_t)n > f->max))
		return refuse(w, f, in);
	if (f->flags & FIELD_POWER2 && (!n || n & (n - 1)))
		return vmconfig_fail(w, EINVAL, NULL,
				     "%" JSON_INTEGER_FORMAT ": must be a power of two", n);
	if (f->flags & FIELD_PAGES && n % 4096)
		return vmconfig_fail(w, EINVAL, NULL,
				     "%" JSON_INTEGER_FORMAT
				     ": must be a multiple of 4096 bytes (a page)",
				     n);
	if (f->most && (uint64_t)n > f->most)
		vmconfig_warn(w, NULL, "%" JSON_INTEGER_FORMAT ": the device gets %llu, its most",
			      n, (unsigned long long)f->most);
	return 0;
}

/* The most items of a list. */
static size_t most_items(const struct vmconfig_field *f)
{
	return f->kind == KIND_UINTS ? 8192 : f->max ? (size_t)f->max : VMCONFIG_MAX_VALUES;
}

static int check_list(struct vmconfig_walk *w, const struct vmconfig_field *f, const json_t *in,
		      json_t **out)
{
	/* An item has the list's range, but a list of texts or objects limits its own length. */
	struct vmconfig_field item = { .kind = f->kind == KIND_OBJECTS ? KIND_OBJECT :
					       f->kind == KIND_UINTS   ? KIND_UINT :
									 KIND_TEXT,
				       .object = f->object,
				       .min = f->min,
				       .max = f->kind == KIND_UINTS ? f->max :
					      f->most		    ? f->most :
								      255 };
	size_t i;
	json_t *value;
	int rc = 0;

	if (!json_is_array(in))
		return vmconfig_fail(w, EINVAL, NULL, "%s", "must be a list");
	if (json_array_size(in) > most_items(f))
		return vmconfig_fail(w, EINVAL, NULL, "has %zu items; at most %zu",
				     json_array_size(in), most_items(f));
	*out = json_array();
	json_array_foreach(in, i, value)
	{
		size_t len = vmconfig_enter_item(w, i);
		json_t *checked = NULL;

		rc = check_field(w, &item, value, &checked);
		if (!rc && json_array_append(*out, checked))
			rc = vmconfig_no_memory(w);
		json_decref(checked);
		vmconfig_leave(w, len);
		if (rc)
			break;
	}
	return rc;
}

static int check_any(struct vmconfig_walk *w, const struct vmconfig_field *f, const json_t *in)
{
	size_t bytes = json_dumpb(in, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);

	if (f->kind == KIND_LIST && !json_is_array(in))
		return refuse(w, f, in);
	if (bytes > VMCONFIG_MAX_ANY_BYTES)
		return vmconfig_fail(w, EINVAL, NULL, "%zu bytes of JSON; at most %u", bytes,
				     VMCONFIG_MAX_ANY_BYTES);
	return 0;
}

/* Returns true if the value asks for nothing: the default, or what every client may fill in. */
static bool harmless(const struct vmconfig_field *f, const json_t *in)
{
	const char *text = json_string_value(in);
	size_t first = strcspn(f->choices, "|");

	if (text && f->kind == KIND_ENUM)
		return strlen(text) == first && !memcmp(text, f->choices, first);
	return json_is_null(in) || json_is_false(in) || (text && !*text) ||
	       (json_is_integer(in) && !json_integer_value(in)) ||
	       (json_is_array(in) && !json_array_size(in)) ||
	       (json_is_object(in) && !json_object_size(in));
}

static int check_effect(struct vmconfig_walk *w, const struct vmconfig_field *f, const json_t *in)
{
	char is[SHOW_BYTES];

	if (!(f->flags & (FIELD_IGNORED | FIELD_REFUSED)) || harmless(f, in))
		return 0;
	vmconfig_show(in, is, sizeof(is));
	if (f->flags & FIELD_REFUSED)
		return vmconfig_fail(w, ENOTSUP, NULL, "%s: bantam does not have this: %s", is,
				     f->help);
	vmconfig_warn(w, NULL, "%s: has no effect: %s", is, f->help);
	return 0;
}

/* On success the caller owns *out; after an error *out may be a part, which it frees. */
static int check_field(struct vmconfig_walk *w, const struct vmconfig_field *f, const json_t *in,
		       json_t **out)
{
	int rc = 0;

	switch ((enum vmconfig_kind)f->kind) {
	case KIND_OBJECT:
		rc = vmconfig_check(w, (enum vmconfig_object)f->object, in, out);
		return rc ? rc : check_effect(w, f, in);
	case KIND_OBJECTS:
	case KIND_UINTS:
	case KIND_TEXTS:
		rc = check_list(w, f, in, out);
		return rc ? rc : check_effect(w, f, in);
	case KIND_UINT:
	case KIND_BYTES:
		rc = check_number(w, f, in);
		break;
	case KIND_BOOL:
		rc = json_is_boolean(in) ? 0 : refuse(w, f, in);
		break;
	case KIND_ANY:
	case KIND_LIST:
		rc = check_any(w, f, in);
		break;
	case KIND_NONE:
		BUG_ON(true);
	default:
		rc = good_text(f, in) ? 0 : refuse(w, f, in);
		break;
	}
	if (!rc)
		rc = check_effect(w, f, in);
	if (!rc) {
		*out = json_deep_copy(in);
		rc = *out ? 0 : vmconfig_no_memory(w);
	}
	return rc;
}

/* --- objects ---------------------------------------------------------------------------------- */

static void warn_unknown(struct vmconfig_walk *w, enum vmconfig_object object, const json_t *in)
{
	const char *names[64], *near, *key;
	json_t *value;
	size_t n = 0;

	for (const struct vmconfig_field *f = vmconfig_fields(object); f->kind != KIND_NONE; f++)
		if (n < sizeof(names) / sizeof(names[0]))
			names[n++] = f->key;
	json_object_foreach((json_t *)in, key, value)
	{
		char shown[64];

		if (vmconfig_find(object, key))
			continue;
		if (w->warnings > VMCONFIG_WARNINGS_MAX)
			break; /* to look for a near name takes time */
		snprintf(shown, sizeof(shown), "%.60s", key);
		near = parse_nearest(shown, names, n);
		vmconfig_warn(w, shown, "unknown field, ignored%s%s%s",
			      near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
	}
}

/* Returns what the client sent, or a new reference to the default, or NULL. */
static json_t *value_of(const struct vmconfig_field *f, const json_t *in)
{
	json_t *value = json_object_get(in, f->key);

	if (value && !json_is_null(value))
		return json_incref(value);
	return *f->def ? json_loads(f->def, JSON_DECODE_ANY, NULL) : NULL;
}

int vmconfig_check(struct vmconfig_walk *w, enum vmconfig_object object, const json_t *in,
		   json_t **out)
{
	char is[SHOW_BYTES];

	*out = NULL;
	if (!json_is_object(in))
		return vmconfig_fail(w, EINVAL, NULL, "%s: must be an object",
				     vmconfig_show(in, is, sizeof(is)));
	*out = json_object();
	if (!*out)
		return vmconfig_no_memory(w);
	warn_unknown(w, object, in);
	for (const struct vmconfig_field *f = vmconfig_fields(object); f->kind != KIND_NONE; f++) {
		json_t *value = value_of(f, in), *checked = NULL;
		size_t len;
		int rc;

		if (!value && f->flags & FIELD_REQUIRED)
			return vmconfig_fail(w, EINVAL, f->key, "is missing: %s", f->help);
		if (!value)
			continue;
		len = vmconfig_enter(w, f->key);
		rc = check_field(w, f, value, &checked);
		json_decref(value);
		if (!rc && json_object_set(*out, f->key, checked))
			rc = vmconfig_no_memory(w);
		json_decref(checked);
		vmconfig_leave(w, len);
		if (rc)
			return rc;
	}
	return vmconfig_rules(w, object, *out);
}

/* A member that is set anew goes to the end; so all are, one after the other. */
void vmconfig_order(enum vmconfig_object object, json_t *out)
{
	for (const struct vmconfig_field *f = vmconfig_fields(object); f->kind != KIND_NONE; f++) {
		json_t *value = json_incref(json_object_get(out, f->key)), *item;
		size_t i;

		if (!value)
			continue;
		if (f->kind == KIND_OBJECT)
			vmconfig_order((enum vmconfig_object)f->object, value);
		json_array_foreach(value, i, item)
		{
			if (f->kind == KIND_OBJECTS)
				vmconfig_order((enum vmconfig_object)f->object, item);
		}
		json_object_del(out, f->key);
		json_object_set_new(out, f->key, value);
	}
}
