/*
 * fuzz_balloon: a virtio-balloon driver that puts anything on its rings.
 *
 * Input: a byte for the features, an unused byte, then guest memory's first bytes (with all
 * rings), then steps: kicks, memory writes, config accesses, resets. The sanitizers
 * and BUG_ON report the findings.
 */
#include <errno.h>
#include <string.h>

#include "devices/virtio/balloon.h"
#include "tests/fuzz/fake_vm.h"

#define RAM_BYTES 0x4000u
#define RINGS_BYTES 0x800u /* of the input */
#define NQUEUES 4

static void step(struct fake_vm *vm, const uint8_t *op)
{
	unsigned at = (op[1] | op[2] << 8) % RINGS_BYTES;
	struct balloon_info state;

	switch (op[0] % 8) {
	case 0:
	case 1:
		fake_vm_kick(vm, op[1] % NQUEUES);
		break;
	case 2:
		vm->ram[at] = op[3];
		break;
	case 3:
		fake_vm_check(balloon_set_target(vm->dev, op[1] << 8) ==
			      (op[1] << 8 > RAM_BYTES ? -ERANGE : 0));
		break;
	case 4:
		fake_vm_config(vm, op, 16);
		break;
	case 5:
		fake_vm_start(vm, op[1] | (uint32_t)op[2] << 24);
		break;
	case 6: /* one more buffer in queue op[1] */
		fake_vm_offer(vm, op[1] % NQUEUES, op[2] % FAKE_VM_QUEUE_SIZE);
		break;
	case 7:
		balloon_get(vm->dev, &state);
		fake_vm_run(vm);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fake_vm vm;
	struct keyvals kv;
	struct err err;

	if (size < 2 + RINGS_BYTES)
		return 0;
	fake_vm_begin(&vm, RAM_BYTES, NQUEUES, 0x2000);
	fake_vm_check(!keys_parse(&kv, "--balloon", virtio_balloon_type.keys,
				  "8K,stats-interval=3600", &err));
	fake_vm_check(!virtio_balloon_type.create(&vm.env, &kv, &vm.dev, &err));
	keys_clear(&kv);
	memcpy(vm.ram, data + 2, RINGS_BYTES);
	fake_vm_start(&vm, data[0] & 0x36 | (data[1] & 0x30u) << 24);
	for (data += 2 + RINGS_BYTES, size -= 2 + RINGS_BYTES; size >= 4; data += 4, size -= 4)
		step(&vm, data);
	fake_vm_run(&vm);
	fake_vm_end(&vm);
	return 0;
}
