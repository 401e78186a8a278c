/*
 * fuzz_modinfo: kernel modules. All strings of a section found must lie within what was read; a module
 * without its debug information is smaller and has the same strings.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "boot/pack/modinfo.h"
#include "boot/pack/strip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_stripped(const struct pack_source *source, const struct pack_modinfo *info)
{
	struct pack_source small;
	struct pack_modinfo again;
	struct err err = { "" };
	uint8_t *out;
	size_t len;

	BUG_ON(pack_strip_debug(source, &out, &len, &err));
	BUG_ON(!out != !len || len > source->size_bytes);
	if (out && info) {
		small = pack_source_of(out, len, "small.ko");
		BUG_ON(pack_modinfo_read(&small, &again, &err));
		BUG_ON(again.len_bytes != info->len_bytes ||
		       memcmp(again.text, info->text, info->len_bytes) != 0);
		pack_modinfo_free(&again);
	}
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const keys[] = { "depends", "softdep", "alias", "name", "vermagic", "" };
	struct pack_source source = pack_source_of(data, size, "fuzz.ko");
	struct pack_modinfo info;
	struct err err = { "" };

	if (pack_modinfo_read(&source, &info, &err)) {
		BUG_ON(!*err.text || info.text);
		check_stripped(&source, NULL);
		return 0;
	}
	BUG_ON(info.len_bytes > size || info.len_bytes > PACK_MODINFO_MAX);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		for (const char *at = NULL; (at = pack_modinfo_next(&info, keys[i], at));)
			BUG_ON(at + strlen(at) > info.text + info.len_bytes);
	check_stripped(&source, &info);
	pack_modinfo_free(&info);
	return 0;
}
