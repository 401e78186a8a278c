/*
 * vmconfig/parse: a request's body to JSON.
 *
 * jansson builds a tree that may need a hundred times the memory of its text ("[{},{},…"), and its
 * own limit of depth is 2048. So a scan of the text, which needs no memory, comes first and counts
 * depth and values; it reads wrong JSON as anything, because the parser refuses that afterwards.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/vmconfig/vmconfig.h"

#define FLAGS (JSON_REJECT_DUPLICATES | JSON_DECODE_ANY)

/* Returns the offset behind the string whose opening quote is at text[i]. */
static size_t skip_string(const char *text, size_t len, size_t i)
{
	for (i++; i < len && text[i] != '"'; i++)
		if (text[i] == '\\')
			i++;
	return i < len ? i + 1 : len;
}

static int scan(const char *text, size_t len, struct err *err)
{
	unsigned depth = 0, values = 1;
	size_t i = 0;

	while (i < len) {
		switch (text[i]) {
		case '"':
			i = skip_string(text, len, i);
			continue;
		case '[':
		case '{':
			if (++depth > VMCONFIG_MAX_DEPTH)
				return err_set(err, EINVAL, "JSON: more than %d levels deep",
					       VMCONFIG_MAX_DEPTH);
			values++;
			break;
		case ']':
		case '}':
			depth -= depth > 0;
			break;
		case ',':
			values++;
			break;
		}
		if (values > VMCONFIG_MAX_VALUES)
			return err_set(err, EINVAL, "JSON: more than %d values",
				       VMCONFIG_MAX_VALUES);
		i++;
	}
	return 0;
}

static bool is_too_big(const char *number, size_t len)
{
	if (strspn(number + 1, "0123456789") < len - 1)
		return false; /* a real number */
	errno = 0;
	(void)strtoll(number, NULL, 10);
	return errno == ERANGE;
}

/*
 * Copies the text and writes each integer of more than 63 bits as a real number, "2e3" for "2000". No
 * field takes a real number, so the check of the field refuses it with the field's path, which the
 * parser does not know. Returns the length, or 0: out of memory.
 */
static size_t widen(const char *text, size_t len, char **out)
{
	char *in = malloc(len + 1), *to = malloc(len + len / 9 + 3);
	size_t i = 0, n = 0, end;

	*out = to;
	if (in) {
		memcpy(in, text, len); /* with the zeroes that it may hold */
		in[len] = 0;
	}
	while (in && to && i < len) {
		bool number = in[i] == '-' || (in[i] >= '0' && in[i] <= '9');

		end = in[i] == '"' ? skip_string(in, len, i) :
		      number	   ? i + 1 + strspn(in + i + 1, "0123456789.eE+-") :
				     i + 1;
		if (end > len)
			end = len;
		memcpy(to + n, in + i, end - i);
		n += end - i;
		if (number && is_too_big(in + i, end - i)) {
			memcpy(to + n, "e0", 2);
			n += 2;
		}
		i = end;
	}
	free(in);
	return in && to ? n : 0;
}

/* Parses again what has an integer that is too big. */
static json_t *parse_wide(const char *text, size_t len, json_error_t *why)
{
	char *wide;
	size_t n = widen(text, len, &wide);
	json_t *out = n ? json_loadb(wide, n, FLAGS, why) : NULL;

	free(wide);
	return out;
}

int vmconfig_parse_json(const char *text, size_t len, json_t **out, struct err *err)
{
	json_error_t why;
	int rc = scan(text, len, err);

	*out = NULL;
	if (rc)
		return rc;
	*out = json_loadb(text, len, FLAGS, &why);
	if (!*out && json_error_code(&why) == json_error_numeric_overflow)
		*out = parse_wide(text, len, &why);
	if (*out)
		return 0;
	if (json_error_code(&why) == json_error_out_of_memory)
		return err_sys(err, ENOMEM, "JSON");
	return err_set(err, EINVAL, "JSON: line %d, column %d: %s", why.line, why.column, why.text);
}
