/* test_verdict_case: events of a test, in tables, and the one verdict that they give. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/verdict/verdict.h"

static struct verdict_rules *rules;
static struct verdict_case *c;

static void begin(bool command, enum verdict_on_splat on_splat)
{
	struct err err;

	cr_assert_eq(verdict_rules_create(&rules, &err), 0);
	cr_assert_eq(verdict_rules_add(rules, "builtin", verdict_rules_builtin,
				       strlen(verdict_rules_builtin), NULL, NULL, &err),
		     0, "%s", err.text);
	cr_assert_eq(verdict_rules_add(rules, "more", "allow known_to_warn", 19, NULL, NULL, &err),
		     0);
	cr_assert_eq(verdict_case_create(rules, command, on_splat, &c), 0);
}

static void end(void)
{
	verdict_case_destroy(c);
	verdict_rules_destroy(rules);
}

static void log_line(const char *text)
{
	verdict_case_log(c, VERDICT_CONSOLE, text, strlen(text));
	verdict_case_log(c, VERDICT_CONSOLE, "\n", 1);
}

#define WARN_LINE "WARNING: CPU: 0 PID: 9 at x.c:1 f+0x1/0x2"
#define OOPS_LINE "BUG: kernel NULL pointer dereference, address: 0"
#define PANIC_LINE "Kernel panic - not syncing: Fatal exception"

/* One event a letter; digits after x, s and z are a number. */
static const char *event(const char *p)
{
	char what = *p++;
	int n = (int)strtol(p, (char **)&p, 10);

	switch (what) {
	case 'l':
		log_line("Linux version 6.1");
		break;
	case 'k':
		log_line("devtmpfs: initialized");
		break;
	case 'i':
		log_line("Run /init as init process");
		break;
	case 'H':
		verdict_case_hello(c, "6.1.0", (uint64_t)n);
		break;
	case 'S':
		verdict_case_started(c);
		break;
	case 'N':
		verdict_case_refused(c, n > 0, n > 0 ? n : EINVAL, "/bin/x");
		break;
	case 'x':
		verdict_case_exited(c, n << 8, 0, 0);
		break;
	case 's':
		verdict_case_exited(c, n, 0, 0);
		break;
	case 'm': /* as s and x, and the OOM killer had a victim */
		verdict_case_exited(c, n, 0, 1);
		break;
	case 't': /* as x0, with a taint */
		verdict_case_exited(c, 0, 1u << n, 0);
		break;
	case 'B':
		verdict_case_bye(c);
		break;
	case 'L':
		verdict_case_lost(c, "the channel has closed");
		break;
	case 'w':
		log_line("------------[ cut here ]------------\n" WARN_LINE
			 "\n---[ end trace 0 ]---");
		break;
	case 'a':
		log_line("------------[ cut here ]------------\n" WARN_LINE
			 "\nRIP: known_to_warn+0x1/0x2\n---[ end trace 0 ]---");
		break;
	case 'o':
		log_line(OOPS_LINE "\n---[ end trace 0 ]---");
		break;
	case 'O':
		log_line("Out of memory: Killed process 9 (x) total-vm:1kB");
		break;
	case 'p':
		log_line(PANIC_LINE);
		break;
	case 'q':
		log_line("Kernel panic - not syncing: System is deadlocked on memory");
		break;
	case 'r':
		log_line("reboot: Restarting system");
		break;
	case 'g':
		log_line("bantam-agent: the channel is broken: error 19");
		break;
	case 'h':
		log_line("reboot: System halted");
		break;
	case 'G':
		log_line("bantam-agent: module /x.ko: error 2");
		break;
	case 'T':
		verdict_case_timer(c, (enum verdict_timer)n);
		break;
	case 'I':
		verdict_case_interrupted(c, n);
		break;
	case 'Z':
		verdict_case_machine(c, (enum verdict_end)n, "KVM says no");
		break;
	case 'K':
		verdict_case_no_test(c, n, "no /dev/kvm");
		break;
	default:
		cr_assert(false, "%c", what);
	}
	return p;
}

