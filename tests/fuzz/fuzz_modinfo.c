/* fuzz_modinfo: kernel modules. All strings of a section found must lie within what was read. */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "boot/pack/modinfo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const keys[] = { "depends", "softdep", "alias", "name", "vermagic", "" };
	struct pack_source source = pack_source_of(data, size, "fuzz.ko");
	struct pack_modinfo info;
	struct err err = { "" };

	if (pack_modinfo_read(&source, &info, &err)) {
		BUG_ON(!*err.text || info.text);
		return 0;
	}
	BUG_ON(info.len_bytes > size || info.len_bytes > PACK_MODINFO_MAX);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		for (const char *at = NULL; (at = pack_modinfo_next(&info, keys[i], at));)
			BUG_ON(at + strlen(at) > info.text + info.len_bytes);
	pack_modinfo_free(&info);
	return 0;
}
