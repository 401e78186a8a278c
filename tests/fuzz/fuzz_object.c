/* fuzz_object: ELF programs. All names must lie within what was read, and a refusal leaves nothing. */
#include <limits.h>
#include <stdint.h>
#include <string.h>

#include "boot/pack/object.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pack_source source = pack_source_of(data, size, "fuzz");
	struct pack_object object;
	struct err err = { "" };
	size_t all = 0;

	if (pack_object_read(&source, &object, &err)) {
		BUG_ON(!*err.text || object.interpreter || object.strings || object.needed);
		return 0;
	}
	BUG_ON(object.interpreter && strlen(object.interpreter) > PATH_MAX);
	BUG_ON(object.nneeded > PACK_NEEDED_MAX);
	for (size_t i = 0; i < object.nneeded; i++)
		all += strlen(object.needed[i]);
	all += object.rpath ? strlen(object.rpath) : 0;
	all += object.runpath ? strlen(object.runpath) : 0;
	BUG_ON(all > (PACK_NEEDED_MAX + 2) * (size + 1));
	pack_object_free(&object);
	return 0;
}
