/* fake_env: see fake_env.h. */
#include "tests/unit/fake_env.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/core/clock.h"

static bool same_kick(const struct kick *a, const struct kick *b)
{
	return a->space == b->space && a->addr == b->addr && a->len_bytes == b->len_bytes &&
	       a->match == b->match && a->value == b->value;
}

static int bind_kick(void *vm, const struct kick *kick)
{
	struct fake_env *f = vm;
	int rc = 0;

	pthread_mutex_lock(&f->lock);
	f->binds++;
	for (unsigned i = 0; i < f->nkicks; i++)
		if (same_kick(&f->kick[i], kick))
			rc = -EEXIST;
	if (f->fail_bind_kick)
		rc = -f->fail_bind_kick;
	if (!rc)
		f->kick[f->nkicks++] = *kick;
	pthread_mutex_unlock(&f->lock);
	return rc;
}

static void unbind_kick(void *vm, const struct kick *kick)
{
	struct fake_env *f = vm;
	bool found = false;

	pthread_mutex_lock(&f->lock);
	f->unbinds++;
	for (unsigned i = 0; i < f->nkicks && !found; i++) {
		if (!same_kick(&f->kick[i], kick) || f->kick[i].fd != kick->fd)
			continue;
		f->kick[i] = f->kick[--f->nkicks];
		found = true;
	}
	pthread_mutex_unlock(&f->lock);
	cr_assert(found, "a kick was unbound that is not bound");
}

static int msi_bind(void *vm, uint64_t addr, uint32_t data, unsigned *id, int *fd)
{
	struct fake_env *f = vm;
	int rc = -ENOSPC;

	pthread_mutex_lock(&f->lock);
	f->msi_binds++;
	if (f->fail_msi_bind) {
		rc = -f->fail_msi_bind;
	} else {
		for (unsigned i = 0; i < FAKE_MAX && rc; i++) {
			if (f->msi[i].bound)
				continue;
			f->msi[i] = (struct fake_msi){ true, addr, data, eventfd(0, EFD_NONBLOCK),
						       0,    0 };
			*id = i;
			*fd = f->msi[i].fd;
			rc = 0;
		}
	}
	pthread_mutex_unlock(&f->lock);
	return rc;
}

static int msi_update(void *vm, unsigned id, uint64_t addr, uint32_t data)
{
	struct fake_env *f = vm;

	cr_assert(id < FAKE_MAX && f->msi[id].bound);
	pthread_mutex_lock(&f->lock);
	f->msi_updates++;
	f->msi[id].updates++;
	f->msi[id].addr = addr;
	f->msi[id].data = data;
	pthread_mutex_unlock(&f->lock);
	return 0;
}

static void msi_unbind(void *vm, unsigned id)
{
	struct fake_env *f = vm;

	cr_assert(id < FAKE_MAX && f->msi[id].bound);
	pthread_mutex_lock(&f->lock);
	f->msi_unbinds++;
	close(f->msi[id].fd);
	f->msi[id].bound = false;
	pthread_mutex_unlock(&f->lock);
}

static int msi_send(void *vm, uint64_t addr, uint32_t data)
{
	struct fake_env *f = vm;

	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < FAKE_MAX; i++)
		f->msi[i].sent += f->msi[i].bound && f->msi[i].addr == addr &&
				  f->msi[i].data == data;
	pthread_mutex_unlock(&f->lock);
	return 0;
}

static void set_line(void *vm, unsigned gsi, unsigned holder, bool level)
{
	struct fake_env *f = vm;
	uint32_t before;

	cr_assert(gsi < FAKE_MAX && holder < 32);
	pthread_mutex_lock(&f->lock);
	f->line_calls++;
	before = f->line[gsi];
	if (level)
		f->line[gsi] |= 1u << holder;
	else
		f->line[gsi] &= ~(1u << holder);
	f->rises[gsi] += !before && f->line[gsi];
	pthread_mutex_unlock(&f->lock);
}

static void event(void *vm, enum vm_event event)
{
	struct fake_env *f = vm;

	pthread_mutex_lock(&f->lock);
	f->events[event]++;
	pthread_mutex_unlock(&f->lock);
}

static void driver(void *vm, const char *id, bool active)
{
	struct fake_env *f = vm;

	pthread_mutex_lock(&f->lock);
	f->drivers[active]++;
	pthread_mutex_unlock(&f->lock);
}

static const struct env_ops ops = {
	.bind_kick = bind_kick,
	.unbind_kick = unbind_kick,
	.msi_bind = msi_bind,
	.msi_update = msi_update,
	.msi_unbind = msi_unbind,
	.msi_send = msi_send,
	.set_line = set_line,
	.event = event,
	.driver = driver,
};

void fake_env_init(struct fake_env *f, enum fake_transport transport)
{
	struct pci_host_config pci = {
		.ecam_base = FAKE_ECAM,
		.ecam_bytes = 1 << 20,
		.mmio_base = FAKE_BARS,
		.mmio_bytes = FAKE_BARS_BYTES,
	};
	struct err err = { "" };

	memset(f, 0, sizeof(*f));
	pthread_mutex_init(&f->lock, NULL);
	cr_assert_eq(mem_create(&f->mem, FAKE_LOW_BYTES + FAKE_HIGH_BYTES, FAKE_LOW_BYTES,
				FAKE_HIGH_BASE, &err),
		     0, "%s", err.text);
	f->next_alloc = 0x1000;
	f->env = (struct device_env){
		.mem = &f->mem,
		.pio = &f->pio,
		.mmio = &f->mmio,
		.ops = &ops,
		.vm = f,
	};
	cr_assert_eq(loop_create(&f->env.loop, &err), 0, "%s", err.text);
	if (transport == FAKE_PCI) {
		for (unsigned s = 0; s < PCI_SLOTS; s++)
			pci.gsi[s] = (uint8_t)(16 + s % 8);
		cr_assert_eq(pci_host_create(&f->env, &pci, &f->env.pci, &err), 0, "%s", err.text);
		return;
	}
	f->slots = (struct virtio_mmio_slots){
		.base = FAKE_SLOTS,
		.stride_bytes = FAKE_STRIDE,
		.count = 8,
	};
	for (unsigned s = 0; s < 8; s++)
		f->slots.gsi[s] = (uint8_t)(5 + s);
	f->env.mmio_slots = &f->slots;
}

