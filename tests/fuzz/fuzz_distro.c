/* fuzz_distro: a distribution's configuration files. The results must be printable and fit. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "boot/distro.h"
#include "vmm/core/err.h"

static void check_text(const char *text, size_t max)
{
	BUG_ON(strlen(text) >= max);
	for (; *text; text++)
		BUG_ON((unsigned char)*text < ' ' || (unsigned char)*text >= 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char options[DISTRO_OPTIONS_MAX], spec[64], name[64];
	struct distro_options split;
	char *text = malloc(size + 1), *second;

	memcpy(text, data, size);
	text[size] = 0;
	if (distro_grub_options(text, "vmlinuz-1", options))
		check_text(options, sizeof(options));
	if (distro_extlinux_options(text, "vmlinuz-1", options))
		check_text(options, sizeof(options));
	if (distro_bls_options(text, "vmlinuz-1", text, options))
		check_text(options, sizeof(options));
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
