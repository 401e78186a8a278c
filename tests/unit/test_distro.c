/* distro: names, versions and configuration files of distributions, and damaged ones. */
#include <criterion/criterion.h>
#include <string.h>

#include "boot/distro.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

Test(distro, kernel_names)
{
	static const struct {
		const char *name, *version;
	} t[] = {
		{ "vmlinuz-6.1.0-27-amd64", "6.1.0-27-amd64" },
		{ "vmlinuz", "" },
		{ "vmlinux-5.10", "5.10" },
		{ "kernel-6.6.1-gentoo", "6.6.1-gentoo" },
		{ "bzImage-6", "6" },
		{ "vmlinuz-lts", "lts" },
		{ "vmlinuz-linux", "linux" },
		{ "vmlinuz-", NULL },
		{ "vmlinuzx", NULL },
		{ "initrd.img-6.1", NULL },
		{ "", NULL },
		{ ".vmlinuz-6.1.hmac", NULL },
		{ "vmlinuz-6.1.old", NULL },
		{ "vmlinuz.old", NULL },
		{ "vmlinuz-6.1.dpkg-new", NULL },
		{ "vmlinuz-6.1~", NULL },
		{ "System.map-6.1", NULL },
		{ "vmlinuz-6.1.sig", NULL },
		{ "config-6.1", NULL },
		{ "memtest86+x64.bin", NULL },
	};

	for (size_t i = 0; i < N(t); i++) {
		const char *v = distro_kernel_version(t[i].name);

		cr_assert_eq(!v, !t[i].version, "%s", t[i].name);
		if (v)
			cr_assert_str_eq(v, t[i].version);
	}
	cr_assert(distro_is_rescue("0-rescue-1234"));
	cr_assert_not(distro_is_rescue("6.1.0"));
}

/* Each is older than the one after it. */
Test(distro, version_order)
{
	static const char *const order[] = {
		"",
		"5.10.0-9-amd64",
		"5.10.0-10-amd64",
		"6.1.0~rc1",
		"6.1.0-rc1",
		"6.1.0-rc2-amd64",
		"6.1.0-rc10",
		"6.1.0",
		"6.1.0-9-amd64",
		"6.1.0-9-cloud-amd64",
		"6.1.0-27-amd64",
		"6.1.0-100-amd64",
		"6.2.0-pre1",
		"6.2.0",
		"6.11.4-300.fc41.x86_64",
		"6.11.4-301.fc41.x86_64",
		"6.11.10-1.fc41.x86_64",
		"6.99999999999999999999999999999998",
		"6.99999999999999999999999999999999",
	};

	for (size_t i = 0; i < N(order); i++) {
		cr_assert_eq(distro_compare_versions(order[i], order[i]), 0);
		for (size_t k = i + 1; k < N(order); k++) {
			cr_assert_lt(distro_compare_versions(order[i], order[k]), 0, "%s %s",
				     order[i], order[k]);
			cr_assert_gt(distro_compare_versions(order[k], order[i]), 0, "%s %s",
				     order[i], order[k]);
		}
	}
	cr_assert_eq(distro_compare_versions("6.01", "6.1"), 0);
	/* Bytes above 127 sort like other bytes. */
	cr_assert_neq(distro_compare_versions("6.\xff", "6.a"), 0);
}

Test(distro, initrd_names)
{
	char name[32];

	cr_assert(distro_initrd_name(0, "6.1", name, sizeof(name)));
	cr_assert_str_eq(name, "initrd.img-6.1");
	cr_assert(distro_initrd_name(1, "6.1", name, sizeof(name)));
	cr_assert_str_eq(name, "initramfs-6.1.img");
	cr_assert(distro_initrd_name(0, "", name, sizeof(name)));
	cr_assert_str_eq(name, "initrd.img");
	cr_assert_not(distro_initrd_name(5, "6.1", name, sizeof(name)));
	cr_assert_not(
		distro_initrd_name(0, "a-version-too-long-for-its-buffer", name, sizeof(name)));
}

