/*
 * verdict/exit: names of the verdicts, and the exit status that a policy makes of one; see verdict.h.
 */
#include <errno.h>
#include <string.h>

#include "vmm/core/parse.h"
#include "vmm/verdict/verdict.h"

#define COULD_NOT_RUN 125 /* git bisect run skips it */

_Static_assert(VERDICT_KINDS <= 32, "a list of verdicts is a mask");

/* What a verdict is to strict and bisect. */
enum meaning { GOOD, WRONG, NOT_RUN };

static const struct {
	char name[20];
	uint8_t status; /* of the default policy; 0 of a command: its own */
	uint8_t meaning;
} table[VERDICT_KINDS] = {
	[VERDICT_PASSED] = { "passed", 0, GOOD },
	[VERDICT_FAILED] = { "failed", 0, WRONG },
	[VERDICT_SIGNALLED] = { "signalled", 0, WRONG },
	[VERDICT_NOT_FOUND] = { "not-found", 127, WRONG },
	[VERDICT_NOT_EXECUTABLE] = { "not-executable", 126, WRONG },
	[VERDICT_PANICKED] = { "panicked", 240, WRONG },
	[VERDICT_SPLAT] = { "splat", 241, WRONG },
	[VERDICT_HUNG] = { "hung", 124, WRONG },
	[VERDICT_BOOT_TIMEOUT] = { "boot-timeout", 124, WRONG },
	[VERDICT_TIMEOUT] = { "timeout", 124, WRONG },
	[VERDICT_DIED_BEFORE_INIT] = { "died-before-init", 242, WRONG },
	[VERDICT_REBOOTED] = { "rebooted", 245, WRONG },
	[VERDICT_POWERED_OFF] = { "powered-off", 245, WRONG },
	[VERDICT_TRIPLE_FAULT] = { "triple-fault", 243, WRONG },
	[VERDICT_OUT_OF_MEMORY] = { "out-of-memory", 244, WRONG },
	[VERDICT_AGENT_LOST] = { "agent-lost", 246, WRONG },
	[VERDICT_INTERRUPTED] = { "interrupted", 0, NOT_RUN },
	[VERDICT_SKIPPED] = { "skipped", 0, NOT_RUN },
	[VERDICT_ERROR] = { "error", COULD_NOT_RUN, NOT_RUN },
};

const char *verdict_name(enum verdict_kind kind)
{
	return kind < VERDICT_KINDS ? table[kind].name : "";
}

int verdict_policy_mode(struct verdict_policy *policy, const char *text, struct err *err)
{
	if (!strcmp(text, "default"))
		policy->mode = VERDICT_EXIT_DEFAULT;
	else if (!strcmp(text, "strict"))
		policy->mode = VERDICT_EXIT_STRICT;
	else if (!strcmp(text, "bisect"))
		policy->mode = VERDICT_EXIT_BISECT;
	else
		return err_set(err, EINVAL, "--exit %s: it is default, strict or bisect", text);
	return 0;
}

static int unknown(const char *option, const char *name, struct err *err)
{
	const char *names[VERDICT_KINDS], *near;
	char all[300] = "";

	for (unsigned k = 0; k < VERDICT_KINDS; k++) {
		names[k] = table[k].name;
		strcat(strcat(all, k ? ", " : ""), table[k].name);
	}
	near = parse_nearest(name, names, VERDICT_KINDS);
	if (near)
		return err_set(err, EINVAL, "%s: \"%s\" is no verdict; did you mean \"%s\"?",
			       option, name, near);
	return err_set(err, EINVAL, "%s: \"%s\" is no verdict; there are %s", option, name, all);
}

int verdict_policy_list(const char *option, const char *text, uint32_t *mask, struct err *err)
{
	do {
		size_t len = strcspn(text, ",");
		unsigned k = 0;
		char name[64];

		while (k < VERDICT_KINDS &&
		       (strlen(table[k].name) != len || strncmp(text, table[k].name, len) != 0))
			k++;
		if (k == VERDICT_KINDS) {
			if (len >= sizeof(name))
				len = sizeof(name) - 1;
			memcpy(name, text, len);
			name[len] = 0;
			return unknown(option, name, err);
		}
		*mask |= 1u << k;
		text += len;
	} while (*text++);
	return 0;
}

int verdict_policy_check(const struct verdict_policy *policy, struct err *err)
{
	uint32_t both = policy->bad & policy->skip;

	if (policy->mode != VERDICT_EXIT_BISECT && (policy->bad || policy->skip))
		return err_set(err, EINVAL, "%s is for --exit bisect",
			       policy->bad ? "--bad" : "--skip");
	if (both)
		return err_set(err, EINVAL, "--bad and --skip both have \"%s\"",
			       table[__builtin_ctz(both)].name);
	return 0;
}

static int default_status(const struct verdict_result *r)
{
	switch (r->kind) {
	case VERDICT_FAILED:
		return r->status & 0xff;
	case VERDICT_SIGNALLED:
	case VERDICT_INTERRUPTED:
		return 128 + r->signal;
	default:
		return table[r->kind].status;
	}
}

static int strict_status(enum verdict_kind kind)
{
	switch (table[kind].meaning) {
	case GOOD:
		return 0;
	case WRONG:
		return 1;
	default:
		return kind == VERDICT_SKIPPED ? 0 : COULD_NOT_RUN;
	}
}

static int bisect_status(const struct verdict_policy *policy, const struct verdict_result *r)
{
	uint32_t bit = 1u << r->kind;

	if (r->kind == VERDICT_INTERRUPTED)
		return 128 + r->signal;
	if (policy->skip & bit)
		return COULD_NOT_RUN;
	if (policy->bad & bit)
		return 1;
	if (table[r->kind].meaning == GOOD)
		return 0;
	return !policy->bad && table[r->kind].meaning == WRONG ? 1 : COULD_NOT_RUN;
}

int verdict_exit_status(const struct verdict_policy *policy, const struct verdict_result *r)
{
	switch (policy->mode) {
	case VERDICT_EXIT_STRICT:
		return strict_status(r->kind);
	case VERDICT_EXIT_BISECT:
		return bisect_status(policy, r);
	default:
		return default_status(r);
	}
}
