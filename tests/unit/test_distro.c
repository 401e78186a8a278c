/* distro: names, versions and configuration files of distributions, and damaged ones. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/distro/distro.h"

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

/* Writes entries as "kernel|initrd,initrd|options;", one after the other; "?": no options, "$": others were left out. */
static void write_entry(void *opaque, const struct distro_entry *e)
{
	char *to = opaque;
	size_t at = strlen(to);

	at += (size_t)sprintf(to + at, "%s|", e->kernel);
	for (unsigned i = 0; i < e->ninitrds; i++)
		at += (size_t)sprintf(to + at, "%s%s", i ? "," : "", e->initrd[i]);
	sprintf(to + at, "%s|%s%s%s;", e->too_many_initrds ? "+" : "", e->options,
		e->has_options ? "" : "?", e->unknown_words ? "$" : "");
}

struct row {
	const char *text, *entries;
};

/* What GRUB has saved. */
static const char saved[] = "# GRUB Environment Block\nsaved=env\nboth=env\n####";

static void parse_grub(const char *text, distro_sink sink, void *opaque)
{
	distro_grub_entries(text, saved, sink, opaque);
}

static void entries_are(const struct row *t, size_t n,
			void (*parse)(const char *text, distro_sink sink, void *opaque))
{
	for (size_t i = 0; i < n; i++) {
		char got[8192] = "";

		parse(t[i].text, write_entry, got);
		cr_expect_str_eq(got, t[i].entries, "row %zu: %s", i, t[i].text);
	}
}

