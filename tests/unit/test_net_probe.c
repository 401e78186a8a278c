/* probe: which ports of a guest answer; frames of a hostile guest. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bantam-net-user/probe.h"
#include "vmm/core/bytes.h"

TestSuite(net_probe, .timeout = 20);

static struct {
	unsigned sent;
	uint16_t port; /* of the last probe */
	uint8_t flags, mac[6];
	char answered[100];
} saw;

static void on_send(const void *frame, size_t len)
{
	const uint8_t *f = frame;

	cr_assert_eq(len, 54);
	saw.sent++;
	memcpy(saw.mac, f, 6);
	saw.port = get_be16(f + 36);
	saw.flags = f[47];
}

static void on_answered(unsigned index)
{
	size_t n = strlen(saw.answered);

	snprintf(saw.answered + n, sizeof(saw.answered) - n, "%u ", index);
}

static void begin(void)
{
	memset(&saw, 0, sizeof(saw));
	probe_open(on_send, on_answered);
}

/* A segment of the guest as it is right; the cases below change a byte or two. */
static const uint8_t good[54] = { 0x52, 0x55, 10, 0,  2, 2, 2,	0, 0, 0, 0,  1, 8, 0,  0x45, 0,
				  0,	40,   0,  0,  0, 0, 64, 6, 0, 0, 10, 0, 2, 15, 10,   0,
				  2,	2,    0,  22, 0, 1, 0,	0, 0, 0, 0,  0, 0, 1,  0x50, 0x12 };

/* Exactly as large as the frame, so that ASan sees a byte too many. */
static bool takes(const uint8_t *frame, size_t len, uint64_t now_ms)
{
	uint8_t *copy = malloc(len ? len : 1);
	bool ours;

	cr_assert(copy);
	memcpy(copy, frame, len);
	ours = probe_takes(copy, len, now_ms);
	free(copy);
	return ours;
}

Test(net_probe, frames)
{
	static const struct {
		const char *what;
		unsigned at[2];
		uint8_t to[2];
		bool ours, known;
		const char *answered;
	} table[] = {
		{ "SYN and ACK", { 0 }, { 0x52 }, true, true, "7 " },
		{ "ECN's bits beside them", { 47 }, { 0xd2 }, true, true, "7 " },
		{ "a RST", { 47 }, { 0x14 }, true, true, "" },
		{ "all three", { 47 }, { 0x16 }, true, true, "" },
		{ "an ACK", { 47 }, { 0x10 }, true, true, "" },
		{ "to another port of the gateway", { 37 }, { 2 }, false, true, "7 " },
		{ "to another host", { 33 }, { 3 }, false, true, "7 " },
		{ "of another port", { 35 }, { 23 }, false, true, "" },
		{ "of another guest", { 29 }, { 16 }, false, false, "" },
		{ "UDP", { 23 }, { 17 }, false, true, "" },
		{ "a fragment", { 21 }, { 1 }, false, true, "" },
		{ "the first fragment", { 20 }, { 0x20 }, false, true, "" },
		{ "do not fragment", { 20 }, { 0x40 }, true, true, "7 " },
		{ "IPv6", { 14 }, { 0x65 }, false, false, "" },
		{ "a header of no bytes", { 14 }, { 0x40 }, false, true, "" },
		{ "a header that goes beyond the frame", { 14 }, { 0x4f }, false, true, "" },
		{ "another type", { 13 }, { 1 }, false, false, "" },
		{ "ARP of another guest", { 13 }, { 6 }, false, false, "" },
		{ "ARP", { 13, 31 }, { 6, 15 }, false, true, "" },
	};
	uint8_t f[sizeof(good)];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		memcpy(f, good, sizeof(f));
		for (unsigned k = 0; k < 2 && table[i].to[k]; k++)
			f[table[i].at[k]] = table[i].to[k];
		if (f[13] == 6 && table[i].known)
			memcpy(f + 28, "\x0a\0\x02\x0f", 4);
		begin();
		probe_add(22, 7);
		cr_expect_eq(probe_tick(1), UINT32_MAX, "%s: nobody is there", table[i].what);
		cr_expect_eq(takes(f, sizeof(f), 1), table[i].ours, "%s", table[i].what);
		cr_expect_str_eq(saw.answered, table[i].answered, "%s", table[i].what);
		cr_expect_eq(saw.sent, table[i].ours && *table[i].answered, "%s: a RST",
			     table[i].what);
		cr_expect_eq(probe_tick(1) == PROBE_EVERY_MS, table[i].known && !*table[i].answered,
			     "%s", table[i].what);
	}
	/* Each length, with and without the longest header. */
	for (unsigned header = 5; header <= 15; header += 10)
		for (size_t len = 0; len <= 100; len++) {
			uint8_t long_one[100] = { 0 };

			memcpy(long_one, good, sizeof(good));
			long_one[14] = (uint8_t)(0x40 | header);
			memcpy(long_one + 14 + 4 * header, good + 34, 20);
			begin();
			probe_add(22, 0);
			takes(long_one, len, 1);
			cr_expect_str_eq(saw.answered, len >= 14 + 4 * header + 20 ? "0 " : "");
		}
}

