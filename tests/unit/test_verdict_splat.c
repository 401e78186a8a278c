/* test_verdict_splat: which lines begin a report of the kernel, and what belongs to it. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/verdict/verdict.h"

static struct verdict_rules *rules;
static struct verdict_splats *splats;
static struct verdict_reader reader[VERDICT_SOURCES];

static void on_line(void *opaque, const struct verdict_line *line)
{
	enum verdict_splat_kind kind;

	verdict_splats_line(splats, line, VERDICT_KERNEL, &kind);
}

static void begin(const char *text)
{
	struct err err;

	cr_assert_eq(verdict_rules_create(&rules, &err), 0);
	cr_assert_eq(verdict_rules_add(rules, "rules", text, strlen(text), "6.1.0-13-amd64",
				       "x86_64", &err),
		     0, "%s", err.text);
	cr_assert_eq(verdict_splats_create(rules, &splats), 0);
	for (unsigned i = 0; i < VERDICT_SOURCES; i++)
		verdict_reader_init(&reader[i], i, on_line, NULL);
}

static void end(void)
{
	verdict_splats_destroy(splats);
	verdict_rules_destroy(rules);
}

static void say(enum verdict_source source, const char *text)
{
	verdict_reader_feed(&reader[source], text, strlen(text));
}

static bool kind_of(const char *text, enum verdict_splat_kind *kind)
{
	struct verdict_line line = { .text = text, .len = strlen(text) };

	return verdict_rules_deny(rules, &line, kind);
}

/* As kernels from 4.19 to 6.12 print them. */
static const struct {
	const char *text, *kind; /* NULL: none */
} heads[] = {
	{ "Kernel panic - not syncing: sysrq triggered crash", "panic" },
	{ "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
	  "panic" },
	{ "PANIC: double fault, error_code: 0x0", "panic" },
	{ "BUG: KASAN: slab-out-of-bounds in kmalloc_oob_right+0x1/0x2 [test_kasan]", "kasan" },
	{ "BUG: KMSAN: uninit-value in foo+0x1/0x2", "kmsan" },
	{ "BUG: KCSAN: data-race in a / b", "kcsan" },
	{ "BUG: KFENCE: use-after-free read in test_use_after_free_read+0x1/0x2", "kfence" },
	{ "UBSAN: array-index-out-of-bounds in drivers/x.c:1:2", "ubsan" },
	{ "WARNING: possible circular locking dependency detected", "lockdep" },
	{ "WARNING: possible recursive locking detected", "lockdep" },
	{ "WARNING: possible irq lock inversion dependency detected", "lockdep" },
	{ "WARNING: inconsistent lock state", "lockdep" },
	{ "WARNING: suspicious RCU usage", "lockdep" },
	{ "WARNING: bad unlock balance detected!", "lockdep" },
	{ "WARNING: lock held when returning to user space!", "lockdep" },
	{ "WARNING: held lock freed!", "lockdep" },
	{ "WARNING: a b/4398 still has locks held!", "lockdep" },
	{ "WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected", "lockdep" },
	{ "WARNING: Nested lock was not taken", "lockdep" },
	{ "[ BUG: Invalid wait context ]", "lockdep" },
	{ "INFO: trying to register non-static key.", "lockdep" },
	{ "BUG: MAX_LOCKDEP_CHAINS too low!", "lockdep" },
	{ "BUG: spinlock bad magic on CPU#0, swapper/0/1", "lockdep" },
	{ "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", "rcu" },
	{ "rcu: INFO: rcu_sched self-detected stall on CPU", "rcu" },
	{ "INFO: rcu_sched self-detected stall on CPU", "rcu" },
	{ "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 0-... }", "rcu" },
	{ "rcu: rcu_preempt kthread starved for 5250 jiffies! g1 f0x0", "rcu" },
	{ "INFO: task kworker/0:1:7 blocked for more than 120 seconds.", "hung_task" },
	{ "INFO: task a b:7 blocked for more than 120 seconds.", "hung_task" },
	{ "INFO: task a:7 blocked in I/O wait for more than 143 seconds.", "hung_task" },
	{ "x:18088 blocked for more than 143 seconds.", "hung_task" },
	{ "INFO: task a:7 can't die for more than 143 seconds.", "hung_task" },
	{ "INFO: task a:7 <writer> blocked on a mutex likely owned by task b:8.", NULL },
	{ "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [insmod:99]", "lockup" },
	{ "NMI watchdog: Watchdog detected hard LOCKUP on cpu 0", "lockup" },
	{ "watchdog: Watchdog detected hard LOCKUP on cpu 3", "lockup" },
	{ "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 32s!", "lockup" },
	{ "BUG: scheduling while atomic: insmod/99/0x00000002", "atomic" },
	{ "BUG: sleeping function called from invalid context at mm/slab.h:1", "atomic" },
	{ "BUG: using smp_processor_id() in preemptible [00000000] code: a/1", "atomic" },
	{ "BUG: Bad page state in process a  pfn:1", "page" },
	{ "BUG: Bad page map in process a  pte:1 pmd:2", "page" },
	{ "BUG: Bad rss-counter state mm:0 type:MM_ANONPAGES val:1", "page" },
	{ "BUG kmalloc-64 (Not tainted): Poison overwritten", "page" },
	{ "list_del corruption. next->prev should be 1, but was 2", "page" },
	{ "insmod: page allocation failure: order:10, mode:0xcc0(GFP_KERNEL)", "page" },
	{ "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)", "page" },
	{ "Out of memory: Killed process 99 (a) total-vm:1kB", "oom" },
	{ "Memory cgroup out of memory: Killed process 99 (a) total-vm:1kB", "oom" },
	{ "a invoked oom-killer: gfp_mask=0x1, order=0, oom_score_adj=0", "oom" },
	{ "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null)", "oom" },
	{ "kernel BUG at drivers/x.c:12!", "bug" },
	{ "BUG: something of a driver", "bug" },
	{ "BUG: unable to handle page fault for address: ffffc90000000000", "oops" },
	{ "BUG: kernel NULL pointer dereference, address: 0000000000000000", "oops" },
	{ "BUG: unable to handle kernel NULL pointer dereference at 0", "oops" },
	{ "BUG: TASK stack guard page was hit at 1 (stack is 2..3)", "oops" },
	{ "Unable to handle kernel paging request at virtual address 1", "oops" },
	{ "Internal error: Oops: 96000004 [#1] SMP", "oops" },
	{ "Oops: 0002 [#1] PREEMPT SMP NOPTI", "oops" },
	{ "Oops: general protection fault, probably for non-canonical address 1: 0000 [#1] SMP",
	  "oops" },
	{ "general protection fault, probably for non-canonical address 1: 0000 [#1] SMP", "oops" },
	{ "segment-related general protection fault: beec [#2] PREEMPT SMP", "oops" },
	{ "invalid opcode: 0000 [#1] PREEMPT SMP", "oops" },
	{ "divide error: 0000 [#1] SMP", "oops" },
	{ "traps: Missing ENDBR: foo+0x0/0x1", "oops" },
	{ "WARNING: CPU: 0 PID: 99 at drivers/x.c:12 f+0x1/0x2 [x]", "warn" },
	{ "WARNING: kernel/x.c:12 at f+0x1/0x2, CPU#0: insmod/99", "warn" },
	{ "WARNING: [a < b, c] x/y.c:3026 at f+0x1/0x2, CPU#0: kworker/u8:0/10040", "warn" },
	{ "refcount_t: underflow; use-after-free.", "warn" },
	{ "VFS: Busy inodes after unmount of sda. Self-destruct in 5 seconds.", "other" },
	{ "unregister_netdevice: waiting for lo to become free. Usage count = 1", "other" },
	{ "irq 9: nobody cared (try booting with the \"irqpoll\" option)", "other" },

	{ "WARNING: apt does not have a stable CLI interface.", NULL },
	{ "WARNING: You are running this program as root", NULL },
	{ "Spectre V2 : WARNING: Unprivileged eBPF is enabled", NULL },
	{ "a[1]: segfault at 0 ip 0 sp 0 error 4 in a[400000+1000]", NULL },
	{ "traps: a[1] general protection fault ip:1 sp:2 error:0 in a[400000+1000]", NULL },
	{ "traps: a[1] trap invalid opcode ip:1 sp:2 error:0", NULL },
	{ "ACPI BIOS Error (bug): Could not resolve symbol", NULL },
	{ "debug: unmapping init memory", NULL },
	{ "No Oops: here", NULL },
	{ "Kernel command line: oops=panic panic_on_warn=1", NULL },
	{ "rcu: Preemptible hierarchical RCU implementation.", NULL },
	{ "watchdog: Delayed init of the lockup detector failed: -19", NULL },
	{ "Lockdep: INFO", NULL },
};

