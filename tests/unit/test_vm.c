/*
 * vm: the life of a VM: which events come in which order, its end in every state, what is left after many
 * machines, and several threads at once. The guests run on this host's own KVM.
 */
#include "vmm/vm/vm.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/qcow2_files.h"
#include "tests/unit/vm_stress.h"
#include "vmm/core/log.h"

#define GUEST "build/guest/round.elf"
/* What the allocator may keep: caches of threads that are gone. */
#define SLACK_BYTES (64u << 10)

size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static struct {
	char kernel[4096];
	struct vm *vm;
	struct events *events;
	pthread_mutex_t lock; /* protects the fields below */
	pthread_cond_t cond;
	char seen[8192]; /* the events, of the VM and of bantam: "vm:booting " … */
	int gone;	 /* the outcome with which the VM has gone; -1: it has not */
} t = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };

/* One limit for all: Criterion leaks memory when tests of several limits run at once. */
TestSuite(vm, .timeout = 240);

/* --- the VM under test ------------------------------------------------------------------------ */

static void on_event(void *opaque, const char *json, size_t len)
{
	json_t *event = json_loadb(json, len, 0, NULL);
	const char *source = json_string_value(json_object_get(event, "source"));
	const char *name = json_string_value(json_object_get(event, "event"));
	const char *why = json_string_value(
		json_object_get(json_object_get(event, "properties"), "why"));
	size_t n;

	pthread_mutex_lock(&t.lock);
	n = strlen(t.seen);
	/* The digest comes when it comes, and each machine's guest uses its devices. */
	if ((!strcmp(source, "vm") || !strcmp(source, "bantam")) && strcmp(name, "machine") != 0)
		snprintf(t.seen + n, sizeof(t.seen) - n, "%s%s%s ",
			 !strcmp(name, "shutdown-reason") ? "reason" : name, why ? "=" : "",
			 why ? why : "");
	pthread_cond_broadcast(&t.cond);
	pthread_mutex_unlock(&t.lock);
	json_decref(event);
}

static void on_gone(void *opaque, const struct machine_end *end)
{
	pthread_mutex_lock(&t.lock);
	t.gone = end->outcome;
	pthread_cond_broadcast(&t.cond);
	pthread_mutex_unlock(&t.lock);
}

struct job {
	int (*fn)(struct err *err);
	struct err err;
	int rc;
	bool done;
};

static void on_job(void *opaque)
{
	struct job *job = opaque;
	int rc = job->fn(&job->err);

	pthread_mutex_lock(&t.lock);
	job->rc = rc;
	job->done = true;
	pthread_cond_broadcast(&t.cond);
	pthread_mutex_unlock(&t.lock);
}

static void post(struct job *job, int (*fn)(struct err *err))
{
	*job = (struct job){ .fn = fn };
	cr_assert_eq(vm_post(t.vm, on_job, job), 0);
}

static int await(struct job *job)
{
	pthread_mutex_lock(&t.lock);
	while (!job->done)
		pthread_cond_wait(&t.cond, &t.lock);
	pthread_mutex_unlock(&t.lock);
	return job->rc;
}

/* Runs fn in the executor, as a request. */
static int request(int (*fn)(struct err *err))
{
	struct job job;

	post(&job, fn);
	return await(&job);
}

static void must_do(int (*fn)(struct err *err))
{
	struct job job;

	post(&job, fn);
	cr_assert_eq(await(&job), 0, "%s", job.err.text);
}

/* Waits until the events have come; "…" at the end: they are the first of them. */
static void expect_events(const char *what, const char *events)
{
	size_t n = strlen(events);
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	pthread_mutex_lock(&t.lock);
	while (!rc && strlen(t.seen) < n)
		rc = pthread_cond_timedwait(&t.cond, &t.lock, &until);
	cr_expect_str_eq(t.seen, events, "%s: %s", what, t.seen);
	pthread_mutex_unlock(&t.lock);
}

/* --- requests ----------------------------------------------------------------------------------- */

static const char *how = "stay"; /* the guest ends so */

