/*
 * fuzz_console_ports: a driver of a console with two ports that puts anything on its rings.
 *
 * Input: a byte for the features, then guest memory's first bytes (with all six rings), then steps: kicks,
 * memory writes, control messages, input, an owner that takes more or less, config accesses, resets. The
 * sanitizers and BUG_ON report the findings; so does an owner that hears what may not be: output before it
 * resumed, a port that opens twice.
 */
#include <string.h>

#include "devices/backend/chardev/pool.h"
#include "devices/backend/chardev/program.h"
#include "devices/virtio/console/console.h"
#include "tests/fuzz/fake_vm.h"

#define RAM_BYTES 0x4000u
#define NPORTS 2u
#define NQUEUES (2 * NPORTS + 2)
#define RINGS_BYTES (NQUEUES * FAKE_VM_QUEUE_BYTES) /* of the input */
#define CONTROL_TX 3u
#define F_MULTIPORT 2u

struct port {
	struct chardev *chr;
	unsigned takes; /* percent */
	bool stuck, open;
};

struct fuzz {
	struct fake_vm vm;
	struct chardev_pool *pool;
	struct port port[NPORTS];
};

static size_t output(void *opaque, const uint8_t *buf, size_t len)
{
	struct port *port = opaque;
	size_t n = port->takes >= 100 ? len : len * port->takes / 100;

	fake_vm_check(!port->stuck && len);
	port->stuck = n < len;
	return n;
}

static void guest_open(void *opaque, bool open)
{
	struct port *port = opaque;

	fake_vm_check(port->open != open);
	port->open = open;
}

static const struct chardev_program_ops ops = { .output = output, .guest_open = guest_open };

/* A message whose words are as they are, in a chain of its own. */
static void say(struct fake_vm *vm, const uint8_t *op)
{
	uint8_t *desc = vm->ram + CONTROL_TX * FAKE_VM_QUEUE_BYTES, message[8] = { 0 };
	uint32_t at = RINGS_BYTES;

	message[0] = op[1] & 3;
	message[4] = op[1] >> 2 & 15;
	message[6] = op[2];
	memcpy(vm->ram + at, message, sizeof(message));
	memset(desc, 0, 16);
	memcpy(desc, &at, sizeof(at));
	desc[8] = op[3] & 0x80 ? op[3] & 15 : 8;
	fake_vm_offer(vm, CONTROL_TX, 0);
	fake_vm_kick(vm, CONTROL_TX);
}

static void step(struct fuzz *fz, const uint8_t *op)
{
	struct fake_vm *vm = &fz->vm;
	struct port *port = &fz->port[op[1] % NPORTS];
	static const uint8_t input[255 * 15];

	switch (op[0] % 8) {
	case 0:
		fake_vm_kick(vm, op[1] % NQUEUES);
		break;
	case 1:
		vm->ram[(op[1] | op[2] << 8) % RINGS_BYTES] = op[3];
		break;
	case 2:
		say(vm, op);
		break;
	case 3:
		chardev_program_send(port->chr, input, op[2] * (op[3] % 16u));
		fake_vm_run(vm);
		break;
	case 4:
		fake_vm_config(vm, op, 16);
		break;
	case 5:
		fake_vm_start(vm, (op[1] & 7) | (uint32_t)op[2] << 24);
		break;
	case 6: /* one more buffer */
		fake_vm_offer(vm, op[1] % NQUEUES, op[2] % FAKE_VM_QUEUE_SIZE);
		break;
	case 7:
		port->takes = op[2];
		port->stuck = false;
		chardev_program_resume(port->chr);
		fake_vm_run(vm);
		break;
	}
}

static void begin(struct fuzz *fz)
{
	static const char option[NPORTS][16] = { "name=a,null", "name=b,null" };
	static const char id[NPORTS][8] = { "port0", "port1" };
	struct fake_vm *vm = &fz->vm;
	struct device_part part[NPORTS];
	struct keyvals kv[NPORTS];
	struct err err;

	fake_vm_begin(vm, RAM_BYTES, NQUEUES, 0x1000);
	fake_vm_check(!chardev_pool_create_on(vm->env.loop, &fz->pool, &err));
	vm->env.consoles = fz->pool;
	for (unsigned i = 0; i < NPORTS; i++) {
		fz->port[i] = (struct port){ .takes = 100 };
		fake_vm_check(!chardev_pool_open_program(fz->pool, id[i], &ops, &fz->port[i],
							 &fz->port[i].chr, &err));
		fake_vm_check(
			!keys_parse(&kv[i], "--port", virtio_port_type.keys, option[i], &err));
		part[i] = (struct device_part){ &kv[i], id[i] };
	}
	fake_vm_check(!virtio_port_type.create_all(&vm->env, part, NPORTS, &vm->dev, &err));
	for (unsigned i = 0; i < NPORTS; i++)
		keys_clear(&kv[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz fz;
	struct fake_vm *vm = &fz.vm;

	if (size < 1 + RINGS_BYTES)
		return 0;
	begin(&fz);
	memcpy(vm->ram, data + 1, RINGS_BYTES);
	fake_vm_start(vm, (data[0] & 7) ^ F_MULTIPORT | (data[0] & 0x30u) << 24);
	for (data += 1 + RINGS_BYTES, size -= 1 + RINGS_BYTES; size >= 4; data += 4, size -= 4)
		step(&fz, data);
	fake_vm_run(vm);
	device_destroy(vm->dev);
	vm->dev = NULL;
	for (unsigned i = 0; i < NPORTS; i++)
		fake_vm_check(!fz.port[i].open || fz.port[i].stuck);
	chardev_pool_destroy(fz.pool);
	fake_vm_end(vm);
	return 0;
}