/* on: f fail, w warn, s stop, b: a boot test, fail. Z1 power-off, Z2 reset, Z3 pvpanic, Z4 triple fault, Z5
 * stopped, Z6 error; T0 boot, T1 idle, T2 total. */
static const struct {
	char on;
	const char *events, *verdict, *phase;
	int status, signal;
	const char *because; /* "": none */
} cases[] = {
	/* as it should be */
	{ 'f', "lkiHSx0BZ1", "passed", "command", 0, 0, "" },
	{ 'f', "lkiHSx255BZ1", "failed", "command", 255, 0, "" },
	{ 'f', "lkiHSs9BZ1", "signalled", "command", -1, 9, "" },
	{ 'f', "HSs139BZ1", "signalled", "command", -1, 11, "" }, /* with a core */
	{ 'f', "HN2BZ1", "not-found", "init", -1, 0, "" },
	{ 'f', "HN13BZ1", "not-executable", "init", -1, 0, "" },
	{ 'f', "HN8BZ1", "not-executable", "init", -1, 0, "" },
	{ 'f', "HN0BZ1", "error", "init", -1, 0, "" },
	{ 'b', "lkiHBZ1", "passed", "init", -1, 0, "" },
	/* after the result, the end matters little */
	{ 'f', "HSx0LZ5", "passed", "command", 0, 0, "" },
	{ 'f', "HSx0Z2", "passed", "command", 0, 0, "" },
	{ 'f', "HSx3T2Z5", "failed", "command", 3, 0, "" },
	{ 'f', "HSx0rZ4", "passed", "command", 0, 0, "" }, /* reboot=t */
	{ 'f', "HSx0BpZ2", "panicked", "command", 0, 0, "" },
	{ 'f', "HSx0Z4", "triple-fault", "command", 0, 0, "" },
	{ 'f', "HSx0Z6", "error", "command", 0, 0, "" },
	/* panics, in whichever order their consequences come */
	{ 'f', "lpZ2", "panicked", "early kernel", -1, 0, "" },
	{ 'f', "lkpZ2", "panicked", "kernel", -1, 0, "" },
	{ 'f', "lkiHSpLZ2", "panicked", "command", -1, 0, "" },
	{ 'f', "HSLpZ2", "panicked", "command", -1, 0, "" },
	{ 'f', "HSpT1Z5", "panicked", "command", -1, 0, "" },
	{ 'f', "HSpZ4", "panicked", "command", -1, 0, "" },
	{ 'f', "HSpZ3", "panicked", "command", -1, 0, "" },
	{ 'f', "HSZ3p", "panicked", "command", -1, 0, "" },
	{ 'f', "HSZ3", "panicked", "command", -1, 0, "" },
	{ 'f', "HST1pZ5", "hung", "command", -1, 0, "" }, /* by an NMI after the timeout */
	{ 'f', "HSI15pZ5", "interrupted", "command", -1, 15, "" },
	/* the first mistake is named */
	{ 'f', "HSwpZ2", "panicked", "command", -1, 0, WARN_LINE },
	{ 'f', "HSopZ2", "panicked", "command", -1, 0, OOPS_LINE },
	{ 'f', "HSwopZ2", "panicked", "command", -1, 0, WARN_LINE },
	{ 'w', "HSwpZ2", "panicked", "command", -1, 0, WARN_LINE },
	{ 'f', "HSapZ2", "panicked", "command", -1, 0, "" },
	{ 'f', "HSwT1Z5", "hung", "command", -1, 0, WARN_LINE },
	{ 'f', "HSoLZ4", "triple-fault", "command", -1, 0, OOPS_LINE },
	/* splats alone */
	{ 'f', "HSwx0BZ1", "splat", "command", 0, 0, WARN_LINE },
	{ 'f', "lkwiHSx0BZ1", "splat", "kernel", 0, 0, WARN_LINE },
	{ 'f', "HSwx1BZ1", "splat", "command", 1, 0, WARN_LINE },
	{ 'f', "HSos9BZ1", "splat", "command", -1, 9, OOPS_LINE },
	{ 'w', "HSwx0BZ1", "passed", "command", 0, 0, WARN_LINE },
	{ 'w', "HSwx1BZ1", "failed", "command", 1, 0, WARN_LINE },
	{ 's', "HSwZ5", "splat", "command", -1, 0, WARN_LINE },
	{ 's', "HSwLZ5", "splat", "command", -1, 0, WARN_LINE },
	{ 'f', "HSax0BZ1", "passed", "command", 0, 0, "" },
	{ 'b', "wHBZ1", "splat", "loader", -1, 0, WARN_LINE },
	/* taint W (9) and D (7) without a line; others do not count */
	{ 'f', "HSt9BZ1", "splat", "command", 0, 0, "" },
	{ 'f', "HSt7BZ1", "splat", "command", 0, 0, "" },
	{ 'f', "HSt12BZ1", "passed", "command", 0, 0, "" },
	{ 'w', "HSt9BZ1", "passed", "command", 0, 0, "" },
	{ 'f', "HSat9BZ1", "passed", "command", 0, 0, "" },
	{ 'f', "HSOt9BZ1", "splat", "command", 0, 0, "" },
	{ 'b', "H512BZ1", "splat", "init", -1, 0, "" },
	/* memory */
	{ 'f', "HSOm9BZ1", "out-of-memory", "command", -1, 9, "" },
	{ 'f', "HSm9BZ1", "out-of-memory", "command", -1, 9, "" },
	{ 'f', "HSOs9BZ1", "out-of-memory", "command", -1, 9, "" },
	{ 'f', "HSOx137BZ1", "out-of-memory", "command", 137, 0, "" },
	{ 'f', "HSOx0BZ1", "passed", "command", 0, 0, "" },
	{ 'f', "HSOs15BZ1", "signalled", "command", -1, 15, "" },
	{ 'f', "OHSs9BZ1", "signalled", "command", -1, 9, "" },
	{ 'f', "HSqZ2", "out-of-memory", "command", -1, 0, "" },
	/* timeouts */
	{ 'f', "T0Z5", "boot-timeout", "loader", -1, 0, "" },
	{ 'f', "lkT0Z5", "boot-timeout", "kernel", -1, 0, "" },
	{ 'f', "HST1Z5", "hung", "command", -1, 0, "" },
	{ 'f', "HST2T1Z5", "timeout", "command", -1, 0, "" },
	{ 'f', "HST2LZ5", "timeout", "command", -1, 0, "" },
	{ 'f', "HST2x0Z5", "timeout", "command", 0, 0, "" },
	/* ends of its own */
	{ 'f', "Z1", "died-before-init", "loader", -1, 0, "" },
	{ 'f', "lkZ2", "died-before-init", "kernel", -1, 0, "" },
	{ 'f', "lkrZ4", "died-before-init", "kernel", -1, 0, "" },
	{ 'f', "lkiZ2", "rebooted", "init", -1, 0, "" },
	{ 'f', "HSLrZ2", "rebooted", "command", -1, 0, "" },
	{ 'f', "HSrZ4", "rebooted", "command", -1, 0, "" },
	{ 'f', "HSLZ1", "powered-off", "command", -1, 0, "" },
	{ 'f', "HSZ1T2", "powered-off", "command", -1, 0, "" },
	{ 'b', "lkiZ1", "powered-off", "init", -1, 0, "" },
	{ 'f', "lZ4", "triple-fault", "early kernel", -1, 0, "" },
	{ 'f', "HSLZ4", "triple-fault", "command", -1, 0, "" },
	{ 'f', "HSLZ5", "agent-lost", "command", -1, 0, "" },
	{ 'f', "HSL", "agent-lost", "command", -1, 0, "" },
	{ 'f', "HSgLrZ1", "agent-lost", "command", -1, 0, "" },
	{ 'f', "lkigrZ1", "agent-lost", "init", -1, 0, "" },
	{ 'f', "HShZ5", "powered-off", "command", -1, 0, "" },
	{ 'f', "lkhZ5", "died-before-init", "kernel", -1, 0, "" },
	{ 'f', "HSx3BhZ5", "failed", "command", 3, 0, "" },
	{ 'f', "HSgLhZ5", "agent-lost", "command", -1, 0, "" },
	{ 'f', "HST1hZ5", "hung", "command", -1, 0, "" },
	{ 'f', "HSGLZ1", "powered-off", "command", -1, 0, "" },
	{ 'f', "HSgrZ2", "rebooted", "command", -1, 0, "" },
	{ 'f', "HSgx0BZ1", "passed", "command", 0, 0, "" },
	{ 'f', "lZ6", "error", "early kernel", -1, 0, "" },
	{ 'f', "HSZ5", "error", "command", -1, 0, "" },
	{ 'f', "", "error", "loader", -1, 0, "" },
	/* the host's */
	{ 'f', "HSI2Z5", "interrupted", "command", -1, 2, "" },
	{ 'f', "HSI15T2Z5", "interrupted", "command", -1, 15, "" },
	{ 'f', "HST2I15Z5", "timeout", "command", -1, 0, "" },
	{ 'f', "HSx0I15BZ1", "passed", "command", 0, 0, "" },
	{ 'f', "K0", "error", "loader", -1, 0, "" },
	{ 'f', "K1", "skipped", "loader", -1, 0, "" },
};

