/*
 * test/vm: the machine of a test, in a thread of its own.
 *
 * The thread creates the machine, runs it until the guest or test_vm_stop ends it, and destroys it. What
 * the owner must know comes to its loop: its functions run in that loop's thread, which also calls the
 * functions below. The consoles' sinks are the owner's (a pool on the same loop); the owner must go on
 * running its loop until over has been called, because devices that come and go wait for it.
 */
#ifndef BANTAM_TEST_VM_H
#define BANTAM_TEST_VM_H

#include "vmm/config.h"
#include "vmm/core/loop.h"
#include "vmm/machine/machine.h"
#include "vmm/verdict/verdict.h"

struct chardev_pool;

struct test_vm_end {
	enum verdict_end how;
	uint64_t at_ns; /* when it was decided (vmm/core/clock.h) */
	struct err why; /* of VERDICT_END_ERROR */
};

struct test_vm_owner {
	void *opaque;
	/* The machine is there: kernel and initrd are in its memory. */
	void (*created)(void *opaque);
	/* The guest's kernel told of a panic by pvpanic. crash_kernel: it starts one, which goes on. */
	void (*panicked)(void *opaque, bool crash_kernel);
	/* The machine is gone. Called once, if test_vm_start returned 0. */
	void (*over)(void *opaque, const struct test_vm_end *end);
};

struct test_vm;

/* Returns 0 if machines can run on this host, or -errno with what to do. */
int test_vm_check(struct err *err);
/* Prints the machine of a configuration with --dry-run. 0 or -errno. */
int test_vm_describe(const struct config *config, FILE *out, struct err *err);
/* config, loop, consoles and owner outlive the machine. Returns 0 or -errno. */
int test_vm_start(const struct config *config, struct loop *loop, struct chardev_pool *consoles,
		  const struct test_vm_owner *owner, struct test_vm **out, struct err *err);
/* Ends the machine in an orderly way, also one that is still being created. Returns at once. */
void test_vm_stop(struct test_vm *vm);
/*
 * Looks what a vCPU does now, in at most 200 ms. 0 or -errno: the machine is not there, or the vCPU did not answer.
 */
int test_vm_sample(struct test_vm *vm, unsigned vcpu, struct verdict_sample *out);
/* Frees it, after over has been called. Accepts NULL. */
void test_vm_destroy(struct test_vm *vm);

#endif