/* Forms of the GRUB manual: "Shell-like scripting", "Quoting", "linux", "initrd", "Paths". */
Test(distro, grub)
{
	static const struct row t[] = {
		{ "\tlinux\t/boot/vmlinuz-1 root=UUID=x ro  quiet\n",
		  "/boot/vmlinuz-1||root=UUID=x ro quiet;" },
		{ "linux /vmlinuz-2 other\nlinux16 /@/boot/vmlinuz-1 a\n",
		  "/vmlinuz-2||other;/@/boot/vmlinuz-1||a;" },
		{ "linuxefi /vmlinuz-1 a\ninitrdefi /i", "/vmlinuz-1|/i|a;" },
		{ "linux16 /vmlinuz-1 a\ninitrd16 /i", "/vmlinuz-1|/i|a;" },
		/* recovery */
		{ "linux /k ro single\nlinux /k a b", "/k||a b;" },
		{ "linux /k ro recovery nomodeset\n", "" },
		{ "linux /k systemd.unit=rescue.target\n", "" },
		{ "linux /k emergency\n", "" },
		{ "linux /k 1\n", "" },
		{ "linux /k rd.break\n", "" },
		{ "linux /k singleton\n", "/k||singleton;" },
		/* variables */
		{ "linux /k a $x ${y} b=${z}c d\n", "/k||a d$;" },
		{ "linux /k a '$x' \\$y \"$z\"\n", "/k||a $x $y$;" },
		{ "linux ${root}/vmlinuz a\n", "||a;" },
		{ "linux /k a ${b c} d\n", "/k||a d$;" },
		{ "linux /k ${unfinished\nlinux /l b", "/k||?$;/l||b;" },
		{ "linux /k a\ninitrd /i $more", "/k|/i+|a;" },
		/* quotes */
		{ "linux /k 'a b' c=\"d e\" f\\ g h\\\"i\n",
		  "/k||\"a b\" \"c=d e\" \"f g\" h\"i;" },
		{ "linux \"/k\" a", "/k||a;" },
		{ "linux '/k' 'it''s'", "/k||its;" },
		{ "linux /k 'never ended\n", "/k||;" },
		{ "linux /k 'two\nlines' b", "/k||b;" },
		{ "linux /k ''", "/k||;" },
		{ "linux /k 'a\\b' \"c\\\\d\"", "/k||a\\b c\\d;" },
		{ "linux /k a\x1b[2J b\n", "/k||b;" },
		/* devices before the path */
		{ "linux (hd0,gpt2)/boot/k a\ninitrd (hd0,gpt2)/boot/i\n", "/boot/k|/boot/i|a;" },
		{ "linux (lvm/vg-lv)/k a", "/k||a;" },
		{ "linux (hd0/k a", "" },
		/* comments: a word that begins with # */
		{ "# linux /k a\n", "" },
		{ "linux /k ro nosmt # init=/bin/sh\n", "/k||ro nosmt;" },
		{ "linux /k a#b c\n", "/k||a#b c;" },
		{ "linux /k '#' a \\#b\n", "/k||# a #b;" },
		{ "linux /k a # it's\nlinux /l b # \"\n", "/k||a;/l||b;" },
		/* continued lines */
		{ "linux /k a \\\n b \\\n  c\ninitrd /i\n", "/k|/i|a b c;" },
		{ "linux /k a\\\nb c\n", "/k||ab c;" },
		{ "linux /k a \\\r\n b\r\n", "/k||a b;" },
		{ "linux \\\n /k a\n", "/k||a;" },
		{ "linux /k \"a\\\nb\"", "/k||ab;" },
		{ "linux /k a \\", "/k||a \\;" },
		/* commands on one line, blocks */
		{ "linux /k a; initrd /i; boot\n", "/k|/i|a;" },
		{ "menuentry 'X' { linux /k a b; initrd /i }\n", "/k|/i|a b;" },
		{ "menuentry 'X' {linux /k a;initrd /i}menuentry Y {linux /l b}",
		  "/k|/i|a;/l||b;" },
		{ "submenu S {\n menuentry 'X' {\n  linux /k a\n  initrd /i\n }\n"
		  " menuentry Y {\n  linux /l b\n }\n}\n",
		  "/k|/i|a;/l||b;" },
		{ "if [ $x = y ]; then linux /k a; else linux /l b; fi", "/k||a;/l||b;" },
		{ "if true; then\n linux /k a\nfi\ninitrd /i", "/k|/i|a;" },
		{ "menuentry 'linux /m c' { echo linux /n; linux /k a }", "/k||a;" },
		{ "linux /k a | cat; linux /l b && linux /m c", "/k||a;/l||b;/m||c;" },
		{ "while x; do linux /k a; done", "/k||a;" },
		/* initrds */
		{ "linux /k a\ninitrd /u /i\n", "/k|/u,/i|a;" },
		{ "linux /k a\ninitrd /1 /2 /3 /4 /5\n", "/k|/1,/2,/3,/4+|a;" },
		{ "initrd /i\nlinux /k a\n", "/k||a;" },
		/* nothing */
		{ "linux /k", "/k||?;" },
		{ "linux", "" },
		{ "linux\n/k a", "" },
		{ "linuxx /k a", "" },
		{ "chainloader /EFI/x.efi\n", "" },
		{ "}}}} ;;; {{{ \\", "" },
		{ "", "" },
	};

	entries_are(t, N(t), parse_grub);
}

