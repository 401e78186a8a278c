/*
 * fake_vm: the VM that fuzz targets of virtio devices share: a little memory, one virtio-mmio
 * slot, bound kicks, a loop, and a driver's usual steps. It aborts if a rule is broken.
 *
 * Queue q's descriptors are at q * 0x200, its available ring 0x100 above, its used ring at
 * used_at + q * 0x200. So the rings are the first bytes of the memory, and of a target's input.
 * Thread: one.
 */
#ifndef BANTAM_FAKE_VM_H
#define BANTAM_FAKE_VM_H

#include "devices/device.h"
#include "devices/virtio/core/mmio.h"

#define FAKE_VM_QUEUE_SIZE 16u
#define FAKE_VM_QUEUE_BYTES 0x200u
#define FAKE_VM_MAX_QUEUES 6u

struct fake_vm {
	uint8_t *ram; /* guest memory, from address 0 */
	unsigned nqueues;
	uint32_t used_at;
	uint32_t may_happen; /* bit n: enum vm_event n */
	struct device_env env;
	struct device *dev; /* the target creates it, fake_vm_end destroys it */
	struct mem mem;
	struct bus pio, mmio;
	struct virtio_mmio_slots slots;
	struct kick kick[FAKE_VM_MAX_QUEUES];
	unsigned nkicks;
};

void fake_vm_check(bool ok);

/* ram_bytes must be whole pages. Next, the target creates the device with &vm->env. */
void fake_vm_begin(struct fake_vm *vm, uint32_t ram_bytes, unsigned nqueues, uint32_t used_at);
/* Destroys the device, and checks that nothing of it remains. */
void fake_vm_end(struct fake_vm *vm);

/* Runs the loop's due callbacks. */
void fake_vm_run(struct fake_vm *vm);

void fake_vm_write(struct fake_vm *vm, unsigned off, unsigned size_bytes, uint32_t val);
uint32_t fake_vm_read(struct fake_vm *vm, unsigned off, unsigned size_bytes);
/* Writes and reads the device's configuration, with 1, 2 or 4 bytes at once. */
void fake_vm_config(struct fake_vm *vm, const uint8_t *op, unsigned nbytes);
/* Starts a driver from a reset, with these low 32 features and VERSION_1. */
void fake_vm_start(struct fake_vm *vm, uint32_t features);
/* Adds a head to queue's available ring, without a kick. */
void fake_vm_offer(struct fake_vm *vm, unsigned queue, uint8_t head);
/* Kicks queue if the device runs, then runs the loop's due callbacks. */
void fake_vm_kick(struct fake_vm *vm, unsigned queue);

#endif
