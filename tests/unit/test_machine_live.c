/*
 * machine, while it runs: other threads pause, resume and stop it, send it NMIs and look at its
 * devices. The guest spin counts in guest memory, where the test sees whether it runs.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "devices/virtio/core/virtio.h"
#include "guest/bare/spin.h"
#include "vmm/core/clock.h"
#include "vmm/core/thread.h"
#include "vmm/machine/machine_impl.h"

#define GUEST "build/guest/spin.elf"
#define KILLED (OUTCOME_SIGNAL + 15)
#define MAX_STATES 4096

/* One machine and the thread that is its first vCPU. */
struct live {
	struct config config;
	struct loop *loop;
	pthread_t thread;
	sem_t changed; /* posted when the machine is created, or could not be, and when it runs */
	pthread_mutex_t lock;
	struct machine *m; /* protected by lock for those who do not know that it lives */
	int rc;
	struct err err;
	struct machine_end end;
	enum machine_state states[MAX_STATES];
	atomic_uint nstates;
	atomic_bool hold; /* the machine is not destroyed as long as this is set */
};

static void need(const char *file)
{
	if (access("/dev/kvm", R_OK | W_OK))
		cr_skip_test("/dev/kvm cannot be used here: %s", strerror(errno));
	if (access(file, R_OK))
		cr_skip_test("%s is not built", file);
}

static void on_state(void *opaque, enum machine_state state)
{
	struct live *l = opaque;
	unsigned n = atomic_load(&l->nstates);

	if (n < MAX_STATES)
		l->states[n] = state;
	atomic_store(&l->nstates, n + 1);
	if (state == MACHINE_RUNNING && n == 0)
		sem_post(&l->changed);
}

static void *live_main(void *opaque)
{
	struct live *l = opaque;
	struct machine_setup setup = { .config = &l->config,
				       .loop = l->loop,
				       .events = { .opaque = l, .state = on_state } };
	struct machine *m;

	l->rc = machine_create(&setup, &m, &l->err);
	pthread_mutex_lock(&l->lock);
	l->m = m;
	pthread_mutex_unlock(&l->lock);
	if (!l->rc)
		l->rc = machine_run(m, &l->end, &l->err);
	if (l->rc)
		sem_post(&l->changed);
	while (atomic_load(&l->hold))
		usleep(1000);
	pthread_mutex_lock(&l->lock);
	l->m = NULL;
	pthread_mutex_unlock(&l->lock);
	machine_destroy(m);
	return NULL;
}

/* "|" separates the options. */
static void live_init(struct live *l, const char *args)
{
	char text[1000], *rest = text, *argv[60];
	struct err err;
	int argc = 0;

	memset(l, 0, sizeof(*l));
	snprintf(text, sizeof(text), "--kernel|%s|--memory|32M|%s", GUEST, args);
	while (rest)
		argv[argc++] = strsep(&rest, "|");
	cr_assert_eq(config_parse(&l->config, argc, argv, &err), 0, "%s", err.text);
	cr_assert_eq(loop_create(&l->loop, &err), 0, "%s", err.text);
	sem_init(&l->changed, 0, 0);
	pthread_mutex_init(&l->lock, NULL);
}

/* Returns when the machine runs, or could not. */
static void live_start(struct live *l)
{
	atomic_store(&l->nstates, 0);
	cr_assert_eq(thread_start(&l->thread, THREAD_VCPU, "vcpu0", 1u << 20, live_main, l), 0);
	sem_wait(&l->changed);
}

static void live_join(struct live *l)
{
	pthread_join(l->thread, NULL);
}

static void live_stop(struct live *l)
{
	/* With the lock: the machine ends before the call returns, and must not be freed then. */
	pthread_mutex_lock(&l->lock);
	machine_stop(l->m, KILLED, "killed by SIGTERM");
	pthread_mutex_unlock(&l->lock);
	live_join(l);
	cr_expect_eq(l->rc, 0, "%s", l->err.text);
	cr_expect_eq(l->end.outcome, KILLED, "%s", l->end.why.text);
}

static void live_clear(struct live *l)
{
	loop_destroy(l->loop);
	config_clear(&l->config);
	sem_destroy(&l->changed);
	pthread_mutex_destroy(&l->lock);
}

static volatile struct spin *spin_of(struct live *l)
{
	return mem_slice(&l->m->mem, gpa(SPIN_AT), sizeof(struct spin));
}