/* GRUB manual, "Shell-like scripting" and "Environment block"; forms of Fedora, NixOS, RAUC and by hand. */
Test(distro, grub_variables)
{
	static const struct row t[] = {
		/* in the name of a device */
		{ "linux ($root)/vmlinuz-1 a\ninitrd (${root})/i", "/vmlinuz-1|/i|a;" },
		{ "search --set=drive1 --fs-uuid X\nlinux ($drive1)//k/bzImage init=/x a\n",
		  "//k/bzImage||init=/x a;" },
		{ "linux ($root/k a\n", "" },
		{ "linux ($root)$x/k a\n", "||a;" },
		/* one value */
		{ "set r=1-2\nlinux /k root=UUID=$r ro\n", "/k||root=UUID=1-2 ro;" },
		{ "r=1-2\nlinux /k root=UUID=${r}\n", "/k||root=UUID=1-2;" },
		{ "linux /k root=$r\nset r=LABEL=x\n", "/k||root=LABEL=x;" },
		{ "set a=x\nset b=$a-y\nlinux /k $b\n", "/k||x-y;" },
		{ "set v=6.1\nlinux /vmlinuz-$v a\ninitrd /initrd-$v",
		  "/vmlinuz-6.1|/initrd-6.1|a;" },
		{ "set a=x\nif true; then\n set a=x\nfi\nlinux /k $a\n", "/k||x;" },
		{ "function f {\n set a=x\n}\nlinux /k $a\n", "/k||x;" },
		/* a value of several words splits without quotes */
		{ "A=\"root=LABEL=B quiet\"\nlinux /k $A b\n", "/k||root=LABEL=B quiet b;" },
		{ "A=\"root=LABEL=B quiet\"\nlinux /k \"$A\" b\n",
		  "/k||\"root=LABEL=B quiet\" b;" },
		{ "A='/k a'\nlinux $A b\n", "/k||a b;" },
		{ "set i='/u /i'\nlinux /k a\ninitrd $i\n", "/k|/u,/i|a;" },
		{ "set e=\nlinux /k a $e b x=$e\n", "/k||a b x=;" },
		{ "set a=\"it's; {b}\"\nlinux /k $a\n", "/k||it's; {b};" },
		/* several values */
		{ "set r=1\nset r=2\nlinux /k root=$r ro\n", "/k||root=$r ro;" },
		{ "set a=\nset a=x\nlinux /k root=b $a\n", "/k||root=b$;" },
		{ "set a=$b\nlinux /k root=x $a\n", "/k||root=x$;" },
		/* an entry's own */
		{ "menuentry A {\n set r=1\n linux /k root=$r\n}\n"
		  "menuentry B {\n set r=2\n linux /l root=$r\n}\n",
		  "/k||root=1;/l||root=2;" },
		{ "set r=0\nmenuentry A { set r=x; linux /k $r }\nmenuentry B { linux /l $r }",
		  "/k||x;/l||0;" },
		{ "submenu S { menuentry A { set r=x; linux /k $r }\nmenuentry B { linux /l $r } }",
		  "/k||x;/l||?$;" },
		{ "menuentry A { set r=1; if x; then set r=2; fi; linux /k a $r }", "/k||a$;" },
		/* other commands that set them */
		{ "set x=1\nsearch --label --set=x root\nlinux /k a $x\n", "/k||a$;" },
		{ "set x=1\nsearch --set x -l root\nlinux /k a $x\n", "/k||a$;" },
		{ "set x=1\nread x\nlinux /k a $x\n", "/k||a$;" },
		{ "x=1; for x in 2 3; do linux /k a $x; done\n", "/k||a$;" },
		{ "set x=1\nregexp --set=1:x '(.*)' a\nlinux /k a $x\n", "/k||a$;" },
		/* grubenv comes first */
		{ "load_env\nlinux /k root=$saved $both\n", "/k||root=env env;" },
		{ "set both=file\nlinux /k $both\n", "/k||env;" },
		{ "if [ -z \"$new\" ]; then\n set new='x y'\nfi\nlinux /k $new\n", "/k||x y;" },
		{ "menuentry A { set both=own; linux /k $both }\n", "/k||own;" },
		/* root= is never left out in silence */
		{ "linux /k root=UUID=$u ro\n", "/k||root=UUID=$u ro;" },
		{ "linux /k \"root=LABEL=\303\266 x\" ro\n",
		  "/k||\"root=LABEL=\\303\\266 x\" ro;" },
		{ "linux /k root=LABEL=gr\303\266\303\237e ro\n",
		  "/k||root=LABEL=gr\\303\\266\\303\\237e ro;" },
	};

	entries_are(t, N(t), parse_grub);
}

Test(distro, grub_settings)
{
	char *text = distro_grub_settings(
		"set tuned_params=\"a b\"\nif x; then\nkernelopts='root=x'\n"
		"fi\nset two=1\nset two=2\nset lines='a\nb'\n"
		"menuentry A {\n set own=1\n}\n");

	cr_assert_str_eq(text, "tuned_params=a b\nkernelopts=root=x\n");
	free(text);
	text = distro_grub_settings("");
	cr_assert_str_eq(text, "");
	free(text);
}