static int create(struct err *err)
{
	struct vmconfig_notes notes = { 0 };
	char cmdline[32];
	json_t *config;
	int rc;

	snprintf(cmdline, sizeof(cmdline), "end=%s", how);
	config = json_pack("{s:{s:s,s:s}, s:{s:i}, s:[{s:s}], s:{s:s,s:s}, s:{s:s}, s:{s:s,s:i}}",
			   "payload", "kernel", "kernel", "cmdline", cmdline, "memory", "size",
			   32 << 20, "disks", "path", "raw.img", "serial", "mode", "File", "file",
			   "serial.log", "console", "mode", "Pty", "vsock", "socket", "vsock.sock",
			   "cid", 3);
	cr_assert(config);
	rc = vm_create(t.vm, config, &notes, err);
	json_decref(config);
	return rc;
}

static int boot(struct err *err)
{
	return vm_boot(t.vm, err);
}

static int pause_vm(struct err *err)
{
	return vm_pause(t.vm, err);
}

static int resume(struct err *err)
{
	return vm_resume(t.vm, err);
}

static int reboot(struct err *err)
{
	return vm_reboot(t.vm, err);
}

static int shut_down(struct err *err)
{
	return vm_shutdown(t.vm, err);
}

static int delete (struct err *err)
{
	vm_delete(t.vm);
	return 0;
}

static int reboot_if_running(struct err *err)
{
	return vm_state(t.vm) == VM_RUNNING ? vm_reboot(t.vm, err) : 0;
}

static int look(struct err *err)
{
	return 0;
}

/* The kernel's file is not there when the next machine wants it. */
static int lose_kernel(struct err *err)
{
	return rename("kernel", "lost") ? -errno : 0;
}

static int find_kernel(struct err *err)
{
	return rename("lost", "kernel") ? -errno : 0;
}

static void begin(enum vm_action reset, bool no_shutdown)
{
	struct vm_setup setup = { .reboot = reset,
				  .panic = VM_EXIT,
				  .no_shutdown = no_shutdown,
				  .events = t.events,
				  .gone = on_gone };
	struct err err;

	t.seen[0] = 0;
	t.gone = -1;
	cr_assert_eq(vm_start(&setup, &t.vm, &err), 0, "%s", err.text);
}

static void enter(void)
{
	struct err err;
	unsigned id;

	if (access("/dev/kvm", R_OK | W_OK))
		cr_skip_test("/dev/kvm cannot be used here: %s", strerror(errno));
	if (!realpath(GUEST, t.kernel))
		cr_skip_test("%s is not built", GUEST);
	mallopt(M_ARENA_MAX, 1);
	scratch_enter();
	cr_assert_eq(symlink(t.kernel, "kernel"), 0);
	must("truncate -s 32M raw.img");
	cr_assert_eq(events_create(NULL, &t.events, &err), 0);
	cr_assert_eq(events_listen(t.events, on_event, NULL, &id), 0);
}

static void leave(void)
{
	events_destroy(t.events);
	scratch_leave();
	if (__lsan_do_recoverable_leak_check)
		cr_expect_eq(__lsan_do_recoverable_leak_check(), 0, "leaks");
}

/* --- the order of events ---------------------------------------------------------------------------- */