Test(verdict_case, table)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct verdict_result *r;
		const char *p = cases[i].events;
		uint64_t at = 0;

		begin(cases[i].on != 'b', cases[i].on == 'w' ? VERDICT_ON_SPLAT_WARN :
					  cases[i].on == 's' ? VERDICT_ON_SPLAT_STOP :
							       VERDICT_ON_SPLAT_FAIL);
		while (*p) {
			verdict_case_clock(c, at += 1000);
			p = event(p);
		}
		r = verdict_case_result(c);
		cr_expect_str_eq(verdict_name(r->kind), cases[i].verdict, "%s: %s: %s",
				 cases[i].events, verdict_name(r->kind), r->reason);
		cr_expect_str_eq(verdict_phase_name(r->phase), cases[i].phase, "%s: %s",
				 cases[i].events, verdict_phase_name(r->phase));
		cr_expect_eq(r->status, cases[i].status, "%s: %d", cases[i].events, r->status);
		cr_expect_eq(r->signal, cases[i].signal, "%s: %d", cases[i].events, r->signal);
		cr_expect_str_eq(r->because ? r->because->heading : "", cases[i].because, "%s",
				 cases[i].events);
		cr_expect(r->reason[0] || !*cases[i].events, "%s", cases[i].events);
		cr_expect_eq(r, verdict_case_result(c));
		end();
	}
}