/* Boot Loader Specification, "Type #1"; $kernelopts and $tuned_* are Fedora's. */
Test(distro, loader_entries)
{
	static const char env[] = "# GRUB\nkernelopts=root=/dev/sda1 ro\nother=$kernelopts\n";
	static const struct row t[] = {
		{ "title X\nlinux /k\noptions a b\noptions c\n", "/k||a b c;" },
		{ "linux /boot/k\noptions $kernelopts $tuned_params q\n",
		  "/boot/k||root=/dev/sda1 ro q$;" },
		{ "linux /k\noptions ${kernelopts} q\n", "/k||root=/dev/sda1 ro q;" },
		{ "linux /k\noptions $other x\n", "/k||x$;" },
		{ "linux /k\noptions $kern $ ${} ${kernelopts}x y\n", "/k||y$;" },
		{ "linux /k\noptions root=$nothing y\n", "/k||root=$nothing y;" },
		{ "linux /k\noptions root=LABEL=\303\266 y\n", "/k||root=LABEL=\\303\\266 y;" },
		{ "linux\t/5a6b/6.12.9/linux\ninitrd  /5a6b/6.12.9/initrd\noptions a\n",
		  "/5a6b/6.12.9/linux|/5a6b/6.12.9/initrd|a;" },
		{ "linux /k\ninitrd /u\ninitrd /i\noptions a\n", "/k|/u,/i|a;" },
		{ "linux /k\ninitrd /i $tuned_initrd\noptions a\n", "/k|/i|a;" },
		{ "# linux /x\n\nlinux /k\n#options b\noptions a # b\n", "/k||a # b;" },
		{ "options a\nlinux /k\nversion 6.1\n", "/k||a;" },
		{ "LINUX /k\nOptions a\n", "/k||a;" },
		{ "linux /k\r\noptions a b\r\n", "/k||a b;" },
		{ "  linux /k\n  options a\n", "/k||a;" },
		{ "linux /k\n", "/k||?;" },
		{ "linux /k\noptions single\n", "" },
		{ "efi /EFI/x.efi\noptions a\n", "" },
		{ "options a\n", "" },
		{ "", "" },
	};

	for (size_t i = 0; i < N(t); i++) {
		char got[4096] = "";
		struct distro_entry e;

		if (distro_bls_entry(t[i].text, env, &e))
			write_entry(got, &e);
		cr_expect_str_eq(got, t[i].entries, "row %zu: %s", i, t[i].text);
	}
}

/* Syslinux wiki, "Config" and "Directives"; U-Boot and Alpine write the same form. */
Test(distro, syslinux)
{
	static const struct row t[] = {
		{ "DEFAULT a\nLABEL lts\n  LINUX vmlinuz-lts\n  INITRD i\n"
		  "  APPEND root=UUID=x modules=ext4\n",
		  "vmlinuz-lts|i|root=UUID=x modules=ext4;" },
		{ "label l\nkernel /vmlinuz\nappend initrd=/initrd.img root=/dev/sda1 nosmt\n",
		  "/vmlinuz|/initrd.img|initrd=/initrd.img root=/dev/sda1 nosmt;" },
		{ "label a\nkernel k\nlabel b\nkernel l\nappend x\n", "k||?;l||x;" },
		{ "label a\nappend x\nkernel k\n", "k||x;" },
		{ "append g\nlabel a\nkernel k\nlabel b\nkernel l\nappend x\n", "k||g;l||x;" },
		{ "append g\nlabel a\nkernel k\nappend -\n", "k||;" },
		{ "label a\nkernel k\nappend -x\n", "k||-x;" },
		{ "label a\nkernel k\nappend x\nappend y\n", "k||y;" },
		{ "label a\nkernel k\nappend single\nlabel b\nkernel k\nappend b\n", "k||b;" },
		{ "label a\nkernel k\nappend initrd=/u,/i a\n", "k|/u,/i|initrd=/u,/i a;" },
		{ "label a\nkernel k\ninitrd /u,/i\nappend initrd=/x a\n", "k|/u,/i|initrd=/x a;" },
		{ "label a\nlinux ../k\nfdt /x.dtb\nappend a=\"b c\"\n", "../k||a=\"b c\";" },
		{ "# label\nlabel a\n menu label ^A\n kernel k\n append a\nmenu default\n",
		  "k||a;" },
		{ "label a\r\nkernel k\r\nappend a b\r\n", "k||a b;" },
		{ "label a\nmenu label b\nkernel menu.c32\n", "menu.c32||?;" },
		{ "kernel k\nappend a\n", "k||a;" },
		{ "append a\n", "" },
		{ "", "" },
	};

	entries_are(t, N(t), distro_syslinux_entries);
}