/* Waits for it; at most ten seconds. */
static bool reaches(const volatile uint64_t *at, uint64_t least)
{
	for (unsigned ms = 0; ms < 10000 && *at < least; ms++)
		usleep(1000);
	return *at >= least;
}

static void expect_err(int rc, struct err *err, const char *text)
{
	cr_expect_eq(rc, -EBUSY);
	cr_expect_str_eq(err->text, text);
}

TestSuite(machine_live, .timeout = 120);

Test(machine_live, pause_freezes_the_guest)
{
	enum { ROUNDS = 20, CPUS = 4 };
	struct live l;
	struct err err;

	need(GUEST);
	live_init(&l, "--cpus|4|--rng|--serial|off");
	live_start(&l);
	volatile struct spin *spin = spin_of(&l);
	for (unsigned i = 0; i < CPUS; i++)
		cr_assert(reaches(&spin->cpu[i].count, 1), "CPU %u", i);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct spin before;

		cr_assert_eq(machine_pause(l.m, &err), 0, "%s", err.text);
		cr_expect_eq(machine_state(l.m), MACHINE_PAUSED);
		memcpy(&before, (void *)spin, sizeof(before));
		usleep(round ? 1000 : 50000);
		cr_expect_eq(memcmp(&before, (void *)spin, sizeof(before)), 0, "it still runs");
		expect_err(machine_pause(l.m, &err), &err, "cannot pause: the VM is paused");
		cr_assert_eq(machine_resume(l.m, &err), 0, "%s", err.text);
		cr_expect_eq(machine_state(l.m), MACHINE_RUNNING);
		expect_err(machine_resume(l.m, &err), &err, "cannot resume: the VM is running");
		for (unsigned i = 0; i < CPUS; i++)
			if (i % 3 != 2)
				cr_assert(reaches(&spin->cpu[i].count, before.cpu[i].count + 2),
					  "CPU %u", i);
	}
	cr_expect_eq(spin->cpu[2].count, 1, "the CPU that sleeps");
	cr_expect_eq(spin->wrong, 0, "a read that was interrupted lost its value");
	live_stop(&l);
	cr_expect_eq(l.nstates, 2 * ROUNDS + 2);
	for (unsigned i = 0; i <= 2 * ROUNDS; i++)
		cr_expect_eq(l.states[i], i % 2 ? MACHINE_PAUSED : MACHINE_RUNNING);
	cr_expect_eq(l.states[2 * ROUNDS + 1], MACHINE_SHUTDOWN);
	live_clear(&l);
}

Test(machine_live, other_states_are_refused)
{
	struct machine_setup setup = { 0 };
	struct machine_end end;
	struct machine *m;
	struct live l;
	struct err err;

	need(GUEST);
	live_init(&l, "--cpus|2|--serial|off");
	setup.config = &l.config;
	setup.loop = l.loop;
	cr_assert_eq(machine_create(&setup, &m, &err), 0, "%s", err.text);
	machine_nmi(m);
	expect_err(machine_pause(m, &err), &err, "cannot pause: the VM has not started");
	expect_err(machine_resume(m, &err), &err, "cannot resume: the VM has not started");
	machine_stop(m, KILLED, "killed");
	expect_err(machine_pause(m, &err), &err, "cannot pause: the VM has not started");
	cr_expect_eq(machine_run(m, &end, &err), 0);
	machine_nmi(m);
	expect_err(machine_pause(m, &err), &err, "cannot pause: the VM has ended");
	expect_err(machine_resume(m, &err), &err, "cannot resume: the VM has ended");
	machine_destroy(m);
	live_clear(&l);
}

Test(machine_live, a_paused_machine_stops)
{
	struct live l;
	struct err err;

	need(GUEST);
	live_init(&l, "--cpus|3|--serial|off");
	live_start(&l);
	cr_assert_eq(machine_pause(l.m, &err), 0, "%s", err.text);
	live_stop(&l);
	cr_expect_eq(l.nstates, 3);
	cr_expect_eq(l.states[2], MACHINE_SHUTDOWN);
	live_clear(&l);
}

