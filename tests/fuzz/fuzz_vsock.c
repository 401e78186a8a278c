/*
 * fuzz_vsock: a virtio-vsock driver that sends any packet, and host programs that do anything.
 *
 * Input: one byte for the features, one that is spare, then guest memory's first bytes (all
 * rings lie there), then steps: packets, kicks, memory writes, host programs that
 * connect, write, read and leave, resets. Findings are the sanitizers' and BUG_ON.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/virtio/vsock.h"
#include "devices/virtio/mmio.h"
#include "vmm/core/log.h"

#define RAM_BYTES 0x8000u
#define RINGS_BYTES 0x800u	/* of the input */
#define SLOT 0xd0000000ull
#define QUEUE_SIZE 16
#define MAX_KICKS 4
#define NQUEUES 3
#define NHOSTS 8
#define CID 3

struct vm {
	uint8_t ram[RAM_BYTES];
	struct mem mem;
	struct bus pio, mmio;
	struct virtio_mmio_slots slots;
	struct device_env env;
	struct device *dev;
	struct kick kick[MAX_KICKS];
	unsigned nkicks;
	uint8_t port[8];	/* of the last connection that the host asked for */
	int server, host[NHOSTS];	/* at PATH_1; its and others' connections, or -1 */
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

/*
 * The driver's own way: a packet in descriptor 0 of the transmit queue, eight receive buffers
 * in the other.
 */
static void packet(struct vm *vm, const uint8_t *op)
{
	static const uint32_t sizes[] = { 0, 1, 100, 4000 };
	uint32_t hdr[11] = { CID, 0, 2, 0, 10 + op[2] % 4, 1 + op[2] / 4 % 2, sizes[op[2] >> 6],
			     1u | (uint32_t)(op[1] & 15) << 16, op[3] & 3,
			     op[3] & 4 ? op[3] * 1000u : 65536, op[3] & 8 ? op[3] : 0 };
	uint64_t at = 0x4000;
	uint32_t len = sizeof(hdr) + sizes[op[2] >> 6];
	uint8_t *tx = vm->ram + 0x200, *idx = tx + 0x102;

	if (op[1] & 16)
		memcpy(hdr + 4, vm->port, 8);
	memcpy(vm->ram + at, hdr, sizeof(hdr));
	memcpy(tx, &at, 8);
	memcpy(tx + 8, &len, 4);
	memset(tx + 12, 0, 4);
	memset(tx + 0x104 + *idx % QUEUE_SIZE * 2, 0, 2);
	if (!++*idx)
		idx[1]++;
	if (vm->nkicks == NQUEUES)
		eventfd_write(vm->kick[1].fd, 1);
	run(vm);
}

static void feed(struct vm *vm)
{
	uint8_t *idx = vm->ram + 0x102;

	for (unsigned i = 0; i < 8; i++) {
		uint64_t at = 0x5000 + i * 0x400;
		uint32_t len = 0x400;

		memcpy(vm->ram + i * 16, &at, 8);
		memcpy(vm->ram + i * 16 + 8, &len, 4);
		memcpy(vm->ram + i * 16 + 12, "\2\0\0", 4);
		vm->ram[0x104 + *idx % QUEUE_SIZE * 2] = (uint8_t)i;
		vm->ram[0x105 + *idx % QUEUE_SIZE * 2] = 0;
		if (!++*idx)
			idx[1]++;
		/* What the last one said: whom to answer. */
		if (vm->ram[at + 30] == 1) {
			memcpy(vm->port, vm->ram + at + 20, 4);
			memcpy(vm->port + 4, vm->ram + at + 16, 4);
		}
	}
	if (vm->nkicks == NQUEUES)
		eventfd_write(vm->kick[0].fd, 1);
	run(vm);
}

static void address(struct sockaddr_un *addr, const char *suffix)
{
	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(addr->sun_path, sizeof(addr->sun_path), "/tmp/fuzz_vsock.%d%s", getpid(), suffix);
}

static void host(struct vm *vm, const uint8_t *op)
{
	int *fd = &vm->host[op[1] % NHOSTS];
	static char scrap[100000];
	struct sockaddr_un addr;
	ssize_t n = 0;

	switch (op[2] % 8) {
	case 0:
		if (*fd < 0)
			*fd = accept4(vm->server, NULL, NULL, SOCK_NONBLOCK);
		break;
	case 1:
		if (*fd >= 0)
			break;
		address(&addr, "");
		*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		check(!connect(*fd, (struct sockaddr *)&addr, sizeof(addr)));
		n = send(*fd, "CONNECT 7\nmore", 10 + op[3] % 5, MSG_NOSIGNAL);
		break;
	case 2:
		n = send(*fd, scrap, op[3] * 300u, MSG_NOSIGNAL);
		break;
	case 3:
		n = recv(*fd, scrap, op[3] * 300u, 0);
		break;
	case 4:
		shutdown(*fd, op[3] % 3);
		break;
	case 5:
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
		break;
	case 6:
		n = send(*fd, &"CONNECT 1\nCON\n\n"[op[3] % 12], 1 + op[3] / 16 % 4, MSG_NOSIGNAL);
		break;
	}
	check(n <= (ssize_t)sizeof(scrap));
	run(vm);
}

static void step(struct vm *vm, const uint8_t *op)
{
	unsigned at = (op[1] | op[2] << 8) % RINGS_BYTES;

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
		packet(vm, op);
		break;
	case 4:
		host(vm, op);
		break;
	case 5:
		packet(vm, op);
		feed(vm);
		break;
	case 6:	/* one more buffer in queue op[1] */
		at = 0x100 + op[1] % NQUEUES * 0x200;
		vm->ram[at + 4 + vm->ram[at + 2] % QUEUE_SIZE * 2] = op[2] % QUEUE_SIZE;
		vm->ram[at + 5 + vm->ram[at + 2] % QUEUE_SIZE * 2] = 0;
		if (!++vm->ram[at + 2])
			vm->ram[at + 3]++;
		break;
	case 7:
		feed(vm);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vm vm;
	struct sockaddr_un addr;
	struct keyvals kv;
	char keys[64];
	struct err err;

	if (size < 2 + RINGS_BYTES)
		return 0;
	log_set_level(LOG_ERROR - 1);
	memset(&vm, 0, sizeof(vm));
	check(!mem_add(&vm.mem, gpa(0), RAM_BYTES, vm.ram));
	vm.slots = (struct virtio_mmio_slots){ .base = SLOT, .stride_bytes = 0x1000, .count = 1 };
	vm.env = (struct device_env){ .mem = &vm.mem, .pio = &vm.pio, .mmio = &vm.mmio,
				      .ops = &ops, .vm = &vm, .mmio_slots = &vm.slots };
	check(!loop_create(&vm.env.loop, &err));
	address(&addr, "_1");
	unlink(addr.sun_path);
	vm.server = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	check(!bind(vm.server, (struct sockaddr *)&addr, sizeof(addr)) && !listen(vm.server, 2));
	memset(vm.host, -1, sizeof(vm.host));
	snprintf(keys, sizeof(keys), "cid=%u,socket=/tmp/fuzz_vsock.%d", CID, getpid());
	check(!keys_parse(&kv, "--vsock", virtio_vsock_type.keys, keys, &err));
	check(!virtio_vsock_type.create(&vm.env, &kv, &vm.dev, &err));
	keys_clear(&kv);
	memcpy(vm.ram, data + 2, RINGS_BYTES);
	start(&vm, (data[1] & 0x30u) << 24);
	for (data += 2 + RINGS_BYTES, size -= 2 + RINGS_BYTES; size >= 4; data += 4, size -= 4)
		step(&vm, data);
	for (unsigned i = 0; i < NHOSTS; i++)
		if (vm.host[i] >= 0 && i % 2)
			close(vm.host[i]);
	run(&vm);
	device_destroy(vm.dev);
	loop_destroy(vm.env.loop);
	for (unsigned i = 0; i < NHOSTS; i += 2)
		if (vm.host[i] >= 0)
			close(vm.host[i]);
	close(vm.server);
	unlink(addr.sun_path);
	check(!vm.mmio.nranges && !vm.nkicks);
	return 0;
}
