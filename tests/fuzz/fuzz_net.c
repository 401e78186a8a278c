/*
 * fuzz_net: a virtio-net driver that puts anything on its rings.
 *
 * Input: a byte for the kind of cable and the rate limits, four for the features, then guest
 * memory's first bytes (with the rings: three, or five if the cable has two pairs of
 * queues and vnet headers), then steps: kicks, memory writes, frames and bytes from the
 * other end, link changes, resets. The sanitizers and BUG_ON report the findings.
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/net/nic.h"
#include "devices/virtio/net/nic_impl.h"
#include "tests/fuzz/fake_vm.h"
#include "tests/unit/fake_net.h"

#define RAM_BYTES 0x20000u
#define HOW_PAIRS 0x20 /* first byte */

struct fuzz {
	struct fake_vm vm;
	struct fake_net *pairs; /* NULL: one pair, on a socket */
	int wire;		/* wire of the current pair */
};

/* Mask the features: one that the device does not offer would only end the start. */
static void start(struct fake_vm *vm, uint32_t features)
{
	fake_vm_write(vm, 0x14, 4, 0);
	fake_vm_start(vm, features & fake_vm_read(vm, 0x10, 4));
}

static void open_cable(struct fuzz *fz, uint8_t how)
{
	static const int types[] = { SOCK_SEQPACKET, SOCK_STREAM, SOCK_DGRAM };
	struct keyvals kv;
	struct err err;
	char text[128];
	int pair[2];

	fz->pairs = NULL;
	if (how & HOW_PAIRS) {
		fz->pairs = fake_net_create(fz->vm.env.loop, 2);
		fz->wire = fz->pairs->wire[0];
		snprintf(text, sizeof(text), "vhost=off,queue-size=64%s",
			 how & 0x80 ? ",tx-ops=1000000,rx-rate=1T" : "");
		fake_vm_check(!keys_parse(&kv, "--net", virtio_net_type.keys, text, &err));
		fake_vm_check(!nic_create_on(&fz->pairs->net, &fz->vm.env, &kv, &fz->vm.dev, &err));
		keys_clear(&kv);
		return;
	}
	fake_vm_check(!socketpair(AF_UNIX, types[how % 3] | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
	fz->wire = pair[0];
	snprintf(text, sizeof(text), "fd=%d,mac=02:00:00:00:00:01,queue-size=64%s%s", pair[1],
		 how & 0x40 ? ",mtu=9000" : "", how & 0x80 ? ",tx-ops=1000000,rx-rate=1T" : "");
	fake_vm_check(!keys_parse(&kv, "--net", virtio_net_type.keys, text, &err));
	fake_vm_check(!virtio_net_type.create(&fz->vm.env, &kv, &fz->vm.dev, &err));
	keys_clear(&kv);
}

static void step(struct fuzz *fz, const uint8_t *op)
{
	struct fake_vm *vm = &fz->vm;
	unsigned at = (op[1] | op[2] << 8) % (vm->nqueues * FAKE_VM_QUEUE_BYTES);
	static uint8_t scrap[70000];

	switch (op[0] % 10) {
	case 0:
	case 1:
	case 2:
		fake_vm_kick(vm, (op[0] % 10 + op[1]) % vm->nqueues);
		break;
	case 3:
		vm->ram[at] = op[3];
		break;
	case 4: /* a frame, or a part of a stream */
		memset(scrap, op[3], 16);
		if (fz->pairs)
			fz->wire = fz->pairs->wire[op[3] & 1];
		(void)!send(fz->wire, scrap, (op[1] | op[2] << 8) & 0x3fff, MSG_NOSIGNAL);
		fake_vm_run(vm);
		break;
	case 5:
		(void)!send(fz->wire, op, 1 + op[1] % 4, MSG_NOSIGNAL);
		fake_vm_run(vm);
		break;
	case 6: /* one more buffer in a queue */
		fake_vm_offer(vm, op[1] % vm->nqueues, op[2] % FAKE_VM_QUEUE_SIZE);
		break;
	case 7:
		(void)!recv(fz->wire, scrap, sizeof(scrap), 0);
		fake_vm_run(vm);
		break;
	case 8:
		if (op[1] & 1)
			vm->dev->ops->set_link(vm->dev, op[1] & 2);
		else
			start(vm, op[1] | (uint32_t)op[2] << 8 | (uint32_t)op[3] << 16 |
					  (op[1] & 0x30u) << 24);
		break;
	case 9: /* a valid descriptor: queue, index, flags */
		at = op[1] % vm->nqueues * FAKE_VM_QUEUE_BYTES + op[2] % FAKE_VM_QUEUE_SIZE * 16;
		memset(vm->ram + at, 0, 16);
		vm->ram[at + 1] = 0x20;
		vm->ram[at + 2] = op[2] & 1;
		vm->ram[at + 8] = op[3];
		vm->ram[at + 9] = op[3] & 0x1f;
		vm->ram[at + 12] = op[2] >> 6;
		vm->ram[at + 14] = (op[2] + 1) % FAKE_VM_QUEUE_SIZE;
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz fz;
	struct fake_vm *vm = &fz.vm;
	unsigned queues = size && data[0] & HOW_PAIRS ? 5 : 3, rings = queues * FAKE_VM_QUEUE_BYTES;

	if (size < 5 + rings)
		return 0;
	fake_vm_begin(vm, RAM_BYTES, queues, 0x1000);
	open_cable(&fz, data[0]);
	memcpy(vm->ram, data + 5, rings);
	start(vm,
	      data[1] | (uint32_t)data[2] << 8 | (uint32_t)data[3] << 16 | (uint32_t)data[4] << 24);
	for (data += 5 + rings, size -= 5 + rings; size >= 4; data += 4, size -= 4)
		step(&fz, data);
	if (!fz.pairs)
		close(fz.wire);
	fake_vm_run(vm);
	fake_vm_end(vm);
	return 0;
}
