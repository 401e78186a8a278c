/*
 * vcpu: see vcpu.h.
 *
 * Theory of operation. Other threads ask a vCPU's thread to do something outside the guest: to
 * end, to rest, to send an NMI, to tell what it does (a sample). They set a bit in asked, set immediate_exit (KVM_RUN then returns
 * at once, even if the signal comes before KVM_RUN begins), and interrupt KVM_RUN by a signal.
 * The thread looks at asked before each KVM_RUN, and does what is asked in attend. The lock makes
 * bit and immediate_exit change together: as long as a bit is set, no guest code runs.
 */
#include "vmm/machine/vcpu.h"

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/core/clock.h"
#include "vmm/errand/errand.h"
#include "vmm/core/thread.h"
#include "vmm/machine/affinity.h"

/* The signal that interrupts KVM_RUN. Its handler does nothing: KVM_RUN returns EINTR. */
#define SIG_KICK (SIGRTMIN + 1)
#define STACK_BYTES (128 << 10)
#define NREASONS 48
#define AGAIN_MAX 1000u

#define ASK_STOP 1u /* never taken back */
#define ASK_PAUSE 2u
#define ASK_NMI 4u
#define ASK_SAMPLE 8u

struct vcpu {
	struct vcpu_env env;
	unsigned id;
	int fd;
	struct kvm_run *run;
	int run_bytes;
	pthread_t thread;
	bool threaded; /* vcpu_create started thread, vcpu_join joins it; the machine's thread */
	atomic_uint asked; /* ASK_… bits */

	pthread_mutex_t lock; /* a leaf; protects the fields up to err, and run->immediate_exit */
	pthread_cond_t cond;
	bool ready; /* prepared, or failed with rc */
	bool kick;  /* thread exists and may be in the guest: ask sends it SIG_KICK */
	bool go;
	struct errands *errands; /* of the machine's thread */
	bool resting;		 /* paused: the thread is outside the guest and waits */
	int rc;
	struct arch_sample sample; /* the last one, or sample_rc */
	int sample_rc;
	unsigned samples; /* how many were taken; may wrap */
	struct err err;

	uint64_t exits[NREASONS];
	unsigned again; /* how often KVM_RUN had to be called again, of the first vCPU */
};

static _Thread_local struct vcpu *current;

/* The exits that every architecture has. */
static const char *const reason_name[NREASONS] = {
	[KVM_EXIT_UNKNOWN] = "unknown",
	[KVM_EXIT_MMIO] = "mmio",
	[KVM_EXIT_FAIL_ENTRY] = "fail-entry",
	[KVM_EXIT_INTR] = "signal",
	[KVM_EXIT_INTERNAL_ERROR] = "internal-error",
	[KVM_EXIT_SYSTEM_EVENT] = "system-event",
};

bool vcpu_exit_count(const struct vcpu *vcpu, unsigned index, const char **name, uint64_t *count)
{
	if (index >= NREASONS)
		return false;
	*name = reason_name[index] ? reason_name[index] : arch_exit_name(index);
	if (!*name)
		*name = "other";
	*count = vcpu->exits[index];
	return true;
}

static void handle_mmio(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	unsigned len = run->mmio.len;
	uint64_t val = 0;

	BUG_ON(len > sizeof(val));
	if (run->mmio.is_write) {
		memcpy(&val, run->mmio.data, len);
		bus_write(v->env.mmio, run->mmio.phys_addr, len, val);
	} else {
		val = bus_read(v->env.mmio, run->mmio.phys_addr, len);
		memcpy(run->mmio.data, &val, len);
	}
}

static void end(struct vcpu *v, enum vcpu_end why, const char *text)
{
	atomic_fetch_or(&v->asked, ASK_STOP);
	v->env.ended(v->env.opaque, why, text);
}