Test(distro, grub)
{
	static const struct {
		const char *cfg, *options;
	} t[] = {
		{ "\tlinux\t/boot/vmlinuz-1 root=UUID=x ro  quiet\n", "root=UUID=x ro quiet" },
		{ "linux /vmlinuz-2 other\nlinux16 /@/boot/vmlinuz-1 a\n", "a" },
		{ "linuxefi /vmlinuz-1 a", "a" },
		{ "linux /vmlinuz-1 ro single\nlinux /vmlinuz-1 a b", "a b" },
		{ "linux /vmlinuz-1 a $x ${y} b=${z}c d\n", "a d" },
		{ "linux /vmlinuz-1 'a b' c=\"d e\" f\\ g h\\\"i\n",
		  "\"a b\" \"c=d e\" \"f g\" h\"i" },
		{ "linux \"/vmlinuz-1\" a; initrd /x }\n", "a" },
		{ "linux /vmlinuz-1 'never ended\n", "\"never ended\"" },
		{ "linux /vmlinuz-1 a\x1b[2J b\n", "b" },
		{ "linux /vmlinuz-1", "" },
		{ "# linux /vmlinuz-1 a\n", NULL },
		{ "linux /vmlinuz-10 a\n", NULL },
		{ "linux", NULL },
		{ "linux ${root}/vmlinuz\n", NULL },
		{ "", NULL },
	};

	for (size_t i = 0; i < N(t); i++) {
		char options[DISTRO_OPTIONS_MAX] = "?";
		bool found = distro_grub_options(t[i].cfg, "vmlinuz-1", options);

		cr_assert_eq(found, t[i].options != NULL, "%s", t[i].cfg);
		cr_assert_str_eq(options, t[i].options ? t[i].options : "", "%s", t[i].cfg);
	}
}

Test(distro, loader_entries)
{
	static const char env[] = "# GRUB\nkernelopts=root=/dev/sda1 ro\nother=$kernelopts\n";
	static const struct {
		const char *entry, *options;
	} t[] = {
		{ "title X\nlinux /vmlinuz-1\noptions a b\noptions c\n", "a b c" },
		{ "linux /boot/vmlinuz-1\noptions $kernelopts $tuned_params q\n",
		  "root=/dev/sda1 ro q" },
		{ "linux /vmlinuz-1\noptions $other x\n", "x" },
		{ "linux /vmlinuz-2\noptions a\n", NULL },
		{ "linux /vmlinuz-1\n", NULL },
		{ "options a\n", NULL },
	};

	for (size_t i = 0; i < N(t); i++) {
		char options[DISTRO_OPTIONS_MAX];
		bool found = distro_bls_options(t[i].entry, "vmlinuz-1", env, options);

		cr_assert_eq(found, t[i].options != NULL, "%s", t[i].entry);
		if (found)
			cr_assert_str_eq(options, t[i].options);
	}
}

Test(distro, extlinux)
{
	char options[DISTRO_OPTIONS_MAX];

	cr_assert(distro_extlinux_options("DEFAULT a\nLABEL lts\n  LINUX vmlinuz-lts\n  INITRD i\n"
					  "  APPEND root=UUID=x modules=ext4\n",
					  "vmlinuz-lts", options));
	cr_assert_str_eq(options, "root=UUID=x modules=ext4");
	cr_assert_not(distro_extlinux_options("LABEL a\nKERNEL vmlinuz-lts\nLABEL b\nAPPEND x\n",
					      "vmlinuz-lts", options));
}

Test(distro, split)
{
	struct distro_options o;
	static char longest[3 * DISTRO_OPTIONS_MAX];

	distro_split_options("BOOT_IMAGE=/x root=UUID=1 ro a=\"b ro c\" console=tty0 rw "
			     "rootflags=subvol=root initrd=/i console=ttyS0",
			     &o);
	cr_assert_str_eq(o.rest, "a=\"b ro c\" rootflags=subvol=root");
	cr_assert_str_eq(o.root, "UUID=1");
	cr_assert_eq(o.rw, 1);
	distro_split_options("", &o);
	cr_assert_str_eq(o.rest, "");
	cr_assert_eq(o.rw, -1);
	/* Too long, as one word and as many words. */
	memset(longest, 'x', sizeof(longest) - 1);
	distro_split_options(longest, &o);
	cr_assert_str_eq(o.rest, "");
	for (size_t i = 0; i < sizeof(longest) - 1; i += 10)
		longest[i] = ' ';
	distro_split_options(longest, &o);
	cr_assert_gt(strlen(o.rest), DISTRO_OPTIONS_MAX - 20);
}

Test(distro, fstab)
{
	static const char tab[] = "# /dev/x /boot\n\nUUID=a / ext4 ro 0 1\n"
				  "LABEL=\"a b\"\t/boot ext4\n/dev/sda3\n /dev/sda4 /var";
	char spec[16];

	cr_assert(distro_fstab(tab, "/", spec, sizeof(spec)));
	cr_assert_str_eq(spec, "UUID=a");
	cr_assert(distro_fstab(tab, "/boot", spec, sizeof(spec)));
	cr_assert_str_eq(spec, "LABEL=\"a b\"");
	cr_assert(distro_fstab(tab, "/var", spec, sizeof(spec)));
	cr_assert_not(distro_fstab(tab, "/home", spec, sizeof(spec)));
	cr_assert_not(distro_fstab("UUID=0123456789abcdef / ext4", "/", spec, sizeof(spec)));
}
