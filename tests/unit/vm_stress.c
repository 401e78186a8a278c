/* vm_stress: see vm_stress.h. */
#include "tests/unit/vm_stress.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/vm/vm.h"

#define CLIENTS 3
/* A client that asks at once, and does nothing else. */
#define ASKERS 1
#define DISK "stress.img"
#define LOG "stress.log"

static struct {
	const char *kernel;
	struct vm *vm;
	struct events *events;
	atomic_ulong requests, asked, boots, resets, ends;
	atomic_bool over; /* the askers return */
	_Atomic(const char *) failed;
	unsigned count;
} s;

static void fail(const char *text)
{
	const char *none = NULL;

	atomic_compare_exchange_strong(&s.failed, &none, text);
}

/* --- requests ----------------------------------------------------------------------------- */

/* One request; the thread that sends it waits for its end. */
struct request {
	unsigned what, seed;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
};

static json_t *new_config(unsigned seed)
{
	static const char *const end[] = {
		"poweroff", "poweroff", "reset", "triple", "stay", "stay"
	};
	char cmdline[32];

	snprintf(cmdline, sizeof(cmdline), "end=%s", end[seed % 6]);
	return json_pack("{s:{s:s,s:s}, s:{s:i,s:i}, s:{s:i}, s:[{s:s}], s:{s:s,s:s}, s:{s:s}, "
			 "s:{s:i}}",
			 "payload", "kernel", s.kernel, "cmdline", cmdline, "cpus", "boot_vcpus",
			 1 + seed / 6 % 2, "max_vcpus", 1 + seed / 6 % 2, "memory", "size",
			 32 << 20, "disks", "path", DISK, "serial", "mode", "File", "file", LOG,
			 "console", "mode", seed & 1 ? "Pty" : "Off", "balloon", "size", 1 << 20);
}

static void create(unsigned seed, struct err *err)
{
	struct vmconfig_notes notes = { 0 };
	json_t *config = new_config(seed);

	if (vm_create(s.vm, config, &notes, err) && !err->text[0])
		fail("an error without a text");
	json_decref(config);
}

static void resize(unsigned seed, struct err *err)
{
	json_t *body = json_pack("{s:i}", "desired_balloon", (int)(seed % 8) << 20);

	vm_resize(s.vm, body, err);
	json_decref(body);
}

static void add_and_remove(struct err *err)
{
	struct vmconfig_notes notes = { 0 };
	json_t *disk = json_pack("{s:s,s:b,s:s}", "path", DISK, "readonly", 1, "id", "more");

	json_t *answer = NULL;

	if (!vm_add_device(s.vm, "disks", disk, &notes, &answer, err) &&
	    vm_remove_device(s.vm, "more", err) && vm_state(s.vm) == VM_CREATED)
		fail("a new device cannot be removed");
	json_decref(answer);
	json_decref(disk);
}

/* The table of endpoints lets each request pass in these states only (vmm/api/endpoints.c). */
static bool may(unsigned what, enum vm_state state)
{
	switch (what) {
	case 0:
		return state == VM_NONE;
	case 1:
		return state == VM_CREATED;
	case 2:
		return state == VM_RUNNING;
	case 3:
		return state == VM_PAUSED;
	case 4:
	case 5:
	case 7:
		return state >= VM_RUNNING;
	case 6:
	case 8:
		return state != VM_NONE;
	}
	return true;
}

static void run(unsigned what, unsigned seed)
{
	struct err err = { "" };

	if (!may(what, vm_state(s.vm)))
		return;
	switch (what) {
	case 0:
		create(seed, &err);
		return;
	case 1:
		vm_boot(s.vm, &err);
		return;
	case 2:
		vm_pause(s.vm, &err);
		return;
	case 3:
		vm_resume(s.vm, &err);
		return;
	case 4:
		vm_shutdown(s.vm, &err);
		if (vm_state(s.vm) != VM_CREATED)
			fail("after vm.shutdown the state is not Created");
		return;
	case 5:
		vm_reboot(s.vm, &err);
		return;
	case 6:
		resize(seed, &err);
		return;
	case 7:
		vm_resize_disk(s.vm, "_disk0", (32u << 20) + seed % 64 * 512, &err);
		return;
	case 8:
		add_and_remove(&err);
		return;
	default:
		vm_delete(s.vm);
		if (vm_state(s.vm) != VM_NONE)
			fail("after vm.delete there is a VM");
	}
}

static void on_request(void *opaque)
{
	struct request *r = opaque;

	run(r->what, r->seed);
	pthread_mutex_lock(&r->lock);
	r->done = true;
	pthread_cond_signal(&r->cond);
	pthread_mutex_unlock(&r->lock);
}

