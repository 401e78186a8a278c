/*
 * fuzz_blk: a virtio-blk driver that puts anything on its ring.
 *
 * Input: a byte for the disk (read-only, held completions, failures), three for the
 * features, then guest memory's first bytes (the ring and the requests lie there),
 * then steps: kicks, memory writes, completions, config accesses, resets, sizes.
 * Findings are the sanitizers' and BUG_ON; a read or write beyond the disk is a
 * BUG_ON of the fake disk.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "devices/virtio/blk.h"
#include "devices/virtio/mmio.h"
#include "vmm/core/log.h"

/* Fuzz targets are linked from one file each. */
#include "tests/unit/fake_disk.c"

#define RAM_BYTES 0x4000u
#define INPUT_BYTES 0x400u	/* of the memory */
#define SLOT 0xd0000000ull
#define QUEUE_SIZE 16
#define MAX_KICKS 4
#define DISK_BYTES 16384u

struct vm {
	uint8_t ram[RAM_BYTES];
	uint8_t data[DISK_BYTES];
	struct mem mem;
	struct bus pio, mmio;
	struct virtio_mmio_slots slots;
	struct device_env env;
	struct device *dev;
	struct fake_disk disk;
	struct kick kick[MAX_KICKS];
	unsigned nkicks;
};

static void check(bool ok)
{
	if (!ok)
		abort();
}

static int bind_kick(void *opaque, const struct kick *kick)
{
	struct vm *vm = opaque;

	check(vm->nkicks < MAX_KICKS);
	vm->kick[vm->nkicks++] = *kick;
	return 0;
}

static void unbind_kick(void *opaque, const struct kick *kick)
{
	((struct vm *)opaque)->nkicks--;
}

static void set_line(void *vm, unsigned gsi, unsigned holder, bool level)
{
}

static void event(void *vm, enum vm_event what)
{
	abort();
}

static const struct env_ops ops = { .bind_kick = bind_kick, .unbind_kick = unbind_kick,
				    .set_line = set_line, .event = event };

static void stop(void *loop)
{
	loop_stop(loop);
}

static void run(struct vm *vm)
{
	check(!loop_post(vm->env.loop, stop, vm->env.loop));
	check(!loop_run(vm->env.loop));
}

static void reg(struct vm *vm, unsigned off, uint32_t val)
{
	bus_write(&vm->mmio, SLOT + off, 4, val);
}

static void start(struct vm *vm, uint32_t features)
{
	/* A reset waits for what is in flight, and here nobody else would finish it. */
	fake_disk_release(&vm->disk, FAKE_DISK_MAX);
	reg(vm, 0x70, 0);
	reg(vm, 0x70, 3);
	reg(vm, 0x24, 0);
	reg(vm, 0x20, features);
	reg(vm, 0x24, 1);
	reg(vm, 0x20, 1);
	reg(vm, 0x70, 11);
	reg(vm, 0x30, 0);
	reg(vm, 0x38, QUEUE_SIZE);
	reg(vm, 0x80, 0);		/* descriptors */
	reg(vm, 0x90, 0x100);		/* available */
	reg(vm, 0xa0, 0x1000);		/* used */
	reg(vm, 0x44, 1);
	reg(vm, 0x70, 15);
	run(vm);
}

/* One more head in the available ring. */
static void offer(struct vm *vm, uint8_t head)
{
	uint8_t *avail = vm->ram + 0x100;

	avail[4 + avail[2] % QUEUE_SIZE * 2] = head;
	avail[5 + avail[2] % QUEUE_SIZE * 2] = 0;
	if (!++avail[2])
		avail[3]++;
}

static void step(struct vm *vm, const uint8_t *op)
{
	unsigned at = (op[1] | op[2] << 8) % INPUT_BYTES;

	switch (op[0] % 8) {
	case 0:
	case 1:
		if (vm->nkicks)
			eventfd_write(vm->kick[0].fd, 1);
		run(vm);
		break;
	case 2:
		vm->ram[at] = op[3];
		break;
	case 3:
		vm->disk.hold = op[1] & 1;
		vm->disk.fail = op[1] & 2 ? -EIO : 0;
		fake_disk_release(&vm->disk, op[2]);
		break;
	case 4:
		bus_write(&vm->mmio, SLOT + 0x100 + op[1] % 64, 1u << op[2] % 3, op[3]);
		bus_read(&vm->mmio, SLOT + 0x100 + op[1] % 64, 1u << op[2] % 3);
		break;
	case 5:
		start(vm, op[1] | (uint32_t)op[2] << 8 | (uint32_t)op[3] << 24);
		break;
	case 6:
		offer(vm, op[1] % (QUEUE_SIZE + 1));
		if (op[2] & 1 && vm->nkicks)
			eventfd_write(vm->kick[0].fd, 1);
		run(vm);
		break;
	case 7:	/* only when idle: what is in flight was judged by the old size */
		if (vm->disk.ntaken)
			break;
		vm->disk.new_size = (op[1] % (DISK_BYTES / 512) + 1) * 512u;
		vm->dev->ops->refresh(vm->dev);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vm vm;
	struct virtio_blk_config cfg = { .serial = "fuzz", .nqueues = 1,
					 .queue_size = QUEUE_SIZE, .discard = true };
	struct err err;

	if (size < 4 + INPUT_BYTES)
		return 0;
	log_set_level(LOG_ERROR - 1);
	memset(&vm, 0, sizeof(vm));
	check(!mem_add(&vm.mem, gpa(0), RAM_BYTES, vm.ram));
	vm.slots = (struct virtio_mmio_slots){ .base = SLOT, .stride_bytes = 0x1000, .count = 1 };
	vm.env = (struct device_env){ .mem = &vm.mem, .pio = &vm.pio, .mmio = &vm.mmio,
				      .ops = &ops, .vm = &vm, .mmio_slots = &vm.slots };
	check(!loop_create(&vm.env.loop, &err));
	fake_disk_init(&vm.disk, vm.data, DISK_BYTES);
	vm.disk.disk.readonly = data[0] & 1;
	vm.disk.disk.can_discard = vm.disk.disk.can_write_zeroes = !(data[0] & 1);
	vm.disk.hold = data[0] & 2;
	check(!virtio_blk_create(&vm.env, &cfg, &vm.disk.disk, &vm.dev, &err));
	memcpy(vm.ram, data + 4, INPUT_BYTES);
	start(&vm, data[1] | (uint32_t)data[2] << 8 | (uint32_t)data[3] << 24);
	for (data += 4 + INPUT_BYTES, size -= 4 + INPUT_BYTES; size >= 4; data += 4, size -= 4)
		step(&vm, data);
	device_destroy(vm.dev);
	check(!vm.disk.ntaken);
	loop_destroy(vm.env.loop);
	check(!vm.mmio.nranges && !vm.nkicks);
	return 0;
}
