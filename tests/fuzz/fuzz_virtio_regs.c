/*
 * fuzz_virtio_regs: a guest that uses every register of both transports in any order.
 *
 * Input: a byte that chooses the transport, then steps: register accesses, bytes in
 * guest memory, a driver's usual start, kicks, events on the host's side. The
 * device echoes chains. Findings are reports of the sanitizers, BUG_ON and a few invariants.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/pci/pci.h"
#include "devices/virtio/core/mmio.h"
#include "devices/virtio/core/pci.h"
#include "vmm/core/log.h"

#define RAM_BYTES 0x10000u
#define ECAM 0xb0000000ull
#define BARS 0xc0000000ull
#define BARS_BYTES 0x10000ull
#define SLOT 0xd0000000ull
#define STRIDE 0x200ull
#define MAX_BOUND 64

struct vm {
	uint8_t ram[RAM_BYTES];
	struct mem mem;
	struct bus pio, mmio;
	struct loop *loop;
	struct virtio_mmio_slots slots;
	struct device_env env;
	struct virtio_device v;
	struct kick kick[MAX_BOUND];
	unsigned nkicks;
	int msi_fd[MAX_BOUND]; /* -1: free */
	bool started;
	bool told;     /* the VM was told that a driver has activated the device */
	uint64_t base; /* the driver's view of the device's register address */
};

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* --- the environment ------------------------------------------------------------- */

static int bind_kick(void *opaque, const struct kick *kick)
{
	struct vm *vm = opaque;

	if (vm->nkicks == MAX_BOUND)
		return -ENOSPC;
	for (unsigned i = 0; i < vm->nkicks; i++)
		if (vm->kick[i].addr == kick->addr && vm->kick[i].value == kick->value)
			return -EEXIST;
	vm->kick[vm->nkicks++] = *kick;
	return 0;
}

static void unbind_kick(void *opaque, const struct kick *kick)
{
	struct vm *vm = opaque;

	for (unsigned i = 0; i < vm->nkicks; i++) {
		if (vm->kick[i].addr != kick->addr || vm->kick[i].fd != kick->fd)
			continue;
		vm->kick[i] = vm->kick[--vm->nkicks];
		return;
	}
	abort();
}

static int msi_bind(void *opaque, uint64_t addr, uint32_t data, unsigned *id, int *fd)
{
	struct vm *vm = opaque;

	if (data == 0xffffffff)
		return -ENOSPC;
	for (unsigned i = 0; i < MAX_BOUND; i++) {
		if (vm->msi_fd[i] >= 0)
			continue;
		vm->msi_fd[i] = *fd = eventfd(0, EFD_NONBLOCK);
		*id = i;
		return 0;
	}
	return -ENOSPC;
}

static int msi_update(void *opaque, unsigned id, uint64_t addr, uint32_t data)
{
	struct vm *vm = opaque;

	check(id < MAX_BOUND && vm->msi_fd[id] >= 0);
	return data == 0xffffffff ? -EINVAL : 0;
}

static void msi_unbind(void *opaque, unsigned id)
{
	struct vm *vm = opaque;

	check(id < MAX_BOUND && vm->msi_fd[id] >= 0);
	close(vm->msi_fd[id]);
	vm->msi_fd[id] = -1;
}

static int msi_send(void *vm, uint64_t addr, uint32_t data)
{
	return 0;
}

static void set_line(void *vm, unsigned gsi, unsigned holder, bool level)
{
	check(gsi < 24 && holder < 32);
}

static void event(void *vm, enum vm_event what)
{
	check(what == VM_EVENT_RESET);
}

static void driver(void *opaque, const char *id, bool active)
{
	struct vm *vm = opaque;

	check(active != vm->told && active == vm->started);
	vm->told = active;
}

static const struct env_ops ops = {
	bind_kick, unbind_kick, msi_bind, msi_update, msi_unbind, msi_send, set_line, event, driver,
};

/* --- the device --------------------------------------------------------------------- */

static struct vm *of(struct virtio_device *v)
{
	return v->env->vm;
}

static int echo_activate(struct virtio_device *v)
{
	check(!of(v)->started);
	if (v->s.config[0] == 0xee)
		return -EIO;
	of(v)->started = true;
	return 0;
}