Test(machine_live, nmis)
{
	struct live l;
	struct err err;

	need(GUEST);
	live_init(&l, "--cpus|3|--serial|off");
	live_start(&l);
	volatile struct spin *spin = spin_of(&l);
	for (unsigned i = 0; i < 3; i++)
		cr_assert(reaches(&spin->cpu[i].count, 1), "CPU %u", i);
	machine_nmi(l.m);
	for (unsigned i = 0; i < 3; i++)
		cr_expect(reaches(&spin->cpu[i].nmis, 1), "CPU %u", i);
	cr_assert_eq(machine_pause(l.m, &err), 0, "%s", err.text);
	machine_nmi(l.m);
	machine_power_button(l.m);
	usleep(20000);
	cr_expect_eq(spin->buttons, 0);
	for (unsigned i = 0; i < 3; i++)
		cr_expect_eq(spin->cpu[i].nmis, 1, "CPU %u", i);
	cr_assert_eq(machine_resume(l.m, &err), 0, "%s", err.text);
	for (unsigned i = 0; i < 3; i++)
		cr_expect(reaches(&spin->cpu[i].nmis, 2), "CPU %u", i);
	cr_expect(reaches(&spin->buttons, 1), "the power button");
	usleep(20000);
	for (unsigned i = 0; i < 3; i++)
		cr_expect_eq(spin->cpu[i].nmis, 2, "CPU %u got %lu", i, spin->cpu[i].nmis);
	live_stop(&l);
	live_clear(&l);
}

/* The thread of this name in this process, or 0. */
static pid_t task_of(const char *name)
{
	char path[300], comm[32];
	struct dirent *e;
	pid_t found = 0;
	DIR *d = opendir("/proc/self/task");

	while (d && (e = readdir(d))) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", e->d_name);
		f = fopen(path, "r");
		if (f && fgets(comm, sizeof(comm), f)) {
			comm[strcspn(comm, "\n")] = 0;
			if (!strcmp(comm, name))
				found = atoi(e->d_name);
		}
		if (f)
			fclose(f);
	}
	closedir(d);
	return found;
}

