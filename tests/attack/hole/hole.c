/*
 * hole: a deliberate write-what-where, for a build that only tests run (build/attack/holed; it is never installed). The
 * linker puts it in the place of pvpanic's constructor (--wrap), so the sources of the program know nothing of it.
 *
 * The guest reads and writes the monitor's memory by ports (guest/bare/lib/hole.h). It overwrites a pointer to a
 * function, and the next call of it, by a vCPU's thread, the loop or a worker, runs what the guest chose.
 */
#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "devices/board/platform.h"
#include "guest/bare/lib/hole.h"
#include "vmm/core/log.h"
#include "vmm/core/thread.h"

#define STACK_BYTES (128u << 10)

static long harmless(long nr, ...)
{
	return 0;
}

static struct hole hole;
static uint64_t address;
static struct loop_watch *in_loop;
static sem_t in_worker;
static atomic_uint calls;

static void call(void)
{
	long (*fn)(long, ...) = (long (*)(long, ...))hole.fn;
	long rc = fn((long)hole.arg[0], hole.arg[1], hole.arg[2], hole.arg[3], hole.arg[4],
		     hole.arg[5], hole.arg[6]);

	hole.result = rc == -1 ? -errno : rc;
	atomic_fetch_add(&calls, 1);
}

static void loop_called(void *opaque)
{
	call();
}

static void *worker(void *opaque)
{
	thread_confine();
	for (;;)
		if (!sem_wait(&in_worker))
			call();
	return NULL;
}

static uint64_t hole_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	switch (off) {
	case HOLE_DATA:
		return *(volatile uint32_t *)address;
	case HOLE_WHERE:
		return (uint32_t)(uintptr_t)&hole;
	case HOLE_WHERE_HIGH:
		return (uintptr_t)&hole >> 32;
	case HOLE_CALL:
		return atomic_load(&calls);
	default:
		return 0;
	}
}

static void hole_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	switch (off) {
	case HOLE_ADDRESS:
		address = (address & ~0xffffffffull) | (uint32_t)val;
		break;
	case HOLE_ADDRESS_HIGH:
		address = (uint32_t)address | val << 32;
		break;
	case HOLE_DATA:
		*(volatile uint32_t *)address = (uint32_t)val;
		break;
	case HOLE_CALL:
		if (val == HOLE_VCPU)
			call();
		else if (val == HOLE_LOOP)
			loop_event_soon(in_loop);
		else
			sem_post(&in_worker);
		break;
	}
}

int __real_pvpanic_create(const struct device_env *env, uint16_t port, struct device **out,
			  struct err *err);
int __wrap_pvpanic_create(const struct device_env *env, uint16_t port, struct device **out,
			  struct err *err);

int __wrap_pvpanic_create(const struct device_env *env, uint16_t port, struct device **out,
			  struct err *err)
{
	static const struct bus_ops ops = { hole_read, hole_write };
	int rc = __real_pvpanic_create(env, port, out, err);
	pthread_t thread;

	if (rc)
		return rc;
	log_put(LOG_WARN,
		"this build is a test's: by ports %#x a guest runs what it likes in this process",
		HOLE_PORT);
	hole.fn = (uintptr_t)harmless;
	hole.gadget = (uintptr_t)syscall;
	sem_init(&in_worker, 0, 0);
	rc = bus_add(env->pio, HOLE_PORT, HOLE_PORTS, &ops, NULL);
	if (!rc)
		rc = loop_watch_event(env->loop, loop_called, NULL, &in_loop, NULL);
	if (!rc)
		rc = thread_start(&thread, THREAD_WORKER, "hole_worker", STACK_BYTES, worker, NULL);
	return rc ? err_sys(err, -rc, "the hole") : 0;
}
