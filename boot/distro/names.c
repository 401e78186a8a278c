/* names: of kernels and initrds, and their order by version. See distro.h. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "boot/distro/distro.h"

static bool starts(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

static bool ends(const char *s, const char *suffix)
{
	size_t len = strlen(s), n = strlen(suffix);

	return len >= n && !strcmp(s + len - n, suffix);
}

const char *distro_kernel_version(const char *name)
{
	static const char *const prefixes[] = { "vmlinuz", "vmlinux", "kernel", "bzImage" };
	static const char *const aside[] = { ".old",	  ".bak",      ".orig",	      ".sig",
					     ".sign",	  ".hmac",     ".sha512hmac", ".rpmsave",
					     ".rpmnew",	  ".rpmorig",  "~",	      ".img",
					     ".dpkg-new", ".dpkg-old", ".dpkg-tmp",   ".dpkg-dist",
					     ".dpkg-bak", ".tmp",      ".efi" };
	const char *version = NULL;

	for (size_t i = 0; !version && i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (starts(name, prefixes[i]))
			version = name + strlen(prefixes[i]);
	if (!version || (*version && *version != '-') || !strcmp(version, "-"))
		return NULL;
	for (size_t i = 0; i < sizeof(aside) / sizeof(aside[0]); i++)
		if (ends(name, aside[i]))
			return NULL;
	return *version ? version + 1 : version;
}

bool distro_is_rescue(const char *version)
{
	return strstr(version, "rescue") != NULL;
}

/* Returns how the character at s sorts, in a part of a version that is not a number. */
static int weight(const char *s)
{
	unsigned char c = (unsigned char)*s;

	if (c == '~')
		return -2;
	/* The dash of 6.12-rc1 sorts before the end of 6.12. */
	if (c == '-' && ((starts(s, "-rc") && isdigit((unsigned char)s[3])) ||
			 (starts(s, "-pre") && isdigit((unsigned char)s[4]))))
		return -1;
	if (!c || isdigit(c))
		return 0;
	return isalpha(c) ? c : c + 256;
}

int distro_compare_versions(const char *a, const char *b)
{
	while (*a || *b) {
		size_t na, nb;
		int diff;

		while ((*a && !isdigit((unsigned char)*a)) || (*b && !isdigit((unsigned char)*b))) {
			diff = weight(a) - weight(b);
			if (diff)
				return diff;
			a += *a != 0;
			b += *b != 0;
		}
		a += strspn(a, "0");
		b += strspn(b, "0");
		na = strspn(a, "0123456789");
		nb = strspn(b, "0123456789");
		if (na != nb)
			return na < nb ? -1 : 1;
		diff = strncmp(a, b, na);
		if (diff)
			return diff;
		a += na;
		b += nb;
	}
	return 0;
}

bool distro_initrd_name(unsigned i, const char *version, char *name, size_t len)
{
	/* Debian; Fedora, Arch; SUSE; Alpine; others. */
	static const char *const forms[][2] = {
		{ "initrd.img", "" }, { "initramfs", ".img" }, { "initrd", "" },
		{ "initramfs", "" },  { "initrd", ".img" },
	};

	if (i >= sizeof(forms) / sizeof(forms[0]))
		return false;
	return snprintf(name, len, "%s%s%s%s", forms[i][0], *version ? "-" : "", version,
			forms[i][1]) < (int)len;
}
