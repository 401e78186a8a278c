/*
 * test_giveup_lists: the helper programs' filters say what their lists (*.calls) say: each line, with other bits where it
 * says nothing, and with each bit wrong of which it says something; and no other call passes.
 */
#include <criterion/criterion.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tools/giveup/giveup.h"
#include "tools/giveup/list_words.h"

#define MAX_ARGS 4

struct cond {
	unsigned n, set;
	uint64_t mask, value;
};

struct rule {
	unsigned helpers;
	bool fails;
	const char *name;
	long call;
	struct cond cond[MAX_ARGS + 1];
};

#define PID getpid()
#define BITS(n, m, v)                                                                              \
	{                                                                                          \
		n, 1, (uint64_t)(m), (uint64_t)(v)                                                 \
	}
#define EXACT(n, v) BITS(n, UINT64_MAX, v)
#define IS(n, v) BITS(n, UINT32_MAX, (uint32_t)(v))
#define LINE(helpers, fails, call, ...) { helpers, fails, #call, SYS_##call, { __VA_ARGS__ } },
#define CALL(helpers, call) LINE(helpers, false, call, { 0 })
#define CALL_IF(helpers, call, ...) LINE(helpers, false, call, __VA_ARGS__)
#define OLD CALL
#define OLD_IF CALL_IF
#define FAIL(helpers, call, error) LINE(helpers, true, call, { 0 })

static const struct {
	const struct giveup_filter *filter;
	unsigned who;
} helpers[] = { { &giveup_net_user, NET_USER },
		{ &giveup_net_names, NET_NAMES },
		{ &giveup_fs_reader, FS_READER },
		{ &giveup_image_looks, IMAGE_LOOKS },
		{ &giveup_image_makes, IMAGE_MAKES },
		{ &giveup_image_changes, IMAGE_CHANGES },
		{ &giveup_seed, SEED } };
#define HELPERS (sizeof(helpers) / sizeof(helpers[0]))

static bool matches(const struct rule *r, long nr, const uint64_t arg[6])
{
	if (r->fails || r->call != nr)
		return false;
	for (const struct cond *c = r->cond; c->set; c++)
		if ((arg[c->n] & c->mask) != c->value)
			return false;
	return true;
}

static void same(const struct rule *rules, size_t n, unsigned k, long nr, const uint64_t arg[6])
{
	bool listed = false;

	for (size_t i = 0; i < n && !listed; i++)
		listed = rules[i].helpers & helpers[k].who && matches(&rules[i], nr, arg);
	cr_expect_eq(giveup_permits(helpers[k].filter, (int)nr, arg), listed,
		     "helper %#x: %ld(%#llx, %#llx, %#llx)", helpers[k].who, nr,
		     (unsigned long long)arg[0], (unsigned long long)arg[1],
		     (unsigned long long)arg[2]);
}

Test(giveup_lists, each_line_and_nothing_else)
{
	const struct rule rules[] = {
#include "helper_calls.inc"
	};
	const size_t n = sizeof(rules) / sizeof(rules[0]);

	cr_assert_gt(n, 50);
	for (size_t at = 0; at < n * HELPERS; at++) {
		const struct rule *r = &rules[at / HELPERS];
		unsigned k = at % HELPERS;
		uint64_t arg[6] = { 0 };

		for (const struct cond *c = r->cond; c->set; c++)
			arg[c->n] = c->value;
		same(rules, n, k, r->call, arg);
		if (r->helpers & helpers[k].who)
			cr_expect_eq(giveup_permits(helpers[k].filter, (int)r->call, arg),
				     !r->fails, "helper %#x: %s", helpers[k].who, r->name);
		for (const struct cond *c = r->cond; c->set; c++)
			arg[c->n] |= ~c->mask;
		same(rules, n, k, r->call, arg);
		for (const struct cond *c = r->cond; c->set; c++) {
			for (unsigned bit = 0; bit < 64; bit++) {
				arg[c->n] ^= 1ull << bit;
				same(rules, n, k, r->call, arg);
				arg[c->n] ^= 1ull << bit;
			}
		}
	}
	for (long nr = 0; nr < 1024; nr++) {
		for (unsigned k = 0; k < 2 * HELPERS; k++) {
			uint64_t arg[6];

			memset(arg, k & 1 ? 0xff : 0, sizeof(arg));
			same(rules, n, k / 2, nr, arg);
		}
	}
}

/* A filter without an end, and one with what libseccomp does not make: refusals. */
Test(giveup_lists, no_end_and_strange_instructions)
{
	static const struct giveup_filter empty = { 0 };
	static const struct giveup_filter cut = { 1, { { BPF_LD | BPF_W | BPF_ABS, 0, 0, 0 } } };
	static const struct giveup_filter outside = {
		2, { { BPF_LD | BPF_W | BPF_ABS, 0, 0, 64 }, { BPF_RET | BPF_K, 0, 0, 0x7fff0000 } }
	};
	static const struct giveup_filter far = { 1, { { BPF_JMP | BPF_JA, 0, 0, 1000 } } };
	static const struct giveup_filter strange = {
		2, { { BPF_ALU | BPF_NEG, 0, 0, 0 }, { BPF_RET | BPF_K, 0, 0, 0x7fff0000 } }
	};
	static const struct giveup_filter all = { 1, { { BPF_RET | BPF_K, 0, 0, 0x7fff0000 } } };
	const uint64_t arg[6] = { 0 };

	cr_expect(giveup_permits(&all, 0, arg));
	cr_expect_not(giveup_permits(&empty, 0, arg));
	cr_expect_not(giveup_permits(&cut, 0, arg));
	cr_expect_not(giveup_permits(&outside, 0, arg));
	cr_expect_not(giveup_permits(&far, 0, arg));
	cr_expect_not(giveup_permits(&strange, 0, arg));
}