/* Any bytes: nothing is read beyond them, and at most each port answers once. */
Test(net_probe, noise)
{
	uint32_t state = 1;
	uint8_t f[120];

	begin();
	for (unsigned i = 0; i < 2 * PROBE_PORTS; i++)
		probe_add((uint16_t)(i + 1), i);
	for (unsigned i = 0; i < 200000; i++) {
		for (unsigned k = 0; k < 4; k++) {
			state = state * 1664525 + 1013904223;
			if (!(i & 3) && !k)
				memcpy(f, good, sizeof(good));
			f[(state >> 8) % sizeof(f)] = (uint8_t)(state >> 24);
		}
		takes(f, (state >> 16) % sizeof(f), i);
		probe_tick(i);
	}
	cr_expect_leq(strlen(saw.answered), sizeof("0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 ") - 1);
}

Test(net_probe, times_and_ports)
{
	uint64_t now = 5000;

	/* Without a person nothing is looked at. */
	memset(&saw, 0, sizeof(saw));
	probe_open(NULL, NULL);
	probe_add(22, 0);
	cr_expect(!takes(good, sizeof(good), now));
	cr_expect_eq(probe_tick(now), UINT32_MAX);

	begin();
	probe_add(80, 1);
	probe_add(22, 2);
	probe_add(80, 3);
	cr_expect(takes(good, sizeof(good), now));
	cr_expect_str_eq(saw.answered, "2 ");
	saw.sent = 0;
	cr_expect_eq(probe_tick(now), PROBE_EVERY_MS);
	cr_expect_eq(saw.sent, 2);
	cr_expect_eq(saw.flags, 2);
	cr_expect_eq(saw.port, 80);
	cr_expect_arr_eq(saw.mac, good + 6, 6);
	/* Once a second, however often the loop turns. */
	cr_expect_eq(probe_tick(now + 400), 600);
	cr_expect_eq(probe_tick(now + 999), 1);
	cr_expect_eq(saw.sent, 2);
	cr_expect_eq(probe_tick(now + 1000), PROBE_EVERY_MS);
	cr_expect_eq(saw.sent, 4);
	/* What answered is not asked again, and its frames are the network's. */
	cr_expect(!takes(good, sizeof(good), now + 1000));
	/* The guest has its peace. */
	cr_expect_eq(probe_tick(now + PROBE_PATIENCE_MS - 1), PROBE_EVERY_MS);
	cr_expect_eq(probe_tick(now + PROBE_PATIENCE_MS), UINT32_MAX);
	cr_expect_eq(saw.sent, 6);
}