static uint64_t cpu_time_ns(pid_t task)
{
	struct timespec now = { 0 };

	/* The clock of a thread of this process (linux/posix-timers.h). */
	cr_expect_eq(clock_gettime(~task * 8 | 6, &now), 0);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* An NMI to a CPU that the guest has not started: it stays asleep, on the host too. */
Test(machine_live, nmi_to_a_cpu_that_is_off)
{
	struct live l;
	uint64_t before, after;

	need(GUEST);
	live_init(&l, "--cpus|2|--serial|off|--cmdline|aps=off");
	live_start(&l);
	volatile struct spin *spin = spin_of(&l);
	cr_assert(reaches(&spin->cpu[0].count, 1));
	machine_nmi(l.m);
	cr_expect(reaches(&spin->cpu[0].nmis, 1));
	before = cpu_time_ns(task_of("vcpu1"));
	usleep(100000);
	after = cpu_time_ns(task_of("vcpu1"));
	cr_expect_lt(after - before, 20000000, "it used %lu us", (after - before) / 1000);
	cr_expect_eq(spin->cpu[1].nmis, 0);
	live_stop(&l);
	live_clear(&l);
}

/* Returns when the first vCPU waits in a device whose lock the test holds: it has stood still for 200 ms. */
static void await_still(volatile struct spin *spin)
{
	uint64_t count = spin->cpu[0].count, now;

	for (unsigned still = 0; still < 4;) {
		usleep(50000);
		now = spin->cpu[0].count;
		still = now == count ? still + 1 : 0;
		count = now;
	}
}

/* Returns when another thread's pause has begun. */
static void await_pausing(struct machine *m)
{
	for (bool pausing = false; !pausing; usleep(1000)) {
		pthread_mutex_lock(&m->state_lock);
		pausing = m->pausing;
		pthread_mutex_unlock(&m->state_lock);
	}
}

static void *pause_main(void *opaque)
{
	struct live *l = opaque;
	struct err err;

	return (void *)(intptr_t)machine_pause(l->m, &err);
}

/* A vCPU that waits in a device delays a pause until the device lets it go, or the machine stops. */
Test(machine_live, a_slow_device_delays_a_pause)
{
	struct live l;
	pthread_t pauser;
	struct err err;
	void *rc;

	need(GUEST);
	for (unsigned stop = 0; stop < 2; stop++) {
		live_init(&l, "--cpus|2|--rng|--serial|off");
		live_start(&l);
		volatile struct spin *spin = spin_of(&l);
		struct virtio_device *rng = (struct virtio_device *)l.m->device[l.m->ndevices - 1];

		cr_assert(reaches(&spin->cpu[0].count, 1));
		virtio_lock(rng); /* the guest reads a register of it all the time */
		await_still(spin);
		cr_assert_eq(pthread_create(&pauser, NULL, pause_main, &l), 0);
		await_pausing(l.m);
		cr_expect_eq(machine_state(l.m), MACHINE_RUNNING);
		expect_err(machine_pause(l.m, &err), &err, "cannot pause: another pause has begun");
		expect_err(machine_resume(l.m, &err), &err, "cannot resume: the VM is running");
		if (stop)
			machine_stop(l.m, KILLED, "killed by SIGTERM");
		else
			virtio_unlock(rng);
		pthread_join(pauser, &rc);
		cr_expect_eq((int)(intptr_t)rc, stop ? -EBUSY : 0);
		if (stop) {
			expect_err(machine_pause(l.m, &err), &err,
				   "cannot pause: the VM is ending");
			virtio_unlock(rng);
			live_join(&l);
		} else {
			live_stop(&l);
		}
		cr_expect_eq(l.end.outcome, KILLED);
		live_clear(&l);
	}
}

/* Is this a sample of the guest spin, after does=? */
static bool fits(const struct machine_sample *s, const char *does)
{
	bool halted = !strcmp(does, "idle") || !strcmp(does, "dead");
	bool off = !strcmp(does, "dead") || !strcmp(does, "off");

	return s->halted == halted && s->interrupts == !off &&
	       s->cpl == (strcmp(does, "user") ? 0 : 3) && s->rip > 0x100000 && s->rip < 32 << 20;
}

/* A busy host may let a sample come late: asks again. */
static void sample(struct live *l, unsigned vcpu, struct machine_sample *out)
{
	struct err err = { "" };
	int rc = -ETIMEDOUT;

	for (unsigned tries = 0; tries < 50 && rc == -ETIMEDOUT; tries++)
		rc = machine_sample(l->m, vcpu, out, &err);
	cr_assert_eq(rc, 0, "%s", err.text);
}

/* Whatever the vCPU does, running and paused; two threads ask. */
Test(machine_live, samples_tell_what_a_vcpu_does)
{
	static const char all[][8] = { "idle", "dead", "off", "on", "user" };

	need(GUEST);
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct machine_sample s = { 0 };
		char args[100];
		struct live l;
		struct err err;

		/* The second vCPU is not started: that is idle, too. */
		snprintf(args, sizeof(args), "--cpus|2|--serial|off|--cmdline|aps=off does=%s",
			 all[i]);
		live_init(&l, args);
		live_start(&l);
		cr_assert(reaches(&spin_of(&l)->cpu[0].count, 1));
		/* It does this a moment after it has counted. */
		for (unsigned ms = 0; ms < 10000 && !fits(&s, all[i]); ms++, usleep(1000))
			sample(&l, 0, &s);
		for (unsigned n = 0; n < 50; n++) {
			sample(&l, 0, &s);
			cr_expect(fits(&s, all[i]), "%s: rip 0x%lx cpl %u halted %d interrupts %d",
				  all[i], s.rip, s.cpl, s.halted, s.interrupts);
			sample(&l, 1, &s);
			cr_expect(s.halted && s.interrupts && !s.cpl);
			if (n == 24)
				cr_assert_eq(machine_pause(l.m, &err), 0, "%s", err.text);
		}
		cr_expect_eq(machine_sample(l.m, 2, &s, &err), -EINVAL);
		cr_expect_str_eq(err.text, "there is no vCPU 2; the last one is 1");
		cr_assert_eq(machine_resume(l.m, &err), 0, "%s", err.text);
		live_stop(&l);
		live_clear(&l);
	}
}

struct sampler {
	struct live *l;
	unsigned vcpu;
	int rc; /* of the last one */
	unsigned n;
};

/* Until the VM ends, or so often. */
static void *sample_main(void *opaque)
{
	struct sampler *s = opaque;
	struct machine_sample sample;
	struct err err;

	for (unsigned left = s->n; left && !s->rc; left--)
		s->rc = machine_sample(s->l->m, s->vcpu, &sample, &err);
	return NULL;
}

