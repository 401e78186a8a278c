/*
 * fuzz_balloon: a virtio-balloon driver that puts anything on its rings.
 *
 * Input: a byte for the features, one that is spare, then guest memory's first bytes (all
 * rings lie there), then steps: kicks, memory writes, config accesses, resets. Findings
 * are the sanitizers' and BUG_ON.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/virtio/balloon.h"
#include "devices/virtio/mmio.h"
#include "vmm/core/log.h"

#define RAM_BYTES 0x4000u
#define RINGS_BYTES 0x800u	/* of the input */
#define SLOT 0xd0000000ull
#define QUEUE_SIZE 16
#define MAX_KICKS 4
#define NQUEUES 4

struct vm {
	uint8_t *ram;
	struct mem mem;
	struct bus pio, mmio;
	struct virtio_mmio_slots slots;
	struct device_env env;
	struct device *dev;
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
	check(false);
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
	reg(vm, 0x70, 0);
	reg(vm, 0x70, 3);
	reg(vm, 0x24, 0);
	reg(vm, 0x20, features);
	reg(vm, 0x24, 1);
	reg(vm, 0x20, 1);
	reg(vm, 0x70, 11);
	for (unsigned q = 0; q < NQUEUES; q++) {
		reg(vm, 0x30, q);
		reg(vm, 0x38, QUEUE_SIZE);
		reg(vm, 0x80, q * 0x200);	/* descriptors */
		reg(vm, 0x90, q * 0x200 + 0x100);	/* available */
		reg(vm, 0xa0, 0x2000 + q * 0x200);	/* used */
		reg(vm, 0x44, 1);
	}
	reg(vm, 0x70, 15);
	run(vm);
}

static void step(struct vm *vm, const uint8_t *op)
{
	unsigned at = (op[1] | op[2] << 8) % RINGS_BYTES;
	struct balloon_state state;

	switch (op[0] % 8) {
	case 0:
	case 1:
		if (vm->nkicks == NQUEUES)
			eventfd_write(vm->kick[op[1] % NQUEUES].fd, 1);
		run(vm);
		break;
	case 2:
		vm->ram[at] = op[3];
		break;
	case 3:
		check(virtio_balloon_set_target(vm->dev, op[1] << 8) == (op[1] << 8 > RAM_BYTES ? -ERANGE : 0));
		break;
	case 4:
		bus_write(&vm->mmio, SLOT + 0x100 + op[1] % 16, 1u << op[2] % 3, op[3]);
		bus_read(&vm->mmio, SLOT + 0x100 + op[1] % 16, 1u << op[2] % 3);
		break;
	case 5:
		start(vm, op[1] | (uint32_t)op[2] << 24);
		break;
	case 6:	/* one more buffer in queue op[1] */
		at = 0x100 + op[1] % NQUEUES * 0x200;
		vm->ram[at + 4 + vm->ram[at + 2] % QUEUE_SIZE * 2] = op[2] % QUEUE_SIZE;
		vm->ram[at + 5 + vm->ram[at + 2] % QUEUE_SIZE * 2] = 0;
		if (!++vm->ram[at + 2])
			vm->ram[at + 3]++;
		break;
	case 7:
		virtio_balloon_get(vm->dev, &state);
		run(vm);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vm vm;
	struct keyvals kv;
	struct err err;

	if (size < 2 + RINGS_BYTES)
		return 0;
	log_set_level(LOG_ERROR - 1);
	memset(&vm, 0, sizeof(vm));
	check(!mem_create(&vm.mem, RAM_BYTES, RAM_BYTES, RAM_BYTES, &err));
	vm.ram = vm.mem.map;
	vm.slots = (struct virtio_mmio_slots){ .base = SLOT, .stride_bytes = 0x1000, .count = 1 };
	vm.env = (struct device_env){ .mem = &vm.mem, .pio = &vm.pio, .mmio = &vm.mmio,
				      .ops = &ops, .vm = &vm, .mmio_slots = &vm.slots };
	check(!loop_create(&vm.env.loop, &err));
	check(!keys_parse(&kv, "--balloon", virtio_balloon_type.keys, "8K,stats-interval=3600", &err));
	check(!virtio_balloon_type.create(&vm.env, &kv, &vm.dev, &err));
	keys_clear(&kv);
	memcpy(vm.ram, data + 2, RINGS_BYTES);
	start(&vm, data[0] & 0x36 | (data[1] & 0x30u) << 24);
	for (data += 2 + RINGS_BYTES, size -= 2 + RINGS_BYTES; size >= 4; data += 4, size -= 4)
		step(&vm, data);
	run(&vm);
	device_destroy(vm.dev);
	loop_destroy(vm.env.loop);
	mem_destroy(&vm.mem);
	check(!vm.mmio.nranges && !vm.nkicks);
	return 0;
}
