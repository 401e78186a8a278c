/*
 * fuzz_console: a virtio-console driver that puts anything on its rings.
 *
 * Input: a byte for the sink, one for the features, then guest memory's first
 * bytes (with both rings), then steps: kicks, memory writes, keys typed on
 * the host, config accesses, resets. The sanitizers and BUG_ON report the findings.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "devices/virtio/console/console.h"
#include "tests/fuzz/fake_vm.h"

#define RAM_BYTES 0x4000u
#define RINGS_BYTES 0x600u /* of the input */

struct fuzz {
	struct fake_vm vm;
	int type, show; /* our ends of its stdin and stdout */
};

static void open_host(struct fuzz *fz, uint8_t how)
{
	int in[2], out[2];

	fake_vm_check(!pipe2(in, O_CLOEXEC) && !pipe2(out, O_CLOEXEC));
	dup2(in[0], 0);
	close(in[0]);
	fz->type = in[1];
	fcntl(fz->type, F_SETFL, O_NONBLOCK);
	fcntl(out[1], F_SETPIPE_SZ, 4096);
	if (how % 3) {
		close(out[1]);
		out[1] = open(how % 3 == 1 ? "/dev/null" : "/dev/full", O_WRONLY);
	}
	dup2(out[1], 1);
	close(out[1]);
	fz->show = out[0];
	fcntl(fz->show, F_SETFL, O_NONBLOCK);
}

static void step(struct fuzz *fz, const uint8_t *op)
{
	unsigned at = (op[1] | op[2] << 8) % RINGS_BYTES;
	struct fake_vm *vm = &fz->vm;
	char scrap[4096];

	switch (op[0] % 8) {
	case 0:
	case 1:
		fake_vm_kick(vm, op[0] & 1);
		break;
	case 2:
		vm->ram[at] = op[3];
		break;
	case 3:
		fake_vm_check(write(fz->type, op, 1 + op[1] % 4) <= 4);
		fake_vm_run(vm);
		break;
	case 4:
		fake_vm_config(vm, op, 16);
		break;
	case 5:
		fake_vm_start(vm, op[1] | (uint32_t)op[2] << 24);
		break;
	case 6: /* one more buffer in queue op[1] */
		fake_vm_offer(vm, op[1] & 1, op[2] % FAKE_VM_QUEUE_SIZE);
		break;
	case 7:
		fake_vm_check(read(fz->show, scrap, sizeof(scrap)) <= (ssize_t)sizeof(scrap));
		fake_vm_run(vm);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz fz;
	struct fake_vm *vm = &fz.vm;
	struct keyvals kv;
	struct err err;

	if (size < 2 + RINGS_BYTES)
		return 0;
	fake_vm_begin(vm, RAM_BYTES, 2, 0x1000);
	vm->may_happen = 1u << VM_EVENT_LOST_OUTPUT;
	open_host(&fz, data[0]);
	fake_vm_check(!keys_parse(&kv, "--console", virtio_console_type.keys, "stdio", &err));
	fake_vm_check(!virtio_console_type.create(&vm->env, &kv, &vm->dev, &err));
	keys_clear(&kv);
	memcpy(vm->ram, data + 2, RINGS_BYTES);
	fake_vm_start(vm, data[1] & 5 | (data[1] & 0x30u) << 24);
	for (data += 2 + RINGS_BYTES, size -= 2 + RINGS_BYTES; size >= 4; data += 4, size -= 4)
		step(&fz, data);
	close(fz.type);
	close(fz.show);
	fake_vm_run(vm);
	fake_vm_end(vm);
	return 0;
}