/* The guest finds every value that it reads from a device, and every NMI comes. */
Test(machine_live, samples_harm_nothing)
{
	enum { CPUS = 3, THREADS = 4, EACH = 2500 };
	struct sampler s[THREADS];
	pthread_t thread[THREADS];
	struct live l;
	struct err err;

	need(GUEST);
	live_init(&l, "--cpus|3|--rng|--serial|off");
	live_start(&l);
	volatile struct spin *spin = spin_of(&l);
	for (unsigned i = 0; i < CPUS; i++)
		cr_assert(reaches(&spin->cpu[i].count, 1), "CPU %u", i);
	for (unsigned i = 0; i < THREADS; i++) {
		/* Two threads ask the same vCPU, which reads a register of a device. */
		s[i] = (struct sampler){ &l, i % CPUS, 0, EACH };
		cr_assert_eq(pthread_create(&thread[i], NULL, sample_main, &s[i]), 0);
	}
	for (unsigned i = 1; i <= 20; i++) {
		machine_nmi(l.m);
		for (unsigned j = 0; j < CPUS; j++)
			cr_expect(reaches(&spin->cpu[j].nmis, i), "CPU %u", j);
		if (i % 5 == 0) {
			cr_assert_eq(machine_pause(l.m, &err), 0, "%s", err.text);
			cr_assert_eq(machine_resume(l.m, &err), 0, "%s", err.text);
		}
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(thread[i], NULL);
		/* A busy host may let one come late. */
		cr_expect(!s[i].rc || s[i].rc == -ETIMEDOUT, "vCPU %u: %d", s[i].vcpu, s[i].rc);
	}
	for (unsigned i = 0; i < CPUS; i++) {
		cr_expect_eq(spin->cpu[i].nmis, 20);
		if (i != 2)
			cr_expect(reaches(&spin->cpu[i].count, spin->cpu[i].count + 2), "CPU %u",
				  i);
	}
	cr_expect_eq(spin->cpu[2].count, 1, "the CPU that sleeps");
	cr_expect_eq(spin->wrong, 0, "a read that was interrupted lost its value");
	live_stop(&l);
	live_clear(&l);
}

/* A vCPU that waits in a device does not answer, but the one that asks waits no longer than it should. */
Test(machine_live, samples_of_a_vcpu_in_a_device)
{
	struct machine_sample s;
	uint64_t began_ms;
	struct live l;
	struct err err;

	need(GUEST);
	live_init(&l, "--cpus|2|--rng|--serial|off");
	live_start(&l);
	volatile struct spin *spin = spin_of(&l);
	struct virtio_device *rng = (struct virtio_device *)l.m->device[l.m->ndevices - 1];

	cr_assert(reaches(&spin->cpu[0].count, 1));
	virtio_lock(rng);
	await_still(spin);
	began_ms = clock_now_ms();
	cr_expect_eq(machine_sample(l.m, 0, &s, &err), -ETIMEDOUT);
	cr_expect_geq(clock_now_ms() - began_ms, 200);
	cr_expect(!strncmp(err.text, "vCPU 0 does not answer within 200 ms: it waits in a device",
			   57),
		  "%s", err.text);
	virtio_unlock(rng);
	/* The late answer does not count as one to the next question. */
	for (unsigned i = 0; i < 100; i++)
		cr_assert_eq(machine_sample(l.m, 0, &s, &err), 0, "%s", err.text);
	cr_expect(reaches(&spin->cpu[0].count, spin->cpu[0].count + 2));
	cr_expect_eq(spin->wrong, 0);
	live_stop(&l);
	live_clear(&l);
}

/* Before the start, after the end, and a VM that ends while threads ask. */
Test(machine_live, samples_of_a_vm_that_does_not_run)
{
	enum { ROUNDS = 20 };
	struct machine_setup setup = { 0 };
	struct machine_sample sample;
	struct machine_end end;
	struct machine *m;
	struct live l;
	struct err err;

	need(GUEST);
	live_init(&l, "--cpus|2|--serial|off");
	setup.config = &l.config;
	setup.loop = l.loop;
	cr_assert_eq(machine_create(&setup, &m, &err), 0, "%s", err.text);
	expect_err(machine_sample(m, 1, &sample, &err), &err,
		   "cannot look at vCPU 1: the VM has not started");
	machine_stop(m, KILLED, "killed");
	cr_expect_eq(machine_run(m, &end, &err), 0);
	expect_err(machine_sample(m, 1, &sample, &err), &err,
		   "cannot look at vCPU 1: the VM has ended");
	machine_destroy(m);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct sampler s[2] = { { &l, 0, 0, UINT_MAX }, { &l, 1, 0, UINT_MAX } };
		pthread_t thread[2];

		atomic_store(&l.hold, true);
		live_start(&l);
		for (unsigned i = 0; i < 2; i++)
			cr_assert_eq(pthread_create(&thread[i], NULL, sample_main, &s[i]), 0);
		usleep(round * 500);
		machine_stop(l.m, KILLED, "killed by SIGTERM");
		for (unsigned i = 0; i < 2; i++) {
			pthread_join(thread[i], NULL);
			cr_expect_eq(s[i].rc, -EBUSY);
		}
		atomic_store(&l.hold, false);
		live_join(&l);
		cr_expect_eq(l.end.outcome, KILLED);
	}
	live_clear(&l);
}

