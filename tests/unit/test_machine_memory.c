/*
 * machine_memory: how guest memory is made from config.memory and the devices' needs, and what
 * config.platform leaves in it. Dry runs: no KVM is needed.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot/x86_64/layout.h"
#include "vmm/config.h"
#include "vmm/machine/machine_impl.h"

static struct config config;
static struct loop *loop;
static struct machine *m;
static struct err err;

/* args: what follows the kernel, separated by "|". */
static void configure(const char *args)
{
	char text[256] = "--dry-run|--memory|64M|--serial|null|--kernel|build/guest/poweroff.elf";
	char *argv[32], *at = text, *word;
	int argc = 0;

	snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", *args ? "|" : "", args);
	while ((word = strsep(&at, "|")))
		argv[argc++] = word;
	/* The helper is in build/; an instrumented test is in another folder. */
	setenv("BANTAM_LIBEXEC", "build", 0);
	config_clear(&config);
	cr_assert_eq(config_parse(&config, argc, argv, &err), 0, "%s", err.text);
}

static int build(void)
{
	struct machine_setup setup = { .config = &config };

	cr_assert_eq(loop_create(&loop, &err), 0, "%s", err.text);
	setup.loop = loop;
	return machine_create(&setup, &m, &err);
}

static void clear(void)
{
	machine_destroy(m);
	loop_destroy(loop);
	config_clear(&config);
}

/* shared: by the configuration or by a device; "a helper" is one of bantam's own. */
Test(machine_memory, shared)
{
	static const char daemon[] = "--fs|tag=t,socket=/nonexistent";
	static const struct {
		const char *args;
		struct config_memory memory;
		bool shared, sealed;
	} table[] = {
		{ "", { 0 }, false, false },
		{ "", { .shared = true }, true, true },
		{ "", { .mergeable = true, .prefault = true, .no_thp = true }, false, false },
		{ daemon, { 0 }, true, true },
		{ daemon, { .no_thp = true }, true, true },
		{ "--net|user", { .shared = true }, true, true },
		/* Without huge pages anyway, the memory that the helper shares can be sealed. */
		{ "--net|user", { .no_thp = true }, true, true },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int seals;

		configure(table[i].args);
		config.memory = table[i].memory;
		cr_assert_eq(build(), 0, "%s", err.text);
		cr_expect_eq(m->mem.total_bytes, 64 << 20);
		cr_expect_eq(m->mem.fd > 0, table[i].shared, "%u", (unsigned)i);
		seals = m->mem.fd > 0 ? fcntl(m->mem.fd, F_GET_SEALS) : 0;
		cr_expect_eq(seals > 0 && seals & F_SEAL_SHRINK, table[i].sealed, "%u",
			     (unsigned)i);
		clear();
	}
}

/* Returns whether the mapping of this address has the flag in /proc/self/smaps, such as " nh". */
static bool has_flag(const void *at, const char *flag)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	unsigned long long start, end;
	bool ours = false, found = false;
	char line[512];

	cr_assert_not_null(smaps);
	while (fgets(line, sizeof(line), smaps))
		if (sscanf(line, "%llx-%llx ", &start, &end) == 2)
			ours = start <= (uintptr_t)at && (uintptr_t)at < end;
		else if (ours && !strncmp(line, "VmFlags:", 8))
			found = strstr(line, flag);
	fclose(smaps);
	return found;
}

static uint64_t resident_bytes(void)
{
	FILE *statm = fopen("/proc/self/statm", "re");
	unsigned long size, pages;

	cr_assert_not_null(statm);
	cr_assert_eq(fscanf(statm, "%lu %lu", &size, &pages), 2);
	fclose(statm);
	return (uint64_t)pages << 12;
}

/* The option, and what it means for the first 16 MiB and for the rest; with off, little costs little. */
Test(machine_memory, hugepages)
{
	static const struct {
		const char *args;
		bool first, rest, none;
	} table[] = {
		{ "", false, true, false },
		{ "--hugepages|auto", false, true, false },
		{ "--hugepages|thp", true, true, false },
		{ "--hugepages|off", false, false, true },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		uint8_t *rest;
		uint64_t before;

		configure(table[i].args);
		cr_assert_eq(build(), 0, "%s", err.text);
		rest = m->mem.map + (32 << 20);
		cr_expect_eq(has_flag(m->mem.map, " hg"), table[i].first, "%s", table[i].args);
		cr_expect_eq(has_flag(m->mem.map + (15 << 20), " hg"), table[i].first, "%s",
			     table[i].args);
		cr_expect_eq(has_flag(rest, " hg"), table[i].rest, "%s", table[i].args);
		cr_expect_eq(has_flag(rest, " nh"), table[i].none, "%s", table[i].args);
		before = resident_bytes();
		memset(rest, 1, 96 << 10);
		if (table[i].none)
			cr_expect_leq(resident_bytes() - before, 256 << 10);
		clear();
	}
	configure("--hugepages|2M");
	if (build())
		cr_expect(strstr(err.text, "huge pages of 2M") || strstr(err.text, "huge pages:"),
			  "%s", err.text);
	else
		cr_expect_eq(has_flag(m->mem.map, " ht"), true);
	clear();
}

Test(machine_memory, too_few_huge_pages)
{
	configure("");
	config.memory.hugepages = true;
	config.memory.hugepage_bytes = 32 << 20;
	cr_expect_eq(build(), -EINVAL);
	cr_expect(strstr(err.text, "no huge pages of 32M"), "%s", err.text);
	cr_expect_null(m);
	clear();
}

Test(machine_memory, platform)
{
	static const uint8_t zero[LAYOUT_SMBIOS_BYTES];
	const uint8_t *at;

	configure("");
	cr_assert_eq(build(), 0, "%s", err.text);
	at = mem_slice(&m->mem, gpa(LAYOUT_SMBIOS), sizeof(zero));
	cr_expect_eq(memcmp(at, zero, sizeof(zero)), 0, "no platform, no tables");
	clear();

	configure("");
	config.platform.sku_number = strdup("the sku");
	config.platform.oem_string = calloc(1, sizeof(char *));
	config.platform.oem_string[0] = strdup("the credential");
	config.platform.noem_strings = 1;
	cr_assert_eq(build(), 0, "%s", err.text);
	at = mem_slice(&m->mem, gpa(LAYOUT_SMBIOS), sizeof(zero));
	cr_expect_eq(memcmp(at, "_SM3_", 5), 0);
	cr_expect(memmem(at, sizeof(zero), "the sku", 8));
	cr_expect(memmem(at, sizeof(zero), "the credential", 15));
	clear();

	configure("");
	config.platform.uuid = strdup("none");
	cr_expect_eq(build(), -EINVAL);
	cr_expect(strstr(err.text, "uuid \"none\""), "%s", err.text);
	clear();
}