Test(verdict_splat, headings)
{
	begin(verdict_rules_builtin);
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		enum verdict_splat_kind kind;
		bool found = kind_of(heads[i].text, &kind);

		cr_expect_eq(found, heads[i].kind != NULL, "%s", heads[i].text);
		if (found && heads[i].kind)
			cr_expect_str_eq(verdict_splat_name(kind), heads[i].kind, "%s",
					 heads[i].text);
	}
	end();
}

/* Each case: what comes on the console, then what the splats are: "KIND FIRST-LAST [flags] HEADING". */
static const struct {
	const char *in, *want;
} reports[] = {
	{ "a\n------------[ cut here ]------------\nWARNING: CPU: 0 PID: 1 at x.c:1 f+0x1/0x2\nCall Trace:\n"
	  "---[ end trace 0000000000000000 ]---\nb\n",
	  "warn 2-5 done WARNING: CPU: 0 PID: 1 at x.c:1 f+0x1/0x2\n" },
	{ "------------[ cut here ]------------\nrefcount_t: underflow; use-after-free.\n"
	  "WARNING: CPU: 0 PID: 1 at x.c:1 f\nx\n---[ end trace 00 ]---\n",
	  "warn 1-5 done refcount_t: underflow; use-after-free.\n" },
	{ "------------[ cut here ]------------\nkernel BUG at x.c:1!\ninvalid opcode: 0000 [#1] SMP\nRIP\n"
	  "---[ end trace 00 ]---\nKernel panic - not syncing: Fatal exception\nKernel Offset: disabled\n"
	  "---[ end Kernel panic - not syncing: Fatal exception ]---\n",
	  "bug 1-5 done kernel BUG at x.c:1!\n"
	  "panic 6-8 done Kernel panic - not syncing: Fatal exception\n" },
	{ "BUG: unable to handle page fault for address: 1\n#PF: x\nOops: 0002 [#1] SMP\nRIP\n---[ end trace 0 ]---\n",
	  "oops 1-5 done BUG: unable to handle page fault for address: 1\n" },
	{ "==========================\nBUG: KASAN: x in f\nRead of size\n\n==========================\nDisabling lock debugging\n",
	  "kasan 1-5 done BUG: KASAN: x in f\n" },
	{ "==========================\nBUG: KASAN: x in f\nRead\nKernel panic - not syncing: KASAN\nx\n",
	  "kasan 1-3 done BUG: KASAN: x in f\npanic 4-5 done Kernel panic - not syncing: KASAN\n" },
	{ "======================================================\nWARNING: possible circular locking dependency detected\n"
	  "6.1.0 Not tainted\n------------------------------------------------------\nx\n",
	  "lockdep 1-5 done WARNING: possible circular locking dependency detected\n" },
	/* Two quiet seconds end a report without a mark. */
	{ "[    1.000000] INFO: task a:1 blocked for more than 120 seconds.\n[    1.100000] x\n[    3.200000] y\n",
	  "hung_task 1-2 done INFO: task a:1 blocked for more than 120 seconds.\n" },
	{ "INFO: task a:1 blocked for more than 120 seconds.\nx\nINFO: task b:2 blocked for more than 120 seconds.\n",
	  "hung_task 1-2 done INFO: task a:1 blocked for more than 120 seconds.\n"
	  "hung_task 3-3 done INFO: task b:2 blocked for more than 120 seconds.\n" },
	/* A panic takes what comes after it. */
	{ "Kernel panic - not syncing: a\n------------[ cut here ]------------\nWARNING: CPU: 0 PID: 1 at x.c:1 f\n",
	  "panic 1-3 done Kernel panic - not syncing: a\n" },
	{ "a invoked oom-killer: x\nMem-Info:\noom-kill:constraint\nOut of memory: Killed process 1 (a)\n",
	  "oom 1-4 done a invoked oom-killer: x\n" },
	/* Nothing of it is a report. */
	{ "------------[ cut here ]------------\na\nb\n---[ end trace 0 ]---\n", "" },
	{ "==========================\na\nb\nc\nd\ne\nf\ng\nh\ni\nBUG: x\n",
	  "bug 11-11 done BUG: x\n" },
	{ "BUG: arch topology borken\n     the DIE domain not a subset\n",
	  "bug 1-2 done allowed BUG: arch topology borken\n" },
};