/* When the owner is to stop the machine. */
Test(verdict_case, over)
{
	static const struct {
		char on;
		const char *events;
		bool over;
	} table[] = {
		{ 'f', "lkHS", false }, { 'f', "HSp", true },  { 'f', "HSw", false },
		{ 's', "HSw", true },	{ 's', "HSa", false }, { 's', "HSO", false },
		{ 'f', "HSL", false },	{ 'f', "T0", true },   { 'f', "I2", true },
		{ 'f', "Z1", true },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const char *p = table[i].events;

		begin(true, table[i].on == 's' ? VERDICT_ON_SPLAT_STOP : VERDICT_ON_SPLAT_FAIL);
		while (*p)
			p = event(p);
		cr_expect_eq(verdict_case_over(c), table[i].over, "%s", table[i].events);
		end();
	}
}

Test(verdict_case, details)
{
	const struct verdict_result *r;
	char text[500];

	begin(true, VERDICT_ON_SPLAT_FAIL);
	verdict_case_clock(c, 500000);
	log_line("[    0.000000] Linux version 6.1.0");
	verdict_case_hello(c, "6.1.0-\033x", 4096);
	verdict_case_started(c);
	verdict_case_clock(c, 1234567);
	log_line("[    1.000000] " WARN_LINE);
	log_line("<0>[    1.500000] " PANIC_LINE);
	verdict_case_clock(c, 2000000);
	verdict_case_machine(c, VERDICT_END_RESET, NULL);
	r = verdict_case_result(c);
	cr_assert_eq(r->usec, 1234567);
	cr_assert_eq(r->total_usec, 2000000);
	cr_assert_str_eq(r->release, "6.1.0-?x");
	cr_assert_eq(r->nevidence, 1);
	cr_assert_eq(r->evidence[0].number, 3);
	cr_assert_eq(r->evidence[0].level, 0);
	cr_assert_eq(r->evidence[0].usec, 1500000);
	cr_assert_str_eq(r->evidence[0].text, PANIC_LINE);
	verdict_line_text(r, text, sizeof(text));
	cr_assert_str_eq(text, "panicked after 1.234 s (command): " PANIC_LINE
			       "; the first mistake of the kernel: " WARN_LINE);
	end();

	/* Silence: the last lines are the evidence. */
	begin(true, VERDICT_ON_SPLAT_FAIL);
	for (int i = 0; i < 20; i++) {
		snprintf(text, sizeof(text), "line %d", i);
		log_line(text);
	}
	verdict_case_timer(c, VERDICT_TIMER_BOOT);
	r = verdict_case_result(c);
	cr_assert_eq(r->nevidence, 8);
	cr_assert_str_eq(r->evidence[0].text, "line 12");
	cr_assert_str_eq(r->evidence[7].text, "line 19");
	end();
}

