/*
 * vmconfig/parse: a request's body to JSON.
 *
 * jansson builds a tree that may need a hundred times the memory of its text ("[{},{},…"), and its
 * own limit of depth is 2048. So a scan of the text, which needs no memory, comes first and counts
 * depth and values; it reads wrong JSON as anything, because the parser refuses that afterwards.
 */
#include <errno.h>

#include "vmm/vmconfig/vmconfig.h"

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

int vmconfig_parse_json(const char *text, size_t len, json_t **out, struct err *err)
{
	json_error_t why;
	int rc = scan(text, len, err);

	*out = NULL;
	if (rc)
		return rc;
	*out = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
	if (*out)
		return 0;
	if (json_error_code(&why) == json_error_out_of_memory)
		return err_sys(err, ENOMEM, "JSON");
	return err_set(err, EINVAL, "JSON: line %d, column %d: %s", why.line, why.column, why.text);
}