static void request(unsigned what, unsigned seed)
{
	struct request r = { .what = what,
			     .seed = seed,
			     .lock = PTHREAD_MUTEX_INITIALIZER,
			     .cond = PTHREAD_COND_INITIALIZER };

	if (vm_post(s.vm, on_request, &r)) {
		fail("no memory");
		return;
	}
	pthread_mutex_lock(&r.lock);
	while (!r.done)
		pthread_cond_wait(&r.cond, &r.lock);
	pthread_mutex_unlock(&r.lock);
	atomic_fetch_add(&s.requests, 1);
}

/* What the loop's thread asks for clients and signals, in any state. */
static void ask(unsigned what)
{
	json_t *info;
	char *text;

	switch (what % 4) {
	case 0:
		info = vm_info(s.vm);
		text = info ? json_dumps(info, JSON_COMPACT) : NULL;
		if (info && !text)
			fail("vm.info cannot be printed");
		free(text);
		json_decref(info);
		break;
	case 1:
		json_decref(vm_counters(s.vm));
		break;
	case 2:
		vm_power_button(s.vm);
		vm_nmi(s.vm);
		break;
	default:
		vm_refresh(s.vm);
		vm_is_creating(s.vm);
	}
	atomic_fetch_add(&s.asked, 1);
}

static void *client_main(void *opaque)
{
	unsigned seed = (unsigned)(uintptr_t)opaque;
	/* More of what makes a machine: else most requests find none. */
	static const unsigned kinds[] = { 0, 0, 0, 1, 1, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9 };

	for (unsigned i = 0; i < s.count; i++) {
		unsigned what = kinds[(unsigned)rand_r(&seed) % (sizeof(kinds) / sizeof(kinds[0]))];

		request(what, (unsigned)rand_r(&seed));
		ask((unsigned)rand_r(&seed));
		if (rand_r(&seed) % 4 == 0)
			usleep((unsigned)rand_r(&seed) % 3000);
	}
	return NULL;
}

static void *asker_main(void *opaque)
{
	for (unsigned i = 0; !atomic_load(&s.over); i++) {
		ask(i);
		usleep(200);
	}
	return NULL;
}

/* --- one VM --------------------------------------------------------------------------------- */

static bool says(const char *json, size_t len, const char *event)
{
	return memmem(json, len, event, strlen(event));
}

static void on_event(void *opaque, const char *json, size_t len)
{
	atomic_fetch_add(&s.boots, says(json, len, "\"booted\""));
	atomic_fetch_add(&s.resets, says(json, len, "\"rebooted\""));
}

/* The process would end; here, the next VM follows. */
static void on_gone(void *opaque, const struct machine_end *end)
{
	if (vm_state(s.vm) != VM_NONE)
		fail("a VM that is gone has a configuration");
	atomic_fetch_add(&s.ends, 1);
}

static void live(unsigned nth)
{
	struct vm_setup setup = { .no_shutdown = nth % 3 == 0,
				  .reboot = nth % 4 == 3 ? VM_KEEP : VM_RESTART,
				  .panic = VM_EXIT,
				  .events = s.events,
				  .gone = on_gone };
	pthread_t thread[CLIENTS + ASKERS];
	struct err err;

	atomic_store(&s.over, false);
	if (vm_start(&setup, &s.vm, &err)) {
		fail("the executor does not start");
		return;
	}
	for (unsigned i = 0; i < CLIENTS + ASKERS; i++)
		if (pthread_create(&thread[i], NULL, i < CLIENTS ? client_main : asker_main,
				   (void *)(uintptr_t)(nth * 64 + i + 1)))
			abort();
	/* Every other VM is told to end among the requests. */
	if (nth % 2) {
		usleep(nth % 16 * 1000);
		vm_begin_end(s.vm, OUTCOME_SIGNAL + 15, "killed by SIGTERM");
	}
	for (unsigned i = 0; i < CLIENTS; i++)
		pthread_join(thread[i], NULL);
	request(9, 0);
	atomic_store(&s.over, true);
	for (unsigned i = CLIENTS; i < CLIENTS + ASKERS; i++)
		pthread_join(thread[i], NULL);
	vm_end(s.vm);
}

struct vm_stress_result vm_stress(const char *kernel, unsigned vms, unsigned requests)
{
	int fd = open(DISK, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct vm_stress_result r;
	struct err err;
	unsigned id;

	memset(&s, 0, sizeof(s));
	s.kernel = kernel;
	s.count = requests;
	if (fd < 0 || ftruncate(fd, 32 << 20) || events_create(NULL, &s.events, &err) ||
	    events_listen(s.events, on_event, NULL, &id))
		fail("cannot start");
	close(fd);
	for (unsigned i = 0; i < vms && !s.failed; i++)
		live(i);
	events_destroy(s.events);
	unlink(DISK);
	unlink(LOG);
	r = (struct vm_stress_result){ s.failed, s.requests, s.asked, s.boots, s.resets, s.ends };
	return r;
}