static void echo_kick(struct virtio_device *v, unsigned queue)
{
	struct virtq *q = &v->queue[queue];
	struct iovec iov[8];
	struct chain chain;
	uint8_t buf[256];
	int rc;

	check(of(v)->started && v->active && q->s.ready);
	virtq_disable_kicks(q);
	while ((rc = virtq_pop(q, &chain, iov, 8)) > 0) {
		size_t n = virtq_chain_read(&chain, 0, buf, sizeof(buf));

		virtq_push(q, chain.head, (uint32_t)virtq_chain_write(&chain, 0, buf, n));
	}
	if (rc < 0)
		virtio_broken(v, q->broken_why);
	else
		(void)virtq_enable_kicks(q);
	virtio_interrupt(v, queue);
}

static void echo_write_config(struct virtio_device *v, uint32_t off, uint32_t len)
{
	check(len && off + len <= v->config_bytes);
	if (v->s.config[1] == 0xdd)
		virtio_config_changed(v);
	if (v->s.config[2] == 0xcc)
		virtio_broken(v, "asked for");
}

static bool echo_reset(struct virtio_device *v)
{
	check(of(v)->started);
	of(v)->started = false;
	return true;
}

static const struct virtio_class echo_class = {
	.name = "virtio-echo",
	.device_id = 42,
	.pci_class = 0x00ff00,
	.activate = echo_activate,
	.kick = echo_kick,
	.write_config = echo_write_config,
	.reset = echo_reset,
};

/* --- the guest ------------------------------------------------------------------------ */

struct input {
	const uint8_t *at;
	size_t left;
};

static uint64_t take(struct input *in, unsigned nbytes)
{
	uint64_t val = 0;

	for (unsigned i = 0; i < nbytes && in->left; i++, in->left--)
		val |= (uint64_t)*in->at++ << (i * 8);
	return val;
}

static void guest_write(struct vm *vm, uint64_t addr, unsigned size, uint64_t val)
{
	for (unsigned i = 0; i < vm->nkicks; i++) {
		const struct kick *k = &vm->kick[i];

		if (k->addr == addr && (!k->len_bytes || k->len_bytes == size) &&
		    (!k->match || k->value == val)) {
			(void)eventfd_write(k->fd, 1);
			return;
		}
	}
	bus_write(&vm->mmio, addr, size, val);
}

static void stop_loop(void *opaque)
{
	loop_stop(opaque);
}

static void run(struct vm *vm)
{
	check(!loop_post(vm->loop, stop_loop, vm->loop));
	check(!loop_run(vm->loop));
}