static void show(char *to, size_t max)
{
	to[0] = 0;
	for (size_t i = 0; i < verdict_splats_count(splats); i++) {
		const struct verdict_splat *p = verdict_splats_get(splats, i);
		size_t at = strlen(to);

		snprintf(to + at, max - at, "%s %llu-%llu%s%s%s %s\n", verdict_splat_name(p->kind),
			 (unsigned long long)p->first, (unsigned long long)p->last,
			 p->done ? " done" : "", p->allowed ? " allowed" : "",
			 p->shortened ? " shortened" : "", p->heading);
	}
}

Test(verdict_splat, reports)
{
	char seen[4000];

	for (size_t i = 0; i < sizeof(reports) / sizeof(reports[0]); i++) {
		begin(verdict_rules_builtin);
		say(VERDICT_CONSOLE, reports[i].in);
		verdict_splats_end(splats);
		show(seen, sizeof(seen));
		cr_assert_str_eq(seen, reports[i].want, "case %zu:\n%s", i, seen);
		end();
	}
}

/* WARN prints its text before the heading; the text allows that report, and no other one. */
Test(verdict_splat, allowed_before_heading)
{
	char seen[1000];

	begin("deny warn ^WARNING: \ndeny panic ^Kernel panic\nallow ^known\n");
	say(VERDICT_CONSOLE,
	    "------------[ cut here ]------------\nknown\nWARNING: a\n---[ end trace 0 ]---\n"
	    "------------[ cut here ]------------\nother\nWARNING: b\n---[ end trace 0 ]---\n"
	    "known\nWARNING: c\n---[ end trace 0 ]---\n"
	    "------------[ cut here ]------------\nknown\nKernel panic\n");
	verdict_splats_end(splats);
	show(seen, sizeof(seen));
	cr_assert_str_eq(seen,
			 "warn 1-4 done allowed WARNING: a\nwarn 5-8 done WARNING: b\n"
			 "warn 10-11 done WARNING: c\npanic 12-14 done Kernel panic\n",
			 "%s", seen);
	end();
}

