// SPDX-License-Identifier: GPL-2.0
/*
 * trouble: a kernel module that makes one kind of trouble while it is loaded, for tests of verdicts:
 * insmod trouble.ko what=oops. The last table has the kinds. Linux 6.1 and later, x86_64.
 */
#include <linux/irqflags.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/reboot.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <asm/desc_defs.h>

static char *what = "nothing";
module_param(what, charp, 0);
MODULE_PARM_DESC(what, "the kind of trouble");

static void do_nothing(void)
{
}

static void do_oops(void)
{
	*(volatile int *)8 = 1;
}

/* An address that no page table can have. */
static void do_gpf(void)
{
	*(volatile int *)0x1234567812345678 = 1;
}

static void do_bug(void)
{
	BUG();
}

static void do_warn(void)
{
	WARN(1, "trouble as asked\n");
}

/* It sleeps where it must not. */
static void do_atomic(void)
{
	preempt_disable();
	schedule_timeout_uninterruptible(1);
	preempt_enable();
}

static void do_panic(void)
{
	panic("trouble as asked");
}

static noinline unsigned long deeper(unsigned long n)
{
	volatile char fill[512];

	fill[n & 511] = (char)n;
	return n == ~0ul ? 0 : deeper(n + 1) + fill[n & 511];
}

static void do_stack(void)
{
	pr_info("trouble: %lu\n", deeper(0));
}

/* This CPU spins; it takes interrupts. */
static void do_soft(void)
{
	preempt_disable();
	for (;;)
		cpu_relax();
}

/* This CPU spins and takes no interrupts. */
static void do_hard(void)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
}

static void spin_hard(void *unused)
{
	do_hard();
}

/* All CPUs spin and take no interrupts. */
static void do_hard_all(void)
{
	on_each_cpu(spin_hard, NULL, 0);
	do_hard();
}

/* This CPU halts with interrupts off. */
static void do_halt(void)
{
	local_irq_disable();
	for (;;)
		asm volatile("hlt");
}

static void do_rcu(void)
{
	rcu_read_lock();
	for (;;)
		cpu_relax();
}

/* The program that loads the module sleeps and takes no signals. */
static void do_hung(void)
{
	for (;;)
		schedule_timeout_uninterruptible(MAX_SCHEDULE_TIMEOUT);
}

/* Without an interrupt table the processor cannot even report a fault. */
static void do_triple(void)
{
	static const struct desc_ptr none;

	local_irq_disable();
	asm volatile("lidt %0; int3" : : "m"(none));
}

static void do_poweroff(void)
{
	kernel_power_off();
}

static void do_restart(void)
{
	emergency_restart();
}

static const struct {
	const char *name;
	void (*run)(void);
} kinds[] = {
	{ "nothing", do_nothing },   { "oops", do_oops },	  { "gpf", do_gpf },
	{ "bug", do_bug },	     { "warn", do_warn },	  { "atomic", do_atomic },
	{ "panic", do_panic },	     { "stack", do_stack },	  { "soft", do_soft },
	{ "hard", do_hard },	     { "hard-all", do_hard_all }, { "halt", do_halt },
	{ "rcu", do_rcu },	     { "hung", do_hung },	  { "triple", do_triple },
	{ "poweroff", do_poweroff }, { "restart", do_restart },
};

static int __init trouble_init(void)
{
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!strcmp(kinds[i].name, what)) {
			kinds[i].run();
			return 0;
		}
	}
	pr_err("trouble: it knows no \"%s\"\n", what);
	return -EINVAL;
}

static void __exit trouble_exit(void)
{
}

module_init(trouble_init);
module_exit(trouble_exit);
MODULE_DESCRIPTION("Makes trouble, for tests");
MODULE_LICENSE("GPL");
