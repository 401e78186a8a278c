/*
 * fuzz_vsock: a virtio-vsock driver that sends any packet, and host programs that do anything.
 *
 * Input: one byte for the features, one unused, then guest memory's first bytes (with all
 * rings), then steps: packets, kicks, memory writes, host programs that
 * connect, write, read and close, resets. The sanitizers and BUG_ON report the findings.
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/virtio/vsock/vsock.h"
#include "tests/fuzz/fake_vm.h"

#define RAM_BYTES 0x8000u
#define RINGS_BYTES 0x800u /* of the input */
#define NQUEUES 3
#define NHOSTS 8
#define CID 3

struct fuzz {
	struct fake_vm vm;
	uint8_t port[8];	  /* ports of the last connection that the host requested */
	int server, host[NHOSTS]; /* a server at PATH_1; its and other connections, or -1 */
};

/*
 * As a good driver: a packet in descriptor 0 of the transmit queue, eight receive buffers
 * in the receive queue.
 */
static void packet(struct fuzz *fz, const uint8_t *op)
{
	static const uint32_t sizes[] = { 0, 1, 100, 4000 };
	uint32_t hdr[11] = { CID,
			     0,
			     2,
			     0,
			     10 + op[2] % 4,
			     1 + op[2] / 4 % 2,
			     sizes[op[2] >> 6],
			     1u | (uint32_t)(op[1] & 15) << 16,
			     op[3] & 3,
			     op[3] & 4 ? op[3] * 1000u : 65536,
			     op[3] & 8 ? op[3] : 0 };
	uint64_t at = 0x4000;
	uint32_t len = sizeof(hdr) + sizes[op[2] >> 6];
	struct fake_vm *vm = &fz->vm;
	uint8_t *tx = vm->ram + 0x200;

	if (op[1] & 16)
		memcpy(hdr + 4, fz->port, 8);
	memcpy(vm->ram + at, hdr, sizeof(hdr));
	memcpy(tx, &at, 8);
	memcpy(tx + 8, &len, 4);
	memset(tx + 12, 0, 4);
	fake_vm_offer(vm, 1, 0);
	fake_vm_kick(vm, 1);
}

static void feed(struct fuzz *fz)
{
	struct fake_vm *vm = &fz->vm;

	for (unsigned i = 0; i < 8; i++) {
		uint64_t at = 0x5000 + i * 0x400;
		uint32_t len = 0x400;

		memcpy(vm->ram + i * 16, &at, 8);
		memcpy(vm->ram + i * 16 + 8, &len, 4);
		memcpy(vm->ram + i * 16 + 12, "\2\0\0", 4);
		fake_vm_offer(vm, 0, (uint8_t)i);
		/* A REQUEST of the host: keep its ports for the answer. */
		if (vm->ram[at + 30] == 1) {
			memcpy(fz->port, vm->ram + at + 20, 4);
			memcpy(fz->port + 4, vm->ram + at + 16, 4);
		}
	}
	fake_vm_kick(vm, 0);
}

static void address(struct sockaddr_un *addr, const char *suffix)
{
	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(addr->sun_path, sizeof(addr->sun_path), "/tmp/fuzz_vsock.%d%s", getpid(), suffix);
}

static void host(struct fuzz *fz, const uint8_t *op)
{
	int *fd = &fz->host[op[1] % NHOSTS];
	static char scrap[100000];
	struct sockaddr_un addr;
	ssize_t n = 0;

	switch (op[2] % 8) {
	case 0:
		if (*fd < 0)
			*fd = accept4(fz->server, NULL, NULL, SOCK_NONBLOCK);
		break;
	case 1:
		if (*fd >= 0)
			break;
		address(&addr, "");
		*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		fake_vm_check(!connect(*fd, (struct sockaddr *)&addr, sizeof(addr)));
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
	fake_vm_check(n <= (ssize_t)sizeof(scrap));
	fake_vm_run(&fz->vm);
}

static void step(struct fuzz *fz, const uint8_t *op)
{
	unsigned at = (op[1] | op[2] << 8) % RINGS_BYTES;
	struct fake_vm *vm = &fz->vm;

	switch (op[0] % 8) {
	case 0:
	case 1:
		fake_vm_kick(vm, op[1] % NQUEUES);
		break;
	case 2:
		vm->ram[at] = op[3];
		break;
	case 3:
		packet(fz, op);
		break;
	case 4:
		host(fz, op);
		break;
	case 5:
		packet(fz, op);
		feed(fz);
		break;
	case 6: /* one more buffer in queue op[1] */
		fake_vm_offer(vm, op[1] % NQUEUES, op[2] % FAKE_VM_QUEUE_SIZE);
		break;
	case 7:
		feed(fz);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz fz;
	struct fake_vm *vm = &fz.vm;
	struct sockaddr_un addr;
	struct keyvals kv;
	char keys[64];
	struct err err;

	if (size < 2 + RINGS_BYTES)
		return 0;
	fake_vm_begin(vm, RAM_BYTES, NQUEUES, 0x2000);
	address(&addr, "_1");
	unlink(addr.sun_path);
	fz.server = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	fake_vm_check(!bind(fz.server, (struct sockaddr *)&addr, sizeof(addr)) &&
		      !listen(fz.server, 2));
	memset(fz.host, -1, sizeof(fz.host));
	snprintf(keys, sizeof(keys), "cid=%u,socket=/tmp/fuzz_vsock.%d", CID, getpid());
	fake_vm_check(!keys_parse(&kv, "--vsock", virtio_vsock_type.keys, keys, &err));
	fake_vm_check(!virtio_vsock_type.create(&vm->env, &kv, &vm->dev, &err));
	keys_clear(&kv);
	memcpy(vm->ram, data + 2, RINGS_BYTES);
	fake_vm_start(vm, (data[1] & 0x30u) << 24);
	for (data += 2 + RINGS_BYTES, size -= 2 + RINGS_BYTES; size >= 4; data += 4, size -= 4)
		step(&fz, data);
	for (unsigned i = 0; i < NHOSTS; i++)
		if (fz.host[i] >= 0 && i % 2)
			close(fz.host[i]);
	fake_vm_run(vm);
	fake_vm_end(vm);
	for (unsigned i = 0; i < NHOSTS; i += 2)
		if (fz.host[i] >= 0)
			close(fz.host[i]);
	close(fz.server);
	unlink(addr.sun_path);
	return 0;
}
