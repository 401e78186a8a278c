/* fuzz_distro: a distribution's configuration files. The results must be printable and fit. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "boot/distro/distro.h"
#include "boot/spec.h"
#include "vmm/core/err.h"

static void check_text(const char *text, size_t max)
{
	BUG_ON(strlen(text) >= max);
	for (; *text; text++)
		BUG_ON((unsigned char)*text < ' ' || (unsigned char)*text >= 0x7f);
}

static void check_entry(void *opaque, const struct distro_entry *e)
{
	(void)opaque;
	check_text(e->kernel, sizeof(e->kernel));
	BUG_ON((!*e->kernel && !e->unknown_kernel) || e->recovery ||
	       e->ninitrds > DISTRO_INITRDS_MAX);
	for (unsigned i = 0; i < e->ninitrds; i++)
		check_text(e->initrd[i], sizeof(e->initrd[i]));
	check_text(e->version, sizeof(e->version));
	check_text(e->options, sizeof(e->options));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct spec_volume volumes[] = { { 1, "6e0d", "a b", "1234-01", "root" },
						      { 2, "6e0d", "", "1234-02", "root" },
						      { 7, "", "", "", "" } };
	char spec[64], name[64];
	struct distro_entry entry;
	struct distro_options split;
	char *text = malloc(size + 1), *second;

	memcpy(text, data, size);
	text[size] = 0;
	distro_grub_entries(text, text, check_entry, NULL);
	distro_grub_entries(text, NULL, check_entry, NULL);
	free(distro_grub_settings(text));
	distro_syslinux_entries(text, check_entry, NULL);
	if (distro_syslinux_include(text, entry.kernel))
		check_text(entry.kernel, sizeof(entry.kernel));
	if (distro_bls_entry(text, text, &entry))
		check_entry(NULL, &entry);
	for (unsigned n = 0; n <= 3; n++) {
		int found = spec_find(volumes, n, text);

		BUG_ON(found >= (int)n || found < SPEC_SEVERAL);
	}
	distro_split_options(text, &split);
	check_text(split.rest, sizeof(split.rest));
	check_text(split.root, sizeof(split.root));
	if (distro_fstab(text, "/boot", spec, sizeof(spec)))
		check_text(spec, sizeof(spec));
	/* Two versions, or one and an empty one. */
	second = strchr(text, '\n');
	if (second)
		*second++ = 0;
	else
		second = text + size;
	{
		int ab = distro_compare_versions(text, second),
		    ba = distro_compare_versions(second, text);

		BUG_ON((ab < 0) != (ba > 0) || (ab == 0) != (ba == 0));
		BUG_ON(distro_compare_versions(text, text));
	}
	if (distro_kernel_version(text))
		for (unsigned i = 0;
		     distro_initrd_name(i, distro_kernel_version(text), name, sizeof(name)); i++)
			BUG_ON(strlen(name) >= sizeof(name));
	free(text);
	return 0;
}