/* The same report on both logs is one; the longer text stays. */
Test(verdict_splat, both_logs)
{
	const struct verdict_splat *p;

	for (int late = 0; late < 2; late++) {
		begin(verdict_rules_builtin);
		say(VERDICT_CONSOLE, "[    1.000000] BUG: a\n[    1.000001] x\n");
		if (late)
			say(VERDICT_CONSOLE, "[    9.000000] y\n");
		say(VERDICT_KMSG, "4,1,1000000,-;BUG: a\n4,2,1000001,-;x\n4,3,1000002,-;more\n");
		/* The same words later are another one. */
		say(VERDICT_KMSG, "4,4,9100000,-;BUG: a\n");
		say(VERDICT_CONSOLE, "[    9.100000] BUG: a\n[    9.100001] z\n");
		verdict_splats_end(splats);
		cr_assert_eq(verdict_splats_count(splats), 2);
		p = verdict_splats_get(splats, 0);
		cr_assert_str_eq(p->report, "BUG: a\nx\nmore\n");
		cr_assert(p->done);
		cr_assert_eq(p->source, VERDICT_KMSG);
		p = verdict_splats_get(splats, 1);
		cr_assert_str_eq(p->report, "BUG: a\nz\n");
		end();
	}
}

/* Three logs, each with another length, in each order. */
Test(verdict_splat, all_logs)
{
	static const unsigned char orders[6][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 },
						    { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 } };
	static const char *const texts[VERDICT_SOURCES] = {
		"[    1.000000] BUG: a\n[    1.000001] x\n",
		"[    1.000000] BUG: a\n[    1.000001] x\n[    1.000002] y\n",
		"4,1,1000000,-;BUG: a\n",
	};

	for (size_t i = 0; i < 6; i++) {
		const struct verdict_splat *p;

		begin(verdict_rules_builtin);
		for (unsigned k = 0; k < VERDICT_SOURCES; k++)
			say(orders[i][k], texts[orders[i][k]]);
		verdict_splats_end(splats);
		cr_assert_eq(verdict_splats_count(splats), 1);
		p = verdict_splats_get(splats, 0);
		cr_assert_str_eq(p->report, "BUG: a\nx\ny\n", "order %zu: %s", i, p->report);
		cr_assert_eq(p->source, VERDICT_HVC);
		end();
	}
}