static void end_kvm(struct vcpu *v, const char *what, unsigned detail)
{
	char where[160], text[256];
	int n;

	arch_vcpu_where(v->fd, where, sizeof(where));
	n = snprintf(text, sizeof(text), "vCPU %u: %s %u at %s", v->id, what, detail, where);
	/* Add the instruction that KVM could not emulate, if KVM reports it. */
	if (v->run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
	    v->run->emulation_failure.suberror == KVM_INTERNAL_ERROR_EMULATION &&
	    v->run->emulation_failure.ndata >= 1 &&
	    (v->run->emulation_failure.flags &
	     KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
		n += snprintf(text + n, sizeof(text) - (size_t)n, " bytes");
		for (unsigned i = 0;
		     i < v->run->emulation_failure.insn_size && i < 15 && n < (int)sizeof(text) - 4;
		     i++)
			n += snprintf(text + n, sizeof(text) - (size_t)n, " %02x",
				      v->run->emulation_failure.insn_bytes[i]);
	}
	end(v, VCPU_END_KVM, text);
}

static void handle_exit(struct vcpu *v)
{
	struct kvm_run *run = v->run;

	if (run->exit_reason < NREASONS)
		v->exits[run->exit_reason]++;
	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		handle_mmio(v);
		return;
	case KVM_EXIT_INTR:
		return;
	case KVM_EXIT_FAIL_ENTRY:
		end_kvm(v, "the processor refuses the guest's state, reason",
			(unsigned)run->fail_entry.hardware_entry_failure_reason);
		return;
	case KVM_EXIT_INTERNAL_ERROR:
		end_kvm(v, "KVM internal error", run->internal.suberror);
		return;
	default:
		switch (arch_vcpu_exit(v->env.arch, run)) {
		case ARCH_EXIT_DONE:
			return;
		case ARCH_EXIT_CRASHED:
			end(v, VCPU_END_CRASHED, "");
			return;
		case ARCH_EXIT_UNKNOWN:
			end_kvm(v, "unexpected exit", run->exit_reason);
			return;
		}
	}
}

/*
 * A vCPU that waits for its start by the first one gets this now and then. The first one gets it, again and again, if KVM
 * (since Linux 6.15) may not make a thread that the VM's first run needs.
 */
static void run_again(struct vcpu *v)
{
	v->exits[KVM_EXIT_INTR]++;
	if (v->id || ++v->again < AGAIN_MAX)
		return;
	end(v, VCPU_END_KVM,
	    "KVM may not start the thread that it needs: the user's limit of processes (ulimit -u) or the group's "
	    "(--limit pids=N) is reached");
}

/* Returns true if there was an exit, false if KVM_RUN was interrupted or failed. */
static inline bool run_once(struct vcpu *v)
{
	int rc = ioctl(v->fd, KVM_RUN, 0) < 0 ? -errno : 0;

	if (rc == 0) {
		handle_exit(v);
		return true;
	}
	if (rc == -EINTR)
		v->exits[KVM_EXIT_INTR]++;
	else if (rc == -EAGAIN)
		run_again(v);
	else if (rc == -EFAULT)
		end_kvm(v, "guest memory cannot be reached, errno", EFAULT);
	else
		end_kvm(v, "KVM_RUN failed, errno", (unsigned)-rc);
	return false;
}

static bool stopped(const struct vcpu *v)
{
	return atomic_load(&v->asked) & ASK_STOP;
}

/*
 * An access that left the guest is complete only when KVM_RUN has begun again: only then KVM puts
 * what was read into the guest's register. With immediate_exit, KVM_RUN does just that; a wide
 * access may need several exits.
 */
static void complete_access(struct vcpu *v)
{
	while (!stopped(v) && run_once(v))
		;
}

/* The lock is held. */
static void take_sample(struct vcpu *v)
{
	v->sample_rc = arch_vcpu_sample(v->fd, &v->sample);
	v->samples++;
	atomic_fetch_and(&v->asked, ~ASK_SAMPLE);
	pthread_cond_broadcast(&v->cond);
}

/* Returns what was asked when the vCPU may run again: the lock is held, asked becomes 0. */
static unsigned rest(struct vcpu *v)
{
	unsigned asked;

	while ((asked = atomic_load(&v->asked)) & (ASK_PAUSE | ASK_SAMPLE) && !(asked & ASK_STOP)) {
		if (asked & ASK_SAMPLE) {
			take_sample(v);
			continue;
		}
		v->resting = true;
		pthread_cond_broadcast(&v->cond);
		pthread_cond_wait(&v->cond, &v->lock);
	}
	v->resting = false;
	if (!(asked & ASK_STOP)) {
		atomic_store(&v->asked, 0);
		v->run->immediate_exit = 0;
	}
	return asked;
}

