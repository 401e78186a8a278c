/*
 * agent_facts: what the agent tells the host of the kernel. Part of agent.c.
 */
#ifndef GUEST_AGENT_FACTS_H
#define GUEST_AGENT_FACTS_H

#include "guest/setup.h"

static uint64_t clock_ns(int clock)
{
	struct sys_timespec ts = { 0, 0 };

	SYS(clock_gettime, clock, &ts);
	return (uint64_t)ts.sec * 1000000000u + (uint64_t)ts.nsec;
}

static uint64_t number_in(const char *path)
{
	char text[32];

	return file_read(path, text, sizeof(text)) > 0 ? str_number(text) : 0;
}

/* The kernel's vmcoreinfo, 0 if it has none. The file: two numbers in hexadecimal, without 0x. */
static void coreinfo(uint64_t *addr, uint64_t *bytes)
{
	char text[64] = "0x", *second = text;

	*addr = *bytes = 0;
	if (file_read("/sys/kernel/vmcoreinfo", text + 2, sizeof(text) - 2) <= 0)
		return;
	while (*second && *second != ' ')
		second++;
	if (!*second)
		return;
	*addr = str_number(text);
	second[-1] = '0'; /* "0x" before the second number, too */
	second[0] = 'x';
	*bytes = str_number(second - 1);
}

/* Writes what the modules that are not loaded say. Returns its length. */
static uint32_t failed_modules(char *buf, uint32_t size)
{
	char more[32] = "";

	if (setup_failed.n > 1)
		fmt_buf(more, sizeof(more), "; %u more", setup_failed.n - 1);
	return (uint32_t)fmt_buf(buf, size, "the module %s cannot be loaded: error %ld%s",
				 setup_failed.path, -setup_failed.err, more);
}

static uint64_t oom_kills(void)
{
	static char text[16 << 10];
	char *at = text;

	if (file_read("/proc/vmstat", text, sizeof(text)) <= 0)
		return 0;
	while (*at && !str_starts(at, "oom_kill "))
		while (*at && *at++ != '\n')
			;
	return *at ? str_number(at + 9) : 0;
}

#endif