/* Each cause has its own words, whatever came before it. */
Test(verdict_case, reasons)
{
	static const struct {
		const char *events, *reason;
	} table[] = {
		{ "HSLZ6", "KVM says no" },
		{ "HSLZ5", "the agent is lost: the channel has closed" },
		{ "HSgZ1", "bantam-agent: the channel is broken: error 19" },
		{ "HN2LZ1", "/bin/x: No such file or directory" },
		{ "K0", "no /dev/kvm" },
		{ "HSx3BZ1", "the command ended with status 3" },
		{ "HSs11BZ1", "signal 11 (Segmentation fault) ended the command" },
		{ "HSI15Z5", "signal 15 (Terminated) ended the test" },
		{ "HSt9BZ1",
		  "no line of the log tells it, but the kernel has the taint W (a warning)" },
		{ "lkZ2", "the guest reset the machine before init" },
		{ "HSpZ2", PANIC_LINE },
		{ "HSwx0BZ1", WARN_LINE },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const char *p = table[i].events;

		begin(true, VERDICT_ON_SPLAT_FAIL);
		while (*p)
			p = event(p);
		cr_expect_str_eq(verdict_case_result(c)->reason, table[i].reason, "%s: %s",
				 table[i].events, verdict_case_result(c)->reason);
		end();
	}
}

/* The last lines come from all logs, each line once: a quiet console has none of them. */
Test(verdict_case, last_lines_of_all_logs)
{
	static const char kmsg[] = "6,1,1,-;a\n6,2,2,-;b\n6,3,3,-;b\n";
	const struct verdict_result *r;

	begin(true, VERDICT_ON_SPLAT_FAIL);
	log_line("a");
	verdict_case_log(c, VERDICT_HVC, "a\n", 2);
	verdict_case_log(c, VERDICT_KMSG, kmsg, strlen(kmsg));
	log_line("b");
	verdict_case_timer(c, VERDICT_TIMER_IDLE);
	r = verdict_case_result(c);
	cr_assert_eq(r->nevidence, 3);
	cr_assert_eq(r->evidence[0].source, VERDICT_CONSOLE);
	cr_assert_str_eq(r->evidence[1].text, "b");
	cr_assert_eq(r->evidence[2].source, VERDICT_KMSG);
	end();
}

