/*
 * fuzz_blk: a virtio-blk driver that puts anything on its ring.
 *
 * Input: a byte for the disk (read-only, held completions, failures), three for the
 * features, then guest memory's first bytes (with the ring and the requests),
 * then steps: kicks, memory writes, completions, config accesses, resets, sizes.
 * The sanitizers and BUG_ON report the findings; a read or write beyond the disk is a
 * BUG_ON of the fake disk.
 */
#include <errno.h>
#include <string.h>

#include "devices/virtio/blk/blk.h"
#include "tests/fuzz/fake_vm.h"
#include "tests/unit/fake_disk.h"

#define RAM_BYTES 0x4000u
#define INPUT_BYTES 0x400u /* of the memory */
#define DISK_BYTES 16384u

struct fuzz {
	struct fake_vm vm;
	uint8_t data[DISK_BYTES];
	struct fake_disk disk;
};

static void start(struct fuzz *fz, uint32_t features)
{
	/* A reset waits for requests in flight; only this test completes them. */
	fake_disk_release(&fz->disk, FAKE_DISK_MAX);
	fake_vm_start(&fz->vm, features);
}

static void step(struct fuzz *fz, const uint8_t *op)
{
	unsigned at = (op[1] | op[2] << 8) % INPUT_BYTES;
	struct fake_vm *vm = &fz->vm;

	switch (op[0] % 8) {
	case 0:
	case 1:
		fake_vm_kick(vm, 0);
		break;
	case 2:
		vm->ram[at] = op[3];
		break;
	case 3:
		fz->disk.hold = op[1] & 1;
		fz->disk.fail = op[1] & 2 ? -EIO : 0;
		fake_disk_release(&fz->disk, op[2]);
		break;
	case 4:
		fake_vm_config(vm, op, 64);
		break;
	case 5:
		start(fz, op[1] | (uint32_t)op[2] << 8 | (uint32_t)op[3] << 24);
		break;
	case 6:
		fake_vm_offer(vm, 0, op[1] % (FAKE_VM_QUEUE_SIZE + 1));
		if (op[2] & 1)
			fake_vm_kick(vm, 0);
		else
			fake_vm_run(vm);
		break;
	case 7: /* only when idle: requests in flight were checked with the old size */
		if (fz->disk.ntaken)
			break;
		fz->disk.new_size = (op[1] % (DISK_BYTES / 512) + 1) * 512u;
		vm->dev->ops->refresh(vm->dev);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz fz;
	struct fake_vm *vm = &fz.vm;
	struct virtio_blk_config cfg = {
		.serial = "fuzz", .nqueues = 1, .queue_size = FAKE_VM_QUEUE_SIZE, .discard = true
	};
	struct err err;

	if (size < 4 + INPUT_BYTES)
		return 0;
	fake_vm_begin(vm, RAM_BYTES, 1, 0x1000);
	memset(fz.data, 0, sizeof(fz.data));
	fake_disk_init(&fz.disk, fz.data, DISK_BYTES);
	fz.disk.disk.readonly = data[0] & 1;
	fz.disk.disk.can_discard = fz.disk.disk.can_write_zeroes = !(data[0] & 1);
	fz.disk.hold = data[0] & 2;
	fake_vm_check(!blk_create(&vm->env, &cfg, &fz.disk.disk, &vm->dev, &err));
	memcpy(vm->ram, data + 4, INPUT_BYTES);
	start(&fz, data[1] | (uint32_t)data[2] << 8 | (uint32_t)data[3] << 24);
	for (data += 4 + INPUT_BYTES, size -= 4 + INPUT_BYTES; size >= 4; data += 4, size -= 4)
		step(&fz, data);
	fake_vm_end(vm);
	fake_vm_check(!fz.disk.ntaken);
	return 0;
}
