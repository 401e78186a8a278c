/*
 * fuzz_net: a virtio-net driver that puts anything on its rings.
 *
 * Input: a byte for the kind of cable and the rate limits, four for the features, then guest
 * memory's first bytes (three rings lie there), then steps: kicks, memory writes, frames
 * and bytes from the other end, link changes, resets. Findings are the sanitizers' and
 * BUG_ON.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/mmio.h"
#include "devices/virtio/net.h"
#include "vmm/core/log.h"

#define RAM_BYTES 0x20000u
#define QUEUES 3
#define RINGS_BYTES (QUEUES * 0x200u)	/* of the input */
#define SLOT 0xd0000000ull
#define QUEUE_SIZE 16

struct vm {
	uint8_t ram[RAM_BYTES];
	struct mem mem;
	struct bus pio, mmio;
	struct virtio_mmio_slots slots;
	struct device_env env;
	struct device *dev;
	struct kick kick[QUEUES];
	unsigned nkicks;
	int wire;
};

static void check(bool ok)
{
	if (!ok)
		abort();
}

static int bind_kick(void *opaque, const struct kick *kick)
{
	struct vm *vm = opaque;

	check(vm->nkicks < QUEUES);
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
	reg(vm, 0x70, 0);
	reg(vm, 0x70, 3);
	reg(vm, 0x24, 0);
	reg(vm, 0x20, features & (uint32_t)(reg(vm, 0x14, 0), bus_read(&vm->mmio, SLOT + 0x10, 4)));
	reg(vm, 0x24, 1);
	reg(vm, 0x20, 1);
	reg(vm, 0x70, 11);
	for (unsigned q = 0; q < QUEUES; q++) {
		reg(vm, 0x30, q);
		reg(vm, 0x38, QUEUE_SIZE);
		reg(vm, 0x80, q * 0x200);	/* descriptors */
		reg(vm, 0x90, q * 0x200 + 0x100);	/* available */
		reg(vm, 0xa0, 0x1000 + q * 0x200);	/* used */
		reg(vm, 0x44, 1);
	}
	reg(vm, 0x70, 15);
	run(vm);
}

static void open_cable(struct vm *vm, uint8_t how)
{
	static const int types[] = { SOCK_SEQPACKET, SOCK_STREAM, SOCK_DGRAM };
	struct keyvals kv;
	struct err err;
	char text[128];
	int pair[2];

	check(!socketpair(AF_UNIX, types[how % 3] | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
	vm->wire = pair[0];
	snprintf(text, sizeof(text), "fd=%d,mac=02:00:00:00:00:01,queue-size=64%s%s", pair[1],
		 how & 0x40 ? ",mtu=9000" : "", how & 0x80 ? ",tx-ops=1000000,rx-rate=1T" : "");
	check(!keys_parse(&kv, "--net", virtio_net_type.keys, text, &err));
	check(!virtio_net_type.create(&vm->env, &kv, &vm->dev, &err));
	keys_clear(&kv);
}

static void step(struct vm *vm, const uint8_t *op)
{
	unsigned at = (op[1] | op[2] << 8) % RINGS_BYTES;
	static uint8_t scrap[70000];

	switch (op[0] % 10) {
	case 0:
	case 1:
	case 2:
		if (vm->nkicks == QUEUES)
			eventfd_write(vm->kick[op[0] % 10].fd, 1);
		run(vm);
		break;
	case 3:
		vm->ram[at] = op[3];
		break;
	case 4:	/* a frame, or a part of a stream */
		memset(scrap, op[3], 16);
		(void)!send(vm->wire, scrap, (op[1] | op[2] << 8) & 0x3fff, MSG_NOSIGNAL);
		run(vm);
		break;
	case 5:
		(void)!send(vm->wire, op, 1 + op[1] % 4, MSG_NOSIGNAL);
		run(vm);
		break;
	case 6:	/* one more buffer in a queue */
		at = 0x100 + op[1] % QUEUES * 0x200;
		vm->ram[at + 4 + vm->ram[at + 2] % QUEUE_SIZE * 2] = op[2] % QUEUE_SIZE;
		vm->ram[at + 5 + vm->ram[at + 2] % QUEUE_SIZE * 2] = 0;
		if (!++vm->ram[at + 2])
			vm->ram[at + 3]++;
		break;
	case 7:
		(void)!recv(vm->wire, scrap, sizeof(scrap), 0);
		run(vm);
		break;
	case 8:
		if (op[1] & 1)
			vm->dev->ops->set_link(vm->dev, op[1] & 2);
		else
			start(vm, op[1] | (uint32_t)op[2] << 8 | (uint32_t)op[3] << 16 |
				  (op[1] & 0x30u) << 24);
		break;
	case 9:	/* a descriptor that makes sense: queue, index, flags */
		at = op[1] % QUEUES * 0x200 + op[2] % QUEUE_SIZE * 16;
		memset(vm->ram + at, 0, 16);
		vm->ram[at + 1] = 0x20;
		vm->ram[at + 2] = op[2] & 1;
		vm->ram[at + 8] = op[3];
		vm->ram[at + 9] = op[3] & 0x1f;
		vm->ram[at + 12] = op[2] >> 6;
		vm->ram[at + 14] = (op[2] + 1) % QUEUE_SIZE;
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vm vm;
	struct err err;

	if (size < 5 + RINGS_BYTES)
		return 0;
	log_set_level(LOG_ERROR - 1);
	memset(&vm, 0, sizeof(vm));
	check(!mem_add(&vm.mem, gpa(0), RAM_BYTES, vm.ram));
	vm.slots = (struct virtio_mmio_slots){ .base = SLOT, .stride_bytes = 0x1000, .count = 1 };
	vm.env = (struct device_env){ .mem = &vm.mem, .pio = &vm.pio, .mmio = &vm.mmio,
				      .ops = &ops, .vm = &vm, .mmio_slots = &vm.slots };
	check(!loop_create(&vm.env.loop, &err));
	open_cable(&vm, data[0]);
	memcpy(vm.ram, data + 5, RINGS_BYTES);
	start(&vm, data[1] | (uint32_t)data[2] << 8 | (uint32_t)data[3] << 16 |
		   (uint32_t)data[4] << 24);
	for (data += 5 + RINGS_BYTES, size -= 5 + RINGS_BYTES; size >= 4; data += 4, size -= 4)
		step(&vm, data);
	close(vm.wire);
	run(&vm);
	device_destroy(vm.dev);
	loop_destroy(vm.env.loop);
	check(!vm.mmio.nranges && !vm.nkicks);
	return 0;
}