static void add_device(void *opaque, const struct machine_device_info *info)
{
	char *all = opaque;

	snprintf(all + strlen(all), 100, "%s %s", info->id, info->type);
	if (info->pci)
		snprintf(all + strlen(all), 100, " slot %u, BAR of %lu at %s", info->slot,
			 info->bar_bytes,
			 info->bar_base >= 0xc0000000 && info->bar_base < 1ull << 32 ?
				 "its window" :
				 "a wrong place");
	strcat(all, "\n");
}

Test(machine_live, devices_have_their_ids)
{
	static const char threads[][16] = { "_disk0_q0", "_data_q0", "_abcdefghijk_q0" };
	char disk[] = "/tmp/test_machine_live.XXXXXX", args[600], all[2000] = "";
	struct live l;
	struct err err;
	int fd = mkstemp(disk);

	need(GUEST);
	cr_assert(fd >= 0 && !ftruncate(fd, 1 << 20));
	close(fd);
	snprintf(args, sizeof(args),
		 "--disk|path=%s,ro,iothread,id=_disk0|--disk|path=%s,ro,iothread,id=data|"
		 "--disk|path=%s,ro,iothread,id=abcdefghijklmnop|--disk|path=%s,ro|--rng|"
		 "--serial|null",
		 disk, disk, disk, disk);
	live_init(&l, args);
	/* What code sets wins. */
	strcpy(l.config.device[4].id, "__rng");
	live_start(&l);
	cr_assert(reaches(&spin_of(&l)->cpu[0].count, 1), "%s", l.err.text);
	machine_walk_devices(l.m, add_device, all);
	cr_expect_str_eq(all,
			 "_disk0 virtio-blk slot 1, BAR of 16384 at its window\n"
			 "data virtio-blk slot 2, BAR of 16384 at its window\n"
			 "abcdefghijklmnop virtio-blk slot 3, BAR of 16384 at its window\n"
			 "disk3 virtio-blk slot 4, BAR of 16384 at its window\n"
			 "__rng virtio-rng slot 5, BAR of 16384 at its window\n"
			 "serial0 serial\n",
			 "%s", all);
	for (unsigned i = 0; i < 3; i++)
		cr_expect(task_of(threads[i]), "no thread %s", threads[i]);
	live_stop(&l);
	/* The machine's own serial port has an id as well. */
	strcpy(l.config.device[4].id, "serial0");
	cr_expect_eq(config_check_ids(&l.config, &err), -EEXIST);
	live_start(&l);
	live_join(&l);
	cr_expect_eq(l.rc, -EEXIST);
	live_clear(&l);
	unlink(disk);
}

/* --- races ------------------------------------------------------------------------------ */

static struct {
	struct live live;
	atomic_bool over;
	atomic_uint users; /* threads that may be in machine_pause, without the owner's lock */
	atomic_uint pauses, walks;
} race;

static void count_device(void *opaque, const struct machine_device_info *info)
{
	*(unsigned *)opaque += info->pci && info->bar_bytes;
}

/* Before each CPU has its table of traps, an NMI would be a triple fault. */
static bool may_take_nmis(struct machine *m)
{
	const volatile struct spin *spin = mem_slice(&m->mem, gpa(SPIN_AT), sizeof(*spin));

	return spin->cpu[0].count && spin->cpu[1].count && spin->cpu[2].count;
}