/* Does what other threads have asked. Returns false if the vCPU must end. */
static bool attend(struct vcpu *v)
{
	bool rested = false;
	unsigned asked;

	complete_access(v);
	pthread_mutex_lock(&v->lock);
	rested = atomic_load(&v->asked) & ASK_PAUSE;
	asked = rest(v);
	pthread_mutex_unlock(&v->lock);
	if (asked & ASK_STOP)
		return false;
	if (rested)
		arch_vcpu_resumed(v->fd);
	if (asked & ASK_NMI)
		arch_vcpu_nmi(v->fd);
	return true;
}

static void run_guest(struct vcpu *v)
{
	while (!atomic_load_explicit(&v->asked, memory_order_acquire) || attend(v))
		run_once(v);
}

static int prepare(struct vcpu *v)
{
	int rc = kvm_create_vcpu(v->env.kvm, arch_vcpu_kvm_id(v->env.arch, v->id), &v->fd, &v->run,
				 &v->err);

	if (rc < 0)
		return rc;
	v->run_bytes = rc;
	return arch_vcpu_init(v->env.arch, v->fd, v->id, &v->err);
}

/* Reports that the vCPU is prepared (or rc), and waits for vcpu_go. Returns true if it may run. */
static bool wait_for_go(struct vcpu *v, int rc)
{
	bool go;

	pthread_mutex_lock(&v->lock);
	v->rc = rc;
	v->ready = true;
	pthread_cond_broadcast(&v->cond);
	while (!v->go && !v->rc && !stopped(v))
		pthread_cond_wait(&v->cond, &v->lock);
	go = v->go && !v->rc;
	pthread_mutex_unlock(&v->lock);
	return go;
}

static void *thread_main(void *opaque)
{
	struct vcpu *v = opaque;
	int rc = affinity_bind(v->env.cpus, v->id, &v->err);

	current = v;
	if (wait_for_go(v, rc ? rc : prepare(v))) {
		errands_use(v->errands);
		thread_confine();
		run_guest(v);
	}
	v->env.finished(v->env.opaque);
	return NULL;
}

static void on_kick(int sig)
{
}

static void set_kick(struct vcpu *v, bool kick)
{
	pthread_mutex_lock(&v->lock);
	v->kick = kick;
	pthread_mutex_unlock(&v->lock);
}

static int start_thread(struct vcpu *v, struct err *err)
{
	char name[THREAD_NAME_BYTES];
	int rc;

	snprintf(name, sizeof(name), "vcpu%u", v->id);
	rc = thread_start(&v->thread, THREAD_VCPU, name, STACK_BYTES, thread_main, v);
	if (rc)
		return err_sys(err, -rc, "vCPU %u: cannot start its thread", v->id);
	v->threaded = true;
	set_kick(v, true);
	return 0;
}

static int prepare_first(struct vcpu *v, struct err *err)
{
	struct sigaction act = { .sa_handler = on_kick };
	sigset_t kick;
	int rc;

	sigaction(SIG_KICK, &act, NULL);
	/* The process's parent may have blocked it; then no stop would end KVM_RUN. */
	sigemptyset(&kick);
	sigaddset(&kick, SIG_KICK);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	v->thread = pthread_self();
	rc = prepare(v);
	v->ready = true;
	if (rc)
		*err = v->err;
	return rc;
}