void fake_env_destroy(struct fake_env *f)
{
	pci_host_destroy(f->env.pci);
	cr_assert_eq(f->nkicks, 0, "kicks are left bound");
	cr_assert_eq(bus_count(&f->pio) + bus_count(&f->mmio), 0, "ranges are left on a bus");
	for (unsigned i = 0; i < FAKE_MAX; i++)
		cr_assert(!f->msi[i].bound, "a message is left bound");
	loop_destroy(f->env.loop);
	mem_destroy(&f->mem);
	pthread_mutex_destroy(&f->lock);
}

gpa_t fake_alloc(struct fake_env *f, uint64_t len_bytes)
{
	gpa_t at = gpa(f->next_alloc);

	f->next_alloc += (len_bytes + 4095) & ~4095ull;
	cr_assert(f->next_alloc <= FAKE_LOW_BYTES, "the test's memory is used up");
	return at;
}

void *fake_at(struct fake_env *f, gpa_t at, uint64_t len_bytes)
{
	void *host = mem_slice(&f->mem, at, len_bytes);

	cr_assert(host, "no memory at 0x%llx", (unsigned long long)at.v);
	return host;
}

uint64_t fake_read(struct fake_env *f, uint64_t addr, unsigned size_bytes)
{
	return bus_read(&f->mmio, addr, size_bytes);
}

void fake_write(struct fake_env *f, uint64_t addr, unsigned size_bytes, uint64_t val)
{
	int fd = -1;

	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < f->nkicks && fd < 0; i++) {
		const struct kick *k = &f->kick[i];

		if (k->space == KICK_MMIO && k->addr == addr &&
		    (!k->len_bytes || k->len_bytes == size_bytes) && (!k->match || k->value == val))
			fd = k->fd;
	}
	pthread_mutex_unlock(&f->lock);
	if (fd >= 0)
		cr_assert_eq(eventfd_write(fd, 1), 0);
	else
		bus_write(&f->mmio, addr, size_bytes, val);
}

uint32_t fake_config_read(struct fake_env *f, unsigned slot, unsigned off, unsigned size_bytes)
{
	return (uint32_t)fake_read(f, FAKE_ECAM + (slot << 15) + off, size_bytes);
}

void fake_config_write(struct fake_env *f, unsigned slot, unsigned off, unsigned size_bytes,
		       uint32_t val)
{
	fake_write(f, FAKE_ECAM + (slot << 15) + off, size_bytes, val);
}

static void stop_loop(void *opaque)
{
	loop_stop(opaque);
}

int fake_create(struct fake_env *f, const struct device_type *type, const char *text,
		struct device **out, struct err *err)
{
	struct keyvals kv;
	int rc = keys_parse(&kv, type->option, type->keys, text, err);

	if (!rc && type->check)
		rc = type->check(&kv, err);
	if (!rc)
		rc = type->create(&f->env, &kv, out, err);
	keys_clear(&kv);
	return rc;
}

struct wanted {
	const char *name;
	uint64_t value;
	unsigned found;
};

static void look(void *opaque, const char *name, uint64_t value)
{
	struct wanted *w = opaque;

	BUG_ON(value > INT64_MAX);
	if (strcmp(name, w->name))
		return;
	w->value = value;
	w->found++;
}

uint64_t fake_counter(struct device *dev, const char *name)
{
	struct wanted w = { .name = name };

	dev->ops->counters(dev, look, &w);
	BUG_ON(w.found != 1);
	return w.value;
}

bool fake_one_cpu(void)
{
	cpu_set_t set;

	return !sched_getaffinity(0, sizeof(set), &set) && CPU_COUNT(&set) == 1;
}

void fake_run(struct fake_env *f)
{
	for (unsigned i = 0; i < 4; i++) {
		cr_assert_eq(loop_post(f->env.loop, stop_loop, f->env.loop), 0);
		cr_assert_eq(loop_run(f->env.loop), 0);
	}
}

bool fake_run_until(struct fake_env *f, bool (*cond)(void *arg), void *arg)
{
	struct timespec nap = { .tv_nsec = 200000 };
	uint64_t end = clock_now_ns() + 5 * CLOCK_NS_PER_S;

	while (!cond(arg)) {
		if (clock_now_ns() > end)
			return false;
		fake_run(f);
		if (!cond(arg))
			nanosleep(&nap, NULL);
	}
	return true;
}

unsigned fake_take_msis(struct fake_env *f, uint32_t data)
{
	unsigned n = 0;

	for (unsigned i = 0; i < FAKE_MAX; i++) {
		eventfd_t count;

		if (f->msi[i].bound && f->msi[i].data == data &&
		    !eventfd_read(f->msi[i].fd, &count))
			n += (unsigned)count;
		if (f->msi[i].bound && f->msi[i].data == data) {
			n += f->msi[i].sent;
			f->msi[i].sent = 0;
		}
	}
	return n;
}

unsigned fake_take_rises(struct fake_env *f, unsigned gsi)
{
	unsigned n = f->rises[gsi];

	f->rises[gsi] = 0;
	return n;
}