/* As an API's threads: a look at the machine under the owner's lock, waits without it. */
static void *racer_main(void *opaque)
{
	unsigned seed = (unsigned)(uintptr_t)opaque, found;
	struct live *l = &race.live;
	struct machine *m;
	struct err err;

	while (!atomic_load(&race.over)) {
		unsigned what = (unsigned)rand_r(&seed) % 8;

		pthread_mutex_lock(&l->lock);
		m = l->m;
		if (m && what < 4)
			atomic_fetch_add(&race.users, 1);
		if (m && what == 4 && may_take_nmis(m))
			machine_nmi(m);
		if (m && what == 5)
			machine_power_button(m);
		if (m && what == 6) {
			found = 0;
			machine_walk_devices(m, count_device, &found);
			if (found)
				atomic_fetch_add(&race.walks, 1);
		}
		pthread_mutex_unlock(&l->lock);
		if (!m) {
			usleep(100);
		} else if (what < 4) {
			if (what < 2 && !machine_pause(m, &err))
				atomic_fetch_add(&race.pauses, 1);
			if (what >= 2)
				machine_resume(m, &err);
			atomic_fetch_sub(&race.users, 1);
		}
	}
	return NULL;
}

static void *race_main(void *opaque)
{
	struct live *l = &race.live;
	struct machine_setup setup = { .config = &l->config,
				       .loop = l->loop,
				       .events = { .opaque = l, .state = on_state } };
	struct machine *m;

	l->rc = machine_create(&setup, &m, &l->err);
	if (l->rc)
		return NULL;
	pthread_mutex_lock(&l->lock);
	l->m = m;
	pthread_mutex_unlock(&l->lock);
	l->rc = machine_run(m, &l->end, &l->err);
	pthread_mutex_lock(&l->lock);
	l->m = NULL;
	pthread_mutex_unlock(&l->lock);
	while (atomic_load(&race.users))
		sched_yield();
	machine_destroy(m);
	return NULL;
}

/* States alternate between RUNNING and PAUSED, and end with one SHUTDOWN. */
static void check_states(const struct live *l)
{
	unsigned n = atomic_load(&l->nstates) < MAX_STATES ? l->nstates : MAX_STATES;

	for (unsigned i = 0; i < n; i++)
		cr_assert(i + 1 == l->nstates ?
				  l->states[i] == MACHINE_SHUTDOWN :
				  l->states[i] == (i % 2 ? MACHINE_PAUSED : MACHINE_RUNNING),
			  "state %u of %u is %d", i, l->nstates, l->states[i]);
}

Test(machine_live, races)
{
	enum { MACHINES = 40, RACERS = 3 };
	struct live *l = &race.live;
	pthread_t racer[RACERS];
	unsigned seed = 1;

	need(GUEST);
	live_init(l, "--cpus|3|--rng|--serial|null");
	for (unsigned i = 0; i < RACERS; i++)
		cr_assert_eq(pthread_create(&racer[i], NULL, racer_main,
					    (void *)(uintptr_t)(i + 1)),
			     0);
	for (unsigned i = 0; i < MACHINES; i++) {
		atomic_store(&l->nstates, 0);
		cr_assert_eq(thread_start(&l->thread, THREAD_VCPU, "vcpu0", 1u << 20, race_main,
					  NULL),
			     0);
		usleep((unsigned)rand_r(&seed) % 60000);
		/* Until it is there: a machine that is stopped before it runs only shuts down. */
		for (bool stopped = false; !stopped; usleep(100)) {
			pthread_mutex_lock(&l->lock);
			stopped = l->m && machine_state(l->m) != MACHINE_CREATED;
			if (stopped)
				machine_stop(l->m, KILLED, "killed by SIGTERM");
			pthread_mutex_unlock(&l->lock);
		}
		live_join(l);
		cr_assert_eq(l->rc, 0, "%s", l->err.text);
		cr_assert_eq(l->end.outcome, KILLED, "%s", l->end.why.text);
		check_states(l);
	}
	atomic_store(&race.over, true);
	for (unsigned i = 0; i < RACERS; i++)
		pthread_join(racer[i], NULL);
	cr_expect_geq(race.pauses, MACHINES, "only %u pauses", race.pauses);
	cr_expect_geq(race.walks, MACHINES, "only %u walks", race.walks);
	live_clear(l);
}

/* --- processors ------------------------------------------------------------------------ */

