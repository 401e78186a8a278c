/*
 * verdict/builtin: the rules without a file; verdict.h tells their form.
 *
 * What the kernel prints when it finds a mistake of its own, from 4.19 to 6.x, by its sources. The order
 * matters: a special report (BUG: KASAN) before a general one (BUG:). syzkaller's pkg/report and the
 * lists of the BPF CI showed which reports kernels' testers look for.
 */
#include "vmm/verdict/verdict.h"

const char verdict_rules_builtin[] =
	"deny panic ^Kernel panic - not syncing\n"
	"deny panic ^(traps: )?PANIC: double fault\n"

	"deny kasan ^BUG: KASAN: \n"
	"deny kmsan ^BUG: KMSAN: \n"
	"deny kcsan ^BUG: KCSAN: \n"
	"deny kfence ^BUG: KFENCE: \n"
	"deny ubsan ^UBSAN: \n"

	/* lib/dump_stack's callers in kernel/locking/lockdep.c and rcu's checks */
	"deny lockdep ^WARNING: (possible (circular|recursive|irq lock)|inconsistent lock|bad unlock"
	"|bad contention|lock held|held lock freed|suspicious RCU usage|Nested lock was not taken"
	"|SOFTIRQ-|HARDIRQ-|[A-Z]+-safe -> )\n"
	"deny lockdep ^WARNING: .* still has locks held!\n"
	"deny lockdep ^BUG: (bad unlock|held lock freed|MAX_LOCK|MAX_STACK_TRACE|spinlock |rwlock "
	"|rtmutex )\n"
	"deny lockdep ^BUG: lock held \n"
	"deny lockdep ^\\[ (BUG: |INFO: )\n"
	"deny lockdep ^INFO: (trying to register non-static key|possible (circular|recursive|irq))\n"

	"deny rcu ^(rcu: )?INFO: [a-z_]+ (self-)?detected (expedited )?stall\n"
	"deny rcu ^(rcu: )?(INFO: )?[a-z_]+ kthread (timer wakeup didn't happen|starved) for \n"
	/* a task's name may have a newline */
	"deny hung_task :[0-9]+ (blocked (in I/O wait )?for more than|can't die for more than)"
	" [0-9]+ seconds\n"
	"deny lockup BUG: soft lockup - CPU\n"
	"deny lockup Watchdog detected hard LOCKUP on cpu \n"
	"deny lockup ^BUG: workqueue lockup - pool \n"

	"deny atomic ^BUG: scheduling while atomic\n"
	"deny atomic ^BUG: (sleeping|atomic scheduling while) \n"
	"deny atomic ^BUG: using (smp_processor_id|__this_cpu)\n"
	"deny atomic ^BUG: scheduling with irqs disabled\n"

	"deny page ^BUG: Bad (page|rss-counter)\n"
	"deny page ^BUG [^ :]+ \\(.*\\): \n"
	"deny page ^BUG: non-zero pgtables_bytes on freeing mm\n"
	"deny page list_(add|del) (corruption|double add)\n"
	"deny page : page allocation failure: order:\n"
	"deny page ^kmemleak: [0-9]+ new suspected memory leaks\n"
	"deny page ^SLUB: Unable to allocate memory \n"

	"deny oom ^(Memory cgroup out of memory|Out of memory( and no killable processes)?):? \n"
	"deny oom invoked oom-killer: \n"
	"deny oom ^oom-kill:\n"

	"deny bug ^kernel BUG at \n"
	"deny oops ^BUG: ([Uu]nable to handle|kernel NULL pointer|stack guard page was hit)\n"
	"deny oops ^BUG: (IRQ|NMI|#DF|TASK|[A-Za-z]+) stack guard page was hit\n"
	"deny oops ^Unable to handle kernel \n"
	"deny oops ^Internal error: \n"
	"deny oops ^(Oops: )?((segment-related )?general protection fault|invalid opcode|divide[ _]error|double fault"
	"|stack segment|segment not present|alignment check|int3|control protection).*\\[#[0-9]+\\]\n"
	"deny oops ^Oops( - |: )\n"
	"deny oops ^Oops\n"
	"deny oops ^(traps: )?Missing ENDBR: \n"
	"deny oops ^kernel tried to execute \n"
	"deny oops ^Insufficient stack space to handle exception\n"
	"deny oops ^Bad mode in \n"

	"deny bug ^BUG: \n"
	"deny bug BUG: unable to handle kernel \n"
	/* programs write "WARNING: " too */
	"deny warn ^WARNING: (CPU: [0-9]+ PID: [0-9]+ at |.*:[0-9]+ at )\n"
	"deny warn ^WARNING: (kernel stack|stack recursion|stack going)\n"
	"deny warn ^refcount_t: \n"

	"deny other ^unregister_netdevice: waiting for \n"
	"deny other ^irq [0-9]+: nobody cared\n"
	"deny other ^sysfs: cannot create duplicate filename \n"
	"deny other ^ODEBUG: \n"
	"deny other ^VFS: (Busy inodes after unmount|Close: file count is 0)\n"

	"allow ^BUG: arch topology borken\n" /* what a hypervisor tells of its CPUs */
	"allow ^ODEBUG: Out of memory\\. ODEBUG disabled\n";
