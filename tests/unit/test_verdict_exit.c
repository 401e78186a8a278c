/* test_verdict_exit: the exit status of each verdict under each policy, and the lists of names. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "vmm/verdict/verdict.h"

/* bisect: without lists; listed: --bad panicked,splat --skip failed. */
static const struct {
	const char *name;
	int standard, strict, bisect, listed;
} table[] = {
	{ "passed", 0, 0, 0, 0 },
	{ "failed", 7, 1, 1, 125 },
	{ "signalled", 137, 1, 1, 125 },
	{ "not-found", 127, 1, 1, 125 },
	{ "not-executable", 126, 1, 1, 125 },
	{ "panicked", 240, 1, 1, 1 },
	{ "splat", 241, 1, 1, 1 },
	{ "hung", 124, 1, 1, 125 },
	{ "boot-timeout", 124, 1, 1, 125 },
	{ "timeout", 124, 1, 1, 125 },
	{ "died-before-init", 242, 1, 1, 125 },
	{ "rebooted", 245, 1, 1, 125 },
	{ "powered-off", 245, 1, 1, 125 },
	{ "triple-fault", 243, 1, 1, 125 },
	{ "out-of-memory", 244, 1, 1, 125 },
	{ "agent-lost", 246, 1, 1, 125 },
	{ "interrupted", 137, 125, 137, 137 },
	{ "skipped", 0, 0, 125, 125 },
	{ "error", 125, 125, 125, 125 },
};

static int status(int mode, const char *bad, const char *skip, const struct verdict_result *r)
{
	struct verdict_policy policy = { 0 };
	struct err err = { "" };

	policy.mode = mode;
	cr_assert(!bad || !verdict_policy_list("--bad", bad, &policy.bad, &err), "%s", err.text);
	cr_assert(!skip || !verdict_policy_list("--skip", skip, &policy.skip, &err), "%s",
		  err.text);
	cr_assert(!verdict_policy_check(&policy, &err), "%s", err.text);
	return verdict_exit_status(&policy, r);
}

Test(verdict_exit, table)
{
	cr_assert_eq(sizeof(table) / sizeof(table[0]), VERDICT_KINDS);
	for (unsigned k = 0; k < VERDICT_KINDS; k++) {
		struct verdict_result r = { .kind = k, .status = 7, .signal = 9 };
		const char *name = table[k].name;

		cr_expect_str_eq(verdict_name(k), name);
		cr_expect_eq(status(VERDICT_EXIT_DEFAULT, NULL, NULL, &r), table[k].standard, "%s",
			     name);
		cr_expect_eq(status(VERDICT_EXIT_STRICT, NULL, NULL, &r), table[k].strict, "%s",
			     name);
		cr_expect_eq(status(VERDICT_EXIT_BISECT, NULL, NULL, &r), table[k].bisect, "%s",
			     name);
		cr_expect_eq(status(VERDICT_EXIT_BISECT, "panicked,splat", "failed", &r),
			     table[k].listed, "%s", name);
	}
}

Test(verdict_exit, each_status_and_signal)
{
	for (int i = 0; i < 256; i++) {
		struct verdict_result r = { .kind = i ? VERDICT_FAILED : VERDICT_PASSED,
					    .status = i };

		cr_assert_eq(status(VERDICT_EXIT_DEFAULT, NULL, NULL, &r), i);
		cr_assert_eq(status(VERDICT_EXIT_STRICT, NULL, NULL, &r), i ? 1 : 0);
	}
	for (int i = 1; i <= 64; i++) {
		struct verdict_result r = { .kind = VERDICT_SIGNALLED, .status = -1, .signal = i };

		cr_assert_eq(status(VERDICT_EXIT_DEFAULT, NULL, NULL, &r), 128 + i);
	}
}

/* A fix is looked for as well as a mistake. */
Test(verdict_exit, passed_may_be_bad)
{
	struct verdict_result r = { .kind = VERDICT_PASSED };

	cr_assert_eq(status(VERDICT_EXIT_BISECT, "passed", NULL, &r), 1);
}

Test(verdict_exit, mistakes)
{
	static const struct {
		const char *list, *says;
	} lists[] = {
		{ "panic", "did you mean \"panicked\"?" },
		{ "panicked,", "--bad: \"\" is no verdict; there are passed, failed," },
		{ "", "is no verdict" },
		{ ",panicked", "is no verdict" },
		{ "Panicked ", "is no verdict" },
		{ "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
		  "is no verdict" },
	};
	struct verdict_policy policy = { 0 };
	struct err err;
	uint32_t mask = 0;

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		cr_expect_eq(verdict_policy_list("--bad", lists[i].list, &mask, &err), -EINVAL);
		cr_expect(strstr(err.text, lists[i].says), "%s", err.text);
	}
	cr_assert_eq(verdict_policy_mode(&policy, "lax", &err), -EINVAL);
	cr_assert_str_eq(err.text, "--exit lax: it is default, strict or bisect");
	cr_assert_eq(verdict_policy_mode(&policy, "strict", &err), 0);
	policy.bad = 1;
	cr_assert_eq(verdict_policy_check(&policy, &err), -EINVAL);
	cr_assert_str_eq(err.text, "--bad is for --exit bisect");
	cr_assert_eq(verdict_policy_mode(&policy, "bisect", &err), 0);
	policy.skip = 3;
	cr_assert_eq(verdict_policy_check(&policy, &err), -EINVAL);
	cr_assert_str_eq(err.text, "--bad and --skip both have \"passed\"");
	cr_assert_eq(verdict_policy_mode(&policy, "default", &err), 0);
	cr_assert_eq(policy.mode, VERDICT_EXIT_DEFAULT);
}