/* A console without times. */
Test(verdict_splat, both_logs_without_time)
{
	begin(verdict_rules_builtin);
	say(VERDICT_CONSOLE, "BUG: a\nBUG: a\n");
	say(VERDICT_KMSG, "4,1,1,-;BUG: a\n4,2,2,-;BUG: a\n4,2,3,-;BUG: a\n");
	verdict_splats_end(splats);
	cr_assert_eq(verdict_splats_count(splats), 3);
	end();
}

Test(verdict_splat, bounded)
{
	char line[64];
	const struct verdict_splat *p;

	begin(verdict_rules_builtin);
	for (int i = 0; i < 200; i++) {
		snprintf(line, sizeof(line), "[    1.%06d] BUG: %d\n", i, i);
		say(VERDICT_CONSOLE, line);
	}
	cr_assert_eq(verdict_splats_count(splats), VERDICT_SPLATS_MAX);
	cr_assert_eq(verdict_splats_more(splats), 200 - VERDICT_SPLATS_MAX);
	end();

	begin(verdict_rules_builtin);
	say(VERDICT_CONSOLE, "BUG: a\n");
	for (int i = 0; i < 10000; i++)
		say(VERDICT_CONSOLE, "a line of the report that is open\n");
	verdict_splats_end(splats);
	p = verdict_splats_get(splats, 0);
	cr_assert(p->shortened && p->len <= VERDICT_REPORT_MAX && p->len > VERDICT_REPORT_MAX - 40);
	cr_assert_eq(p->last, 10001);
	end();
}

Test(verdict_splat, which_fail)
{
	for (unsigned k = 0; k < VERDICT_SPLAT_KINDS; k++) {
		struct verdict_splat p = { .kind = k };

		cr_assert_eq(verdict_splat_fails(&p),
			     k != VERDICT_SPLAT_OOM && k != VERDICT_SPLAT_PANIC);
		p.allowed = true;
		cr_assert(!verdict_splat_fails(&p));
	}
}

Test(verdict_rules, sections)
{
	static const struct {
		const char *release, *arch;
		const char *found; /* of a to f */
	} table[] = {
		{ "6.1.0-13-amd64", "x86_64", "abcf" }, { "6.12.1", "x86_64", "acf" },
		{ "6.1.7", "aarch64", "abdf" },		{ NULL, NULL, "af" },
		{ "5.10.0", "riscv", "aef" },
	};
	static const char text[] =
		"deny other ^a\n# deny other ^z\n\n[release 6.1.*]\ndeny other ^b\n"
		"[arch x86_64]\r\ndeny other ^c\n[ arch aarch64 release 6.* ]\n"
		"deny other ^d\n[release 5.*]\n deny\tother\t^e\n[]\ndeny other ^f";

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct err err;
		char found[16] = "";

		cr_assert_eq(verdict_rules_create(&rules, &err), 0);
		cr_assert_eq(verdict_rules_add(rules, "r", text, strlen(text), table[i].release,
					       table[i].arch, &err),
			     0, "%s", err.text);
		for (const char *c = "abcdefz"; *c; c++) {
			enum verdict_splat_kind kind;

			if (kind_of((char[]){ *c, 0 }, &kind))
				found[strlen(found)] = *c;
		}
		cr_assert_str_eq(found, table[i].found, "case %zu: %s", i, found);
		verdict_rules_destroy(rules);
	}
}

