/* canonical: see canonical.h. The section numbers are RFC 8785's. */
#include "vmm/digest/canonical.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/parse.h"

#define DEPTH_MAX 64u
/* The largest integer up to which a double has all of them. */
#define EXACT_MAX (1ll << 53)

/* --- 3.2.2.2: strings ---------------------------------------------------------------- */

static void put_string(FILE *out, const char *text, size_t len)
{
	static const char names[] = "btn\0fr"; /* of U+0008 to U+000D; 0: none */

	putc('"', out);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c >= 8 && c <= 13 && names[c - 8])
			fprintf(out, "\\%c", names[c - 8]);
		else if (c < 0x20)
			fprintf(out, "\\u%04x", c);
		else if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else
			putc(c, out);
	}
	putc('"', out);
}

/* --- 3.2.2.3: numbers ---------------------------------------------------------------- */

static void put_integer(FILE *out, json_int_t value)
{
	double rounded = (double)value;
	char digits[32];
	int precision = 0;

	if (value >= -EXACT_MAX && value <= EXACT_MAX) {
		fprintf(out, "%lld", (long long)value);
		return;
	}
	/* The fewest digits that name this double, then zeroes up to the point. */
	do
		snprintf(digits, sizeof(digits), "%.*e", precision++, rounded);
	while (strtod(digits, NULL) != rounded);
	for (char *p = digits; *p != 'e'; p++)
		if (*p != '.')
			putc(*p, out);
	for (int zeroes = atoi(strchr(digits, 'e') + 1) - (precision - 1); zeroes > 0; zeroes--)
		putc('0', out);
}

/* --- 3.2.3: the order of keys -------------------------------------------------------- */

/*
 * UTF-16 orders as code points do, but for those beyond U+FFFF: their surrogates come before U+E000.
 */
static uint32_t rank(int32_t c)
{
	return c < 0xe000 ? (uint32_t)c :
	       c > 0xffff ? (uint32_t)c - 0x10000 + 0xe000 :
			    (uint32_t)c + 0x100000;
}

static int compare_keys(const void *a, const void *b)
{
	const uint8_t *x = *(const uint8_t *const *)a, *y = *(const uint8_t *const *)b;

	while (*x && *y) {
		uint32_t p = rank(parse_utf8(&x)), q = rank(parse_utf8(&y));

		if (p != q)
			return p < q ? -1 : 1;
	}
	return (*x != 0) - (*y != 0);
}

/* --- values -------------------------------------------------------------------------- */

static int put(FILE *out, const json_t *value, unsigned depth, struct err *err);

static int put_array(FILE *out, const json_t *array, unsigned depth, struct err *err)
{
	int rc = 0;

	putc('[', out);
	for (size_t i = 0; i < json_array_size(array) && !rc; i++) {
		if (i)
			putc(',', out);
		rc = put(out, json_array_get(array, i), depth, err);
	}
	putc(']', out);
	return rc;
}

static int put_object(FILE *out, const json_t *object, unsigned depth, struct err *err)
{
	const char **key = calloc(json_object_size(object) + 1, sizeof(*key));
	size_t n = 0;
	int rc = 0;

	if (!key)
		return err_sys(err, ENOMEM, "canonical JSON");
	for (void *it = json_object_iter((json_t *)object); it;
	     it = json_object_iter_next((json_t *)object, it))
		key[n++] = json_object_iter_key(it);
	qsort(key, n, sizeof(*key), compare_keys);
	putc('{', out);
	for (size_t i = 0; i < n && !rc; i++) {
		if (i)
			putc(',', out);
		put_string(out, key[i], strlen(key[i]));
		putc(':', out);
		rc = put(out, json_object_get(object, key[i]), depth, err);
	}
	putc('}', out);
	free(key);
	return rc;
}

static int put(FILE *out, const json_t *value, unsigned depth, struct err *err)
{
	if (depth == DEPTH_MAX)
		return err_set(err, EINVAL, "canonical JSON: more than %u levels", DEPTH_MAX);
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return put_object(out, value, depth + 1, err);
	case JSON_ARRAY:
		return put_array(out, value, depth + 1, err);
	case JSON_STRING:
		put_string(out, json_string_value(value), json_string_length(value));
		return 0;
	case JSON_INTEGER:
		put_integer(out, json_integer_value(value));
		return 0;
	case JSON_REAL:
		return err_set(err, EINVAL, "canonical JSON: %g is no integer",
			       json_real_value(value));
	case JSON_TRUE:
		fputs("true", out);
		return 0;
	case JSON_FALSE:
		fputs("false", out);
		return 0;
	case JSON_NULL:
		fputs("null", out);
		return 0;
	}
	return err_set(err, EINVAL, "canonical JSON: no value");
}

int canonical_json(const json_t *value, char **out, struct err *err)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	int rc;

	*out = NULL;
	if (!f)
		return err_sys(err, ENOMEM, "canonical JSON");
	rc = put(f, value, 0, err);
	if (ferror(f) && !rc)
		rc = err_sys(err, ENOMEM, "canonical JSON");
	if (fclose(f) && !rc)
		rc = err_sys(err, ENOMEM, "canonical JSON");
	if (rc)
		free(text);
	else
		*out = text;
	return rc;
}