static const struct sequence {
	const char *what, *guest;
	enum vm_action reset;
	bool no_shutdown;
	int (*request[6])(struct err *err); /* after create and boot */
	const char *events;		    /* after those of the boot */
	enum vm_state state;
	int gone;
} sequences[] = {
	{ "shutdown",
	  "stay",
	  VM_RESTART,
	  false,
	  { shut_down },
	  "reason=request shutdown ",
	  VM_CREATED,
	  -1 },
	{ "shutdown and boot",
	  "stay",
	  VM_RESTART,
	  false,
	  { shut_down, boot },
	  "reason=request shutdown booting booted ",
	  VM_RUNNING,
	  -1 },
	{ "delete",
	  "stay",
	  VM_RESTART,
	  false,
	  { delete },
	  "reason=request shutdown deleted ",
	  VM_NONE,
	  -1 },
	{ "delete after shutdown",
	  "stay",
	  VM_RESTART,
	  false,
	  { shut_down, delete, delete },
	  "reason=request shutdown deleted ",
	  VM_NONE,
	  -1 },
	{ "pause, resume",
	  "stay",
	  VM_RESTART,
	  false,
	  { pause_vm, resume },
	  "pausing paused resuming resumed ",
	  VM_RUNNING,
	  -1 },
	{ "reboot while paused",
	  "stay",
	  VM_RESTART,
	  false,
	  { pause_vm, reboot },
	  "pausing paused rebooting rebooted ",
	  VM_RUNNING,
	  -1 },
	{ "shutdown while paused",
	  "stay",
	  VM_RESTART,
	  false,
	  { pause_vm, shut_down },
	  "pausing paused reason=request shutdown ",
	  VM_CREATED,
	  -1 },
	{ "reboot without a kernel",
	  "stay",
	  VM_RESTART,
	  false,
	  { lose_kernel, reboot, find_kernel, boot },
	  "rebooting error shutdown booting booted ",
	  VM_RUNNING,
	  -1 },
	{ "power-off",
	  "poweroff",
	  VM_RESTART,
	  false,
	  { NULL },
	  "reason=acpi shutdown deleted ",
	  VM_NONE,
	  OUTCOME_POWEROFF },
	{ "power-off, --no-shutdown",
	  "poweroff",
	  VM_RESTART,
	  true,
	  { NULL },
	  "reason=acpi shutdown ",
	  VM_CREATED,
	  -1 },
	{ "reset, exit",
	  "reset",
	  VM_EXIT,
	  false,
	  { NULL },
	  "reason=reset shutdown deleted ",
	  VM_NONE,
	  OUTCOME_REBOOT },
	{ "triple fault, exit",
	  "triple",
	  VM_EXIT,
	  true,
	  { NULL },
	  "reason=triple-fault shutdown deleted ",
	  VM_NONE,
	  OUTCOME_TRIPLE_FAULT },
	{ "reset, keep",
	  "reset",
	  VM_KEEP,
	  false,
	  { NULL },
	  "reason=reset shutdown ",
	  VM_CREATED,
	  -1 },
};

Test(vm, events_come_in_order)
{
	enter();
	for (size_t i = 0; i < sizeof(sequences) / sizeof(sequences[0]); i++) {
		const struct sequence *q = &sequences[i];
		char events[512];

		begin(q->reset, q->no_shutdown);
		how = q->guest;
		must_do(create);
		must_do(boot);
		for (unsigned k = 0; q->request[k]; k++)
			request(q->request[k]);
		snprintf(events, sizeof(events), "booting booted %s", q->events);
		expect_events(q->what, events);
		/* gone comes after the last event. */
		must_do(look);
		cr_expect_eq(vm_state(t.vm), q->state, "%s: state %d", q->what, vm_state(t.vm));
		cr_expect_eq(t.gone, q->gone, "%s: gone with %d", q->what, t.gone);
		must_do(delete);
		vm_end(t.vm);
	}
	leave();
}

/* --- a guest that resets itself at once, for ever ------------------------------------------------------ */

/* Returns when text has come so often. */
static void await_events(const char *text, unsigned times)
{
	pthread_mutex_lock(&t.lock);
	for (;;) {
		unsigned n = 0;

		for (const char *at = t.seen; (at = strstr(at, text)); at++)
			n++;
		if (n >= times)
			break;
		pthread_cond_wait(&t.cond, &t.lock);
	}
	pthread_mutex_unlock(&t.lock);
}

static bool ends_with(const char *end)
{
	size_t n = strlen(t.seen), len = strlen(end);

	return n >= len && !strcmp(t.seen + n - len, end);
}