/* A panic is found behind any number of splats, and in a log without a newline at its end. */
Test(verdict_case, hostile_log)
{
	begin(true, VERDICT_ON_SPLAT_FAIL);
	for (int i = 0; i < 200; i++)
		log_line("BUG: x");
	verdict_case_log(c, VERDICT_KMSG, "0,1,1,-;" PANIC_LINE, 8 + strlen(PANIC_LINE));
	cr_assert_eq(verdict_case_result(c)->kind, VERDICT_PANICKED);
	end();
}

Test(verdict_case, vcpus)
{
	/* Of each sample: i idle, d halted with interrupts off, k kernel, o kernel with them off, u user. */
	static const struct {
		const char *samples[6];
		const char *want;
	} table[] = {
		{ { "iii" }, "the vCPU is idle" },
		{ { "iii", "iii", "i" }, "all 3 vCPUs are idle" },
		{ { "ooo" }, "vCPU 0 spins with interrupts off (RIP 0x1002)" },
		{ { "iii", "kkk" },
		  "vCPU 1 spins with interrupts on (RIP 0x1002); the other is idle" },
		{ { "uuu", "ddd", "iii" },
		  "vCPU 0 spins in user mode (RIP 0x1002), vCPU 1 is halted with interrupts off (RIP "
		  "0x1002); the others are idle" },
		{ { "iku" }, "vCPU 0 is busy (RIP 0x1002)" },
		{ { "iki", "kii" }, "all 2 vCPUs are idle" },
		{ { "ik" }, "vCPU 0 is busy (RIP 0x1001)" },
		{ { "uuo", "kuk" },
		  "vCPU 0 spins in user mode (RIP 0x1001), vCPU 1 spins with interrupts on (RIP 0x1002)" },
		{ { "oko" }, "vCPU 0 is busy (RIP 0x1002)" },
		{ { "ddi" }, "vCPU 0 is busy (RIP 0x1002)" },
		{ { "kkkooo" }, "vCPU 0 spins with interrupts off (RIP 0x1005)" },
		{ { "ooo", "ooo", "ooo", "ooo", "ooo", "ooo" },
		  "vCPU 0 spins with interrupts off (RIP 0x1002), vCPU 1 spins with interrupts off (RIP "
		  "0x1002), vCPU 2 spins with interrupts off (RIP 0x1002), vCPU 3 spins with interrupts "
		  "off (RIP 0x1002) and 2 more" },
		{ { "", "ooo" },
		  "vCPU 0 does not answer, vCPU 1 spins with interrupts off (RIP 0x1002)" },
		{ { NULL }, "" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const struct verdict_result *r;
		char want[400], text[400];

		begin(true, VERDICT_ON_SPLAT_FAIL);
		for (unsigned v = 0; v < 6 && table[i].samples[v]; v++) {
			for (unsigned k = 0; table[i].samples[v][k]; k++) {
				char what = table[i].samples[v][k];

				verdict_case_sample(c, &(struct verdict_sample){
							       .vcpu = v,
							       .rip = 0x1000 + k,
							       .cpl = what == 'u' ? 3 : 0,
							       .halted = what == 'i' || what == 'd',
							       .interrupts = what == 'i' ||
									     what == 'k' ||
									     what == 'u' });
			}
		}
		verdict_case_sample(c, &(struct verdict_sample){ .vcpu = VERDICT_VCPUS_MAX });
		verdict_case_timer(c, VERDICT_TIMER_IDLE);
		r = verdict_case_result(c);
		verdict_hang_text(r->vcpu, r->nvcpus, text, sizeof(text));
		cr_expect_str_eq(text, table[i].want, "%zu: %s", i, text);
		snprintf(want, sizeof(want), "no output for too long%s%.200s",
			 *table[i].want ? ": " : "", table[i].want);
		cr_expect(!strncmp(r->reason, want, strlen(want)), "%s", r->reason);
		end();
	}
}