Test(machine_live, topology)
{
	static const struct {
		const char *cpus;
		unsigned t[4];
		const char *err;
	} refused[] = {
		{ "4", { 1, 3, 1, 1 }, "cpus.topology: 4 vCPUs do not fit into 3 places" },
		{ "4", { 1, 4, 0, 1 }, "cpus.topology: each of its numbers must be from 1 to 255" },
		{ "4",
		  { 1, 1, 1, 4294967295 },
		  "cpus.topology: each of its numbers must be from 1 to 255" },
		{ "200",
		  { 1, 3, 1, 80 },
		  "cpus.topology: the last vCPU's APIC id would be above 254; make all but "
		  "packages a power of two" },
		{ "2",
		  { 255, 255, 255, 255 },
		  "cpus.topology: the last vCPU's APIC id would be above 254; make all but "
		  "packages a power of two" },
	};
	char args[100];
	struct live l;

	need(GUEST);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		const unsigned *t = refused[i].t;

		snprintf(args, sizeof(args), "--serial|off|--cpus|%s", refused[i].cpus);
		live_init(&l, args);
		l.config.cpus = (struct config_cpus){ t[0], t[1], t[2], t[3], NULL, 0 };
		live_start(&l);
		live_join(&l);
		cr_expect_eq(l.rc, -EINVAL);
		cr_expect_str_eq(l.err.text, refused[i].err);
		live_clear(&l);
	}
	/* Two packages of three cores: APIC ids 0, 1, 2, 4, 5, of which every third one sleeps. */
	live_init(&l, "--cpus|5|--serial|off");
	l.config.cpus = (struct config_cpus){ 1, 3, 1, 2, NULL, 0 };
	live_start(&l);
	volatile struct spin *spin = spin_of(&l);
	for (unsigned i = 0; i <= 5; i++)
		if (i != 3)
			cr_expect(reaches(&spin->cpu[i].count, 1), "APIC id %u", i);
	cr_expect_eq(spin->cpu[3].count, 0);
	live_stop(&l);
	live_clear(&l);
}

static void set_affinity(struct live *l, unsigned vcpu, unsigned host_cpu)
{
	struct config_cpus *c = &l->config.cpus;
	struct config_affinity *a;

	c->affinity = realloc(c->affinity, (c->naffinity + 1) * sizeof(*a));
	a = &c->affinity[c->naffinity++];
	a->vcpu = vcpu;
	a->host_cpu = malloc(2 * sizeof(unsigned));
	a->nhost_cpus = 2;
	a->host_cpu[0] = a->host_cpu[1] = host_cpu;
}

static int bound_to(const char *name)
{
	cpu_set_t set;
	int cpu = 0;

	if (sched_getaffinity(task_of(name), sizeof(set), &set) || CPU_COUNT(&set) != 1)
		return -1;
	while (!CPU_ISSET(cpu, &set))
		cpu++;
	return cpu;
}

Test(machine_live, affinity)
{
	static const struct {
		unsigned vcpu, host_cpu;
		const char *err;
	} refused[] = {
		{ 0, 8000, "cpus.affinity: vCPU 0 cannot run on host CPU 8000" },
		{ 1, 8000, "cpus.affinity: vCPU 1 cannot run on host CPU 8000" },
		{ 1, 4294967295, "cpus.affinity: vCPU 1 cannot run on host CPU 4294967295" },
		{ 2, 0, "cpus.affinity: there is no vCPU 2; the last one is 1" },
	};
	cpu_set_t all;
	struct live l;
	int last = CPU_SETSIZE - 1;

	need(GUEST);
	sched_getaffinity(0, sizeof(all), &all);
	while (!CPU_ISSET(last, &all))
		last--;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		live_init(&l, "--cpus|2|--serial|off");
		set_affinity(&l, refused[i].vcpu, refused[i].host_cpu);
		live_start(&l);
		live_join(&l);
		cr_expect_eq(l.rc, -EINVAL);
		cr_expect(!strncmp(l.err.text, refused[i].err, strlen(refused[i].err)), "%s",
			  l.err.text);
		for (unsigned s = 0; s < l.nstates; s++)
			cr_expect_neq(l.states[s], MACHINE_RUNNING);
		live_clear(&l);
	}
	live_init(&l, "--cpus|3|--serial|off");
	set_affinity(&l, 1, (unsigned)last);
	set_affinity(&l, 0, (unsigned)last);
	live_start(&l);
	cr_assert(reaches(&spin_of(&l)->cpu[2].count, 1));
	cr_expect_eq(bound_to("vcpu0"), last);
	cr_expect_eq(bound_to("vcpu1"), last);
	if (CPU_COUNT(&all) > 1) {
		cr_expect_eq(bound_to("vcpu2"), -1);
		cr_expect_eq(bound_to("loop"), -1, "only vCPUs are bound");
	}
	live_stop(&l);
	live_clear(&l);
}