Test(vm, requests_are_served_between_resets)
{
	enter();
	begin(VM_RESTART, false);
	how = "reset";
	must_do(create);
	must_do(boot);
	await_events("rebooted", 3);
	/* Each of them waits for a machine at most. */
	must_do(look);
	must_do(reboot);
	must_do(delete);
	cr_expect(ends_with("shutdown deleted "), "%s", t.seen);
	cr_expect_eq(vm_state(t.vm), VM_NONE);
	cr_expect_eq(t.gone, -1);
	vm_end(t.vm);
	leave();
}

Test(vm, a_restart_that_fails_ends_the_vm)
{
	enter();
	how = "reset";
	for (int no_shutdown = 0; no_shutdown < 2; no_shutdown++) {
		begin(VM_RESTART, no_shutdown);
		must_do(create);
		must_do(boot);
		must_do(lose_kernel);
		await_events("error", 1);
		must_do(look);
		must_do(look);
		cr_expect(ends_with(no_shutdown ? "rebooting error shutdown " :
						  "rebooting error shutdown deleted "),
			  "%s", t.seen);
		cr_expect_eq(vm_state(t.vm), no_shutdown ? VM_CREATED : VM_NONE);
		cr_expect_eq(t.gone, no_shutdown ? -1 : OUTCOME_ERROR);
		must_do(find_kernel);
		vm_end(t.vm);
	}
	leave();
}

/* --- the power button before there is a machine --------------------------------------------------------- */

Test(vm, the_power_button_waits_for_the_machine)
{
	enter();
	/* This guest powers off when it sees its button. */
	cr_assert_eq(unlink("kernel"), 0);
	must("ln -s %.*s/button.elf kernel", (int)(strrchr(t.kernel, '/') - t.kernel), t.kernel);
	for (unsigned n = 0; n < 4; n++) {
		struct job job;

		begin(VM_RESTART, false);
		must_do(create);
		post(&job, boot);
		while (!vm_is_creating(t.vm) && vm_state(t.vm) == VM_CREATED)
			;
		vm_power_button(t.vm);
		cr_expect_eq(await(&job), 0, "%s", job.err.text);
		await_events("deleted", 1);
		must_do(look);
		cr_expect_eq(t.gone, OUTCOME_POWEROFF);
		vm_end(t.vm);
	}
	leave();
}

/* --- the process's end --------------------------------------------------------------------------------- */

/* It comes before, in and after a boot and a reboot, and with the guest's own power-off. */
Test(vm, ends_at_any_time)
{
	static const char *const guests[] = { "stay", "reset", "poweroff" };
	unsigned cancelled = 0, booted = 0;

	enter();
	for (unsigned n = 0; n < 60; n++) {
		struct job job[4];

		begin(VM_RESTART, n % 2);
		how = guests[n % 3];
		must_do(create);
		post(&job[0], boot);
		post(&job[1], reboot_if_running);
		usleep(n / 3 * 700);
		vm_begin_end(t.vm, OUTCOME_SIGNAL + 15, "killed by SIGTERM");
		post(&job[2], delete);
		post(&job[3], create);
		await(&job[0]);
		booted += !job[0].rc;
		cancelled += job[0].rc == -ECANCELED || job[0].rc == -EBUSY;
		cr_expect(!job[0].rc || job[0].err.text[0]);
		cr_expect_eq(await(&job[3]), -EBUSY, "a VM is created after the end: %s",
			     job[3].err.text);
		cr_expect_eq(vm_state(t.vm), VM_NONE);
		/* The last requests are answered as before. */
		cr_expect_null(vm_info(t.vm));
		vm_power_button(t.vm);
		vm_end(t.vm);
		cr_expect(ends_with("deleted "), "%s", t.seen);
	}
	cr_expect_gt(booted, 0);
	cr_expect_gt(cancelled, 0);
	leave();
}

/* --- a guest's power-off and a request at the same time ------------------------------------------------- */

static int (*meets)(struct err *err);

static int meet(struct err *err)
{
	return vm_state(t.vm) == VM_RUNNING ? meets(err) : 0;
}