/* The word that is looked for first hides no match. */
Test(verdict_rules, expressions)
{
	static const struct {
		const char *regex, *yes, *no;
	} table[] = {
		{ "ab|cd", "xcdx", "ac" },
		{ "(ab|cd)ef", "cdef", "cdf" },
		{ "abc*", "ab", "a" },
		{ "abc?d", "abd", "acd" },
		{ "abc{0,2}d", "abd", "abx" },
		{ "ab[]c]d", "ab]d", "abxd" },
		{ "[[:digit:]]x[^]]y", "1xay", "xay" },
		{ "a\\.b", "a.b", "axb" },
		{ "a(b[)(]c)d", "ab(cd", "abcd" },
		{ "(a(b|c)){2}x", "abacx", "abx" },
		{ "a+b", "aab", "b" },
		{ "a\\wb", "acb", "a.b" },
		{ "^$", "", "a" },
		{ "\\<ab\\>", "x ab", "xab" },
		{ "a.c", "abc", "ac" },
		{ "\\\\1", "\\1", "1" },
		{ ".*", "", NULL },
		{ "\\(x\\)|y", "(x)", "x" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		enum verdict_splat_kind kind;
		char rule[100];

		snprintf(rule, sizeof(rule), "deny other %s", table[i].regex);
		begin(rule);
		cr_expect(kind_of(table[i].yes, &kind), "%s", rule);
		cr_expect(!table[i].no || !kind_of(table[i].no, &kind), "not %s", rule);
		end();
	}
}

Test(verdict_rules, mistakes)
{
	static const struct {
		const char *text, *says;
	} table[] = {
		{ "forbid warn x",
		  "f:1: a rule begins with \"deny KIND\" or \"allow\", not \"forbid\"" },
		{ "\n\ndeny crash x", "f:3: \"crash\" is no kind of report; there are oops, bug," },
		{ "deny taint x", "is no kind" },
		{ "deny", "\"\" is no kind" },
		{ "deny warn", "f:1: the rule has no expression" },
		{ "allow", "f:1: the rule has no expression" },
		{ "allow (a", "f:1: \"(a\" is no extended regular expression: " },
		{ "[release 1.*]\nallow [a", "f:2: \"[a\" is no extended" },
		{ "allow (a)\\1", "f:1: back references as \\1" },
		{ "[release 6.1", "the \"]\" is missing" },
		{ "[version 6.1]", "stand \"release PATTERN\"" },
		{ "[release]", "stand \"release PATTERN\"" },
	};
	struct err err;
	char *big = malloc(5000);

	cr_assert_eq(verdict_rules_create(&rules, &err), 0);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		cr_expect_eq(verdict_rules_add(rules, "f", table[i].text, strlen(table[i].text),
					       NULL, NULL, &err),
			     -EINVAL, "%s", table[i].text);
		cr_expect(strstr(err.text, table[i].says), "%s: %s", table[i].text, err.text);
	}
	memset(big, 'a', 5000);
	cr_assert_eq(verdict_rules_add(rules, "f", big, 5000, NULL, NULL, &err), -EINVAL);
	cr_assert(strstr(err.text, "longer than"));
	cr_assert_eq(verdict_rules_add(rules, "f", "allow a\0b", 9, NULL, NULL, &err), -EINVAL);
	cr_assert(strstr(err.text, "NUL"));
	free(big);
	verdict_rules_destroy(rules);
}