/* Starts with two rings of 8 at 0x1000 and 0x2000: avail at +0x100, used at +0x200. */
static void start(struct vm *vm, bool pci, uint32_t low_features)
{
	static const struct {
		uint16_t pci, mmio;
	} at[] = { { 0x20, 0x80 }, { 0x28, 0x90 }, { 0x30, 0xa0 } };
	unsigned two = pci ? 2 : 4;
	uint64_t b = vm->base;

	if (pci)
		bus_write(&vm->mmio, ECAM + (1 << 15) + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	guest_write(vm, b + (pci ? 0x14 : 0x70), pci ? 1 : 4, 0);
	for (unsigned w = 0; w < 2; w++) {
		guest_write(vm, b + (pci ? 0x08 : 0x24), 4, w);
		guest_write(vm, b + (pci ? 0x0c : 0x20), 4, w ? 1 : low_features & 0x30000000);
	}
	guest_write(vm, b + (pci ? 0x14 : 0x70), pci ? 1 : 4, 11);
	for (unsigned q = 0; q < 2; q++) {
		guest_write(vm, b + (pci ? 0x16 : 0x30), two, q);
		guest_write(vm, b + (pci ? 0x18 : 0x38), two, 8);
		for (unsigned i = 0; i < 3; i++)
			guest_write(vm, b + (pci ? at[i].pci : at[i].mmio), 4,
				    0x1000 * (q + 1) + 0x100 * i);
		if (pci)
			guest_write(vm, b + 0x1a, 2, q + 1);
		guest_write(vm, b + (pci ? 0x1c : 0x44), two, 1);
	}
	guest_write(vm, b + (pci ? 0x14 : 0x70), pci ? 1 : 4, 15);
}

static void step(struct vm *vm, struct input *in)
{
	bool pci = vm->env.pci;
	uint32_t what = (uint32_t)take(in, 1), off, n;
	unsigned size = 1u << (what >> 6);

	switch (what % 16) {
	case 0:
	case 1:
		off = (uint32_t)take(in, 2);
		guest_write(vm, vm->base + off % 0x4000, size, take(in, size));
		break;
	case 2:
		(void)bus_read(&vm->mmio, vm->base + take(in, 2) % 0x4000, size);
		break;
	case 3:
		off = (uint32_t)take(in, 2);
		guest_write(vm, ECAM + (1 << 15) + off % 0x100, size, take(in, size));
		break;
	case 4:
		(void)bus_read(&vm->mmio, ECAM + take(in, 3) % 0x100000, size);
		break;
	case 5:
		off = (uint32_t)take(in, 1);
		bus_write(&vm->pio, 0xcf8 + off % 8, size, take(in, size));
		break;
	case 6:
		(void)bus_read(&vm->pio, 0xcf8 + take(in, 1) % 8, size);
		break;
	case 7:
		off = (uint32_t)take(in, 2);
		guest_write(vm, BARS + off, size, take(in, size));
		break;
	case 8:
		off = (uint32_t)take(in, 2);
		for (n = (uint32_t)take(in, 1) % 64; n; n--, off++)
			vm->ram[off % RAM_BYTES] = (uint8_t)take(in, 1);
		break;
	case 9:
		start(vm, pci, (uint32_t)take(in, 4));
		break;
	case 10:
		run(vm);
		break;
	case 11:
		virtio_lock(&vm->v);
		virtio_config_changed(&vm->v);
		virtio_unlock(&vm->v);
		break;
	case 12:
		/* A kick in the transport's way. */
		n = what >> 4 & 1;
		guest_write(vm, vm->base + (pci ? VIRTIO_PCI_NOTIFY + n * 4 : 0x50), 4, n);
		run(vm);
		break;
	case 13:
		/* MSI-X on, all vectors unmasked. */
		for (n = 0; pci && n < 3; n++)
			guest_write(vm, vm->base + VIRTIO_PCI_MSIX_TABLE + n * 16 + 12, 4, 0);
		if (pci)
			bus_write(&vm->mmio, ECAM + (1 << 15) + 0x42, 2, 0x8000);
		break;
	case 14:
		virtio_lock(&vm->v);
		virtio_broken(&vm->v, "the fuzzer says so");
		virtio_unlock(&vm->v);
		break;
	case 15:
		/* The driver follows a moved BAR. */
		if (pci)
			vm->base = bus_read(&vm->mmio, ECAM + (1 << 15) + PCI_BAR0, 4) & ~0xfull;
		break;
	}
	check(!vm->v.active || (vm->started && vm->v.s.status & VIRTIO_STATUS_DRIVER_OK));
	check(!(vm->v.s.status & VIRTIO_STATUS_DRIVER_OK) ||
	      vm->v.s.status & VIRTIO_STATUS_FEATURES_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vm vm;
	struct input in = { data, size };
	struct pci_host_config cfg = { ECAM, 1 << 20, BARS, BARS_BYTES, { 0 } };
	bool pci = take(&in, 1) & 1;

	log_set_level(LOG_ERROR);
	memset(&vm, 0, sizeof(vm));
	memset(vm.msi_fd, -1, sizeof(vm.msi_fd));
	mem_add(&vm.mem, gpa(0), RAM_BYTES, vm.ram);
	vm.env = (struct device_env){
		.mem = &vm.mem, .pio = &vm.pio, .mmio = &vm.mmio, .ops = &ops, .vm = &vm
	};
	check(!loop_create(&vm.loop, NULL));
	vm.env.loop = vm.loop;
	vm.slots = (struct virtio_mmio_slots){ SLOT, STRIDE, 1, { 5 }, 0 };
	if (pci)
		check(!pci_host_create(&vm.env, &cfg, &vm.env.pci, NULL));
	else
		vm.env.mmio_slots = &vm.slots;
	vm.base = pci ? BARS : SLOT;
	virtio_init(&vm.v, &echo_class, &vm.env, 2, 16, 0, 13);
	check(!virtio_attach(&vm.v, NULL));
	while (in.left)
		step(&vm, &in);
	virtio_detach(&vm.v);
	check(!vm.nkicks && !vm.started);
	for (unsigned i = 0; i < MAX_BOUND; i++)
		check(vm.msi_fd[i] < 0);
	pci_host_destroy(vm.env.pci);
	check(!bus_count(&vm.mmio) && !bus_count(&vm.pio));
	loop_destroy(vm.loop);
	return 0;
}
