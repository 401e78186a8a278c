/* fake_vm: see fake_vm.h. */
#include "tests/fuzz/fake_vm.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "vmm/core/log.h"

#define SLOT 0xd0000000ull

void fake_vm_check(bool ok)
{
	if (!ok)
		abort();
}

static int bind_kick(void *opaque, const struct kick *kick)
{
	struct fake_vm *vm = opaque;

	fake_vm_check(vm->nkicks < vm->nqueues);
	vm->kick[vm->nkicks++] = *kick;
	return 0;
}

static void unbind_kick(void *opaque, const struct kick *kick)
{
	((struct fake_vm *)opaque)->nkicks--;
}

static void set_line(void *vm, unsigned gsi, unsigned holder, bool level)
{
}

static void event(void *opaque, enum vm_event what)
{
	fake_vm_check(((struct fake_vm *)opaque)->may_happen >> what & 1);
}

static void driver(void *vm, const char *id, bool active)
{
}

static const struct env_ops ops = { .bind_kick = bind_kick,
				    .unbind_kick = unbind_kick,
				    .set_line = set_line,
				    .event = event,
				    .driver = driver };

void fake_vm_begin(struct fake_vm *vm, uint32_t ram_bytes, unsigned nqueues, uint32_t used_at)
{
	struct err err;

	fake_vm_check(nqueues <= FAKE_VM_MAX_QUEUES);
	log_set_level(LOG_ERROR - 1);
	memset(vm, 0, sizeof(*vm));
	fake_vm_check(!mem_create(&vm->mem, ram_bytes, ram_bytes, ram_bytes, &err));
	vm->ram = vm->mem.map;
	vm->nqueues = nqueues;
	vm->used_at = used_at;
	vm->slots = (struct virtio_mmio_slots){ .base = SLOT, .stride_bytes = 0x1000, .count = 1 };
	vm->env = (struct device_env){ .mem = &vm->mem,
				       .pio = &vm->pio,
				       .mmio = &vm->mmio,
				       .ops = &ops,
				       .vm = vm,
				       .mmio_slots = &vm->slots };
	fake_vm_check(!loop_create(&vm->env.loop, &err));
}

void fake_vm_end(struct fake_vm *vm)
{
	device_destroy(vm->dev);
	loop_destroy(vm->env.loop);
	mem_destroy(&vm->mem);
	fake_vm_check(!bus_count(&vm->mmio) && !vm->nkicks);
}

static void stop(void *loop)
{
	loop_stop(loop);
}

void fake_vm_run(struct fake_vm *vm)
{
	fake_vm_check(!loop_post(vm->env.loop, stop, vm->env.loop));
	fake_vm_check(!loop_run(vm->env.loop));
}

void fake_vm_write(struct fake_vm *vm, unsigned off, unsigned size_bytes, uint32_t val)
{
	bus_write(&vm->mmio, SLOT + off, size_bytes, val);
}

uint32_t fake_vm_read(struct fake_vm *vm, unsigned off, unsigned size_bytes)
{
	return (uint32_t)bus_read(&vm->mmio, SLOT + off, size_bytes);
}

void fake_vm_config(struct fake_vm *vm, const uint8_t *op, unsigned nbytes)
{
	unsigned off = 0x100 + op[1] % nbytes, size_bytes = 1u << op[2] % 3;

	fake_vm_write(vm, off, size_bytes, op[3]);
	fake_vm_read(vm, off, size_bytes);
}

static void reg(struct fake_vm *vm, unsigned off, uint32_t val)
{
	fake_vm_write(vm, off, 4, val);
}

void fake_vm_start(struct fake_vm *vm, uint32_t features)
{
	reg(vm, 0x70, 0);
	reg(vm, 0x70, 3);
	reg(vm, 0x24, 0);
	reg(vm, 0x20, features);
	reg(vm, 0x24, 1);
	reg(vm, 0x20, 1);
	reg(vm, 0x70, 11);
	for (unsigned q = 0; q < vm->nqueues; q++) {
		reg(vm, 0x30, q);
		reg(vm, 0x38, FAKE_VM_QUEUE_SIZE);
		reg(vm, 0x80, q * FAKE_VM_QUEUE_BYTES);		      /* descriptors */
		reg(vm, 0x90, q * FAKE_VM_QUEUE_BYTES + 0x100);	      /* available */
		reg(vm, 0xa0, vm->used_at + q * FAKE_VM_QUEUE_BYTES); /* used */
		reg(vm, 0x44, 1);
	}
	reg(vm, 0x70, 15);
	fake_vm_run(vm);
}

void fake_vm_offer(struct fake_vm *vm, unsigned queue, uint8_t head)
{
	uint8_t *avail = vm->ram + queue * FAKE_VM_QUEUE_BYTES + 0x100;

	avail[4 + avail[2] % FAKE_VM_QUEUE_SIZE * 2] = head;
	avail[5 + avail[2] % FAKE_VM_QUEUE_SIZE * 2] = 0;
	if (!++avail[2])
		avail[3]++;
}

void fake_vm_kick(struct fake_vm *vm, unsigned queue)
{
	if (vm->nkicks == vm->nqueues)
		eventfd_write(vm->kick[queue].fd, 1);
	fake_vm_run(vm);
}