Test(vm, a_power_off_meets_a_request)
{
	static int (*const requests[])(struct err * err) = { shut_down, reboot, delete, pause_vm };
	unsigned by_guest = 0, by_request = 0;

	enter();
	how = "poweroff";
	for (unsigned n = 0; n < 36; n++) {
		struct job job[2];
		enum vm_state state;

		begin(VM_RESTART, false);
		must_do(create);
		post(&job[0], boot);
		meets = requests[n % 4];
		await_events("booted", 1);
		usleep(n / 4 * 500);
		post(&job[1], meet);
		cr_expect_eq(await(&job[0]), 0);
		await(&job[1]);
		/* A guest that was rebooted, or that could not be paused any more, powers off now. */
		if (meets == reboot || (meets == pause_vm && job[1].rc))
			await_events("deleted", 1);
		must_do(look);
		state = vm_state(t.vm);
		by_guest += !t.gone;
		by_request += state == VM_CREATED || state == VM_PAUSED ||
			      (meets == delete &&t.gone == -1);
		if (meets == delete)
			cr_expect_eq(state, VM_NONE);
		else
			cr_expect_eq(!t.gone, state == VM_NONE, "round %u, state %d: %s", n, state,
				     t.seen);
		if (state == VM_NONE)
			cr_expect(ends_with("shutdown deleted "), "round %u: %s", n, t.seen);
		must_do(delete);
		cr_expect(ends_with("deleted "), "%s", t.seen);
		vm_end(t.vm);
	}
	cr_expect_gt(by_guest, 0);
	cr_expect_gt(by_request, 0);
	leave();
}

/* --- what is left ---------------------------------------------------------------------------------------- */

static unsigned entries(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	cr_assert(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* Threads of the kernel, and the digest's, go a moment later. */
static unsigned threads_left(unsigned wanted)
{
	unsigned n = entries("/proc/self/task");

	for (unsigned ms = 0; ms < 2000 && n != wanted; ms += 5) {
		usleep(5000);
		n = entries("/proc/self/task");
	}
	return n;
}

static size_t memory_in_use(void)
{
	return __sanitizer_get_current_allocated_bytes ? __sanitizer_get_current_allocated_bytes() :
							 mallinfo2().uordblks;
}

/* BANTAM_VM_ROUNDS: more of them, by hand. */
Test(vm, many_machines_leave_nothing)
{
	const char *asked = getenv("BANTAM_VM_ROUNDS");
	unsigned rounds = asked ? (unsigned)atoi(asked) : 40;
	unsigned fds = 0, threads = 0, files = 0;
	size_t memory = 0;

	enter();
	how = "stay";
	begin(VM_RESTART, false);
	/* As the fourth round leaves them: a library may keep something until the process ends. */
	for (unsigned n = 0; n < rounds; n++) {
		must_do(create);
		must_do(boot);
		must_do(n % 4 == 3 ? lose_kernel : look);
		request(reboot);
		must_do(n % 4 == 3 ? find_kernel : shut_down);
		must_do(delete);
		t.seen[0] = 0;
		if (n == 3) {
			log_open(); /* which may take a descriptor, once */
			fds = entries("/proc/self/fd");
			files = entries(".");
			threads = threads_left(3 + 2);
			memory = memory_in_use();
		}
	}
	cr_expect_eq(entries("/proc/self/fd"), fds);
	cr_expect_eq(entries("."), files);
	cr_expect_eq(threads_left(threads), threads);
	cr_expect_lt(memory_in_use(), memory + SLACK_BYTES, "%zu, not %zu", memory_in_use(),
		     memory);
	vm_end(t.vm);
	leave();
}

Test(vm, threads_may_ask_anything_at_any_time)
{
	struct vm_stress_result r;

	enter();
	r = vm_stress(t.kernel, 12, 20);
	cr_expect_null(r.failed, "%s", r.failed);
	cr_expect_gt(r.boots, 0);
	cr_expect_gt(r.asked, 0);
	cr_log_info("%lu requests, %lu questions, %lu boots, %lu resets, %lu ends", r.requests,
		    r.asked, r.boots, r.resets, r.ends);
	leave();
}