Test(distro, syslinux_include)
{
	static const struct {
		const char *line, *path;
	} t[] = {
		{ "include linux.cfg\nlabel a\n", "linux.cfg" },
		{ "  INCLUDE\t/boot/extlinux/a.cfg tag\n", "/boot/extlinux/a.cfg" },
		{ "MENU INCLUDE graphics.conf Graphics\n", "graphics.conf" },
		{ "menu  include a.cfg\r\n", "a.cfg" },
		{ "include\nlinux.cfg\n", "" },
		{ "include \nlinux.cfg\n", "" },
		{ "includes a.cfg\n", "" },
		{ "# include a.cfg\n", "" },
		{ "menu label include a.cfg\n", "" },
		{ "label include\n", "" },
		{ "menu\ninclude a.cfg\n", "" },
		{ "", "" },
	};

	for (size_t i = 0; i < N(t); i++) {
		char path[DISTRO_PATH_MAX] = "x";

		cr_expect_eq(distro_syslinux_include(t[i].line, path), *t[i].path != 0, "row %zu",
			     i);
		cr_expect_str_eq(path, t[i].path, "row %zu", i);
	}
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
	distro_split_options("quiet \"root=LABEL=my root\" \"rw\" \"a b\" -- ro root=x console=y",
			     &o);
	cr_assert_str_eq(o.rest, "quiet \"a b\" -- ro root=x console=y");
	cr_assert_str_eq(o.root, "LABEL=my root");
	cr_assert_eq(o.rw, 1);
	memset(longest, 'x', 600);
	memcpy(longest, "root=", 5);
	distro_split_options(longest, &o);
	cr_assert_str_eq(o.root, "$");
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
	static const char *const folders[] = { "/boot",	 "/boot/",    "/boot//",
					       "//boot", "/\\142oot", "\t/boot\t" };
	char spec[16];

	cr_assert(distro_fstab(tab, "/", spec, sizeof(spec)));
	cr_assert_str_eq(spec, "UUID=a");
	cr_assert(distro_fstab(tab, "/boot", spec, sizeof(spec)));
	cr_assert_str_eq(spec, "LABEL=\"a b\"");
	cr_assert(distro_fstab(tab, "/var", spec, sizeof(spec)));
	cr_assert_not(distro_fstab(tab, "/home", spec, sizeof(spec)));
	cr_assert_not(distro_fstab("UUID=0123456789abcdef / ext4", "/", spec, sizeof(spec)));
	/* The same folder, as mount(8) and fstab(5) understand it; a name that is not ASCII. */
	for (size_t i = 0; i < N(folders); i++) {
		char line[80];

		snprintf(line, sizeof(line), "LABEL=\303\266 %s ext4 defaults 0 2\n", folders[i]);
		cr_expect(distro_fstab(line, "/boot", spec, sizeof(spec)), "%s", folders[i]);
		cr_expect_str_eq(spec, "LABEL=\\303\\266");
	}
	cr_assert_not(
		distro_fstab("LABEL=a /boot/efi vfat\nLABEL=b /bo", "/boot", spec, sizeof(spec)));
	cr_assert(distro_fstab("LABEL=a // ext4", "/", spec, sizeof(spec)));
}