int vcpu_create(const struct vcpu_env *env, unsigned id, struct vcpu **out, struct err *err)
{
	struct vcpu *v = calloc(1, sizeof(*v));
	pthread_condattr_t attr;
	int rc;

	*out = NULL;
	if (!v)
		return err_sys(err, ENOMEM, "vCPU %u", id);
	v->env = *env;
	v->id = id;
	v->fd = -1;
	pthread_mutex_init(&v->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* clock.h's */
	pthread_cond_init(&v->cond, &attr);
	pthread_condattr_destroy(&attr);
	rc = id ? start_thread(v, err) : prepare_first(v, err);
	if (rc) {
		vcpu_destroy(v);
		return rc;
	}
	*out = v;
	return 0;
}

int vcpu_go(struct vcpu *v, struct err *err)
{
	int rc;

	pthread_mutex_lock(&v->lock);
	while (!v->ready)
		pthread_cond_wait(&v->cond, &v->lock);
	rc = v->rc;
	if (rc)
		*err = v->err;
	v->go = true;
	v->errands = errands_used();
	pthread_cond_broadcast(&v->cond);
	pthread_mutex_unlock(&v->lock);
	return rc;
}

int vcpu_boot(struct vcpu *v, const struct boot_info *boot, struct err *err)
{
	return arch_vcpu_boot(v->env.arch, v->fd, boot, err);
}

void vcpu_run_first(struct vcpu *v)
{
	current = v;
	set_kick(v, true);
	thread_confine();
	run_guest(v);
	set_kick(v, false);
	current = NULL;
	v->env.finished(v->env.opaque);
}

/* The lock is held. */
static void ask_locked(struct vcpu *v, unsigned what)
{
	/* First immediate_exit, if the shared page exists: the thread reads asked without the lock. */
	if (v->ready && v->run)
		__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	atomic_fetch_or(&v->asked, what);
	pthread_cond_broadcast(&v->cond);
	if (v->kick && !pthread_equal(v->thread, pthread_self()))
		pthread_kill(v->thread, SIG_KICK);
}

static void ask(struct vcpu *v, unsigned what)
{
	pthread_mutex_lock(&v->lock);
	ask_locked(v, what);
	pthread_mutex_unlock(&v->lock);
}

void vcpu_stop(struct vcpu *v)
{
	ask(v, ASK_STOP);
}

void vcpu_pause(struct vcpu *v)
{
	ask(v, ASK_PAUSE);
}

void vcpu_nmi(struct vcpu *v)
{
	ask(v, ASK_NMI);
}

bool vcpu_await_rest(struct vcpu *v)
{
	bool resting;

	pthread_mutex_lock(&v->lock);
	while (!v->resting && !stopped(v))
		pthread_cond_wait(&v->cond, &v->lock);
	resting = v->resting;
	pthread_mutex_unlock(&v->lock);
	return resting;
}

/*
 * After a timeout the question stays: the vCPU answers when it leaves its device, and only then may
 * immediate_exit be cleared.
 */
int vcpu_sample(struct vcpu *v, unsigned timeout_ms, struct arch_sample *out)
{
	uint64_t until_ns = clock_now_ns() + timeout_ms * 1000000ull;
	struct timespec until = { .tv_sec = (time_t)(until_ns / CLOCK_NS_PER_S),
				  .tv_nsec = (long)(until_ns % CLOCK_NS_PER_S) };
	unsigned before;
	int rc = 0;

	pthread_mutex_lock(&v->lock);
	before = v->samples;
	ask_locked(v, ASK_SAMPLE);
	while (v->samples == before && !stopped(v) && !rc)
		rc = -pthread_cond_timedwait(&v->cond, &v->lock, &until);
	if (v->samples != before) {
		rc = v->sample_rc;
		*out = v->sample;
	} else if (stopped(v)) {
		rc = -ECANCELED;
	}
	pthread_mutex_unlock(&v->lock);
	return rc;
}

void vcpu_resume(struct vcpu *v)
{
	pthread_mutex_lock(&v->lock);
	atomic_fetch_and(&v->asked, ~ASK_PAUSE);
	pthread_cond_broadcast(&v->cond);
	pthread_mutex_unlock(&v->lock);
}

void vcpu_join(struct vcpu *v)
{
	if (!v->threaded)
		return;
	vcpu_stop(v);
	/* Before the join: afterwards, v->thread may name another thread, or none. */
	set_kick(v, false);
	pthread_join(v->thread, NULL);
	v->threaded = false;
}

void vcpu_destroy(struct vcpu *v)
{
	if (!v)
		return;
	vcpu_join(v);
	if (v->run)
		munmap(v->run, (size_t)v->run_bytes);
	if (v->fd >= 0)
		close(v->fd);
	pthread_mutex_destroy(&v->lock);
	pthread_cond_destroy(&v->cond);
	free(v);
}

bool vcpu_emergency(void)
{
	return current && arch_vcpu_emergency(current->env.arch, current->fd);
}
