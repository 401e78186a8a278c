/*
 * fuzz_canonical: JSON in its canonical form, and a VM's definition. The canonical form of any value
 * is JSON of an equal value, but for integers that a double rounds, and its own canonical form.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/digest/canonical.h"
#include "vmm/digest/definition.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int sum(void *opaque, const struct definition_file *file, char hex[DEFINITION_HEX_BYTES],
	       struct err *err)
{
	BUG_ON(!file->path);
	strcpy(hex, file->disk ? "disk" : "file");
	return *file->path == '!' ? err_set(err, 5, "digest: %s", file->path) : 0;
}

static void check(const json_t *value)
{
	struct err err = { "" };
	char *text, *again;
	json_t *back;

	if (canonical_json(value, &text, &err)) {
		BUG_ON(!*err.text || text);
		return;
	}
	back = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	/* A double may be beyond the integers. */
	if (back) {
		BUG_ON(canonical_json(back, &again, &err));
		BUG_ON(strcmp(text, again) != 0);
		free(again);
	} else {
		BUG_ON(!strstr(text, "9223372036854776000"));
	}
	json_decref(back);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *value = json_loadb((const char *)data, size, JSON_DECODE_ANY | JSON_ALLOW_NUL,
				   NULL);
	json_t *definition;
	struct err err = { "" };

	if (!value)
		return 0;
	check(value);
	if (definition_make(value, sum, NULL, &definition, &err))
		BUG_ON(!*err.text || definition);
	else
		check(definition);
	json_decref(definition);
	json_decref(value);
	return 0;
}
