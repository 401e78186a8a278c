/*
 * acpi_pm: sleep and reset registers of hardware-reduced ACPI, and the port behind the Generic
 * Event Device (ACPI 6.4, sections 4.8.3.7, 4.8.3.6, 5.6.9).
 *
 * The GED's _EVT method reads the port once and notifies the device of each bit that is set. The
 * read clears the bits, so that no event is reported twice and none is lost between two pulses.
 *
 * A board that is not hardware-reduced has fixed registers (section 4.8.3.1, 4.8.3.2) for sleep. They
 * have no events: what a guest enables there never comes, so there is no SCI.
 *
 * A guest that has not come so far as to unmask the interrupt loses its edge, and would never look at
 * the port. So the interrupt of what must not be lost (the power button, a hot-plugged device) comes again,
 * less and less often, until the guest has read it.
 *
 * Threads: any vCPU reads and writes the registers, any thread notifies; only pending changes, and
 * it is atomic. The loop's thread presses the button, insists, and has the timer.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/board/platform.h"
#include "vmm/core/clock.h"

#define SLP_EN (1u << 5)
#define SLP_TYP(v) ((v) >> 2 & 7)
#define GED_BYTES 4
/* PM1 control: SCI_EN is always set. */
#define PM1_SCI_EN 1u
#define PM1_SLP_EN (1u << 13)
#define PM1_SLP_TYP(v) ((v) >> 10 & 7)
#define PM1_ENABLE 2u /* offset of the enable register, after status */
#define PM1_EVENT_BYTES 4
#define PM1_CONTROL_BYTES 2
/* When an unread event is signalled again: first, and at most. */
#define AGAIN_NS (CLOCK_NS_PER_S / 5)
#define MAX_AGAIN_NS (2 * CLOCK_NS_PER_S)

/* A snapshot will save exactly this. The wiring is in struct acpi_pm. */
struct acpi_pm_state {
	_Atomic uint32_t pending; /* bits of the GED port that were raised and not read (5.6.9) */
	_Atomic uint16_t pm1_enable;
};

struct acpi_pm {
	struct device dev;
	struct acpi_pm_state s;
	const struct device_env *env;
	struct acpi_pm_config config;
	unsigned nadded;
	struct loop_watch *again; /* NULL before prepare, or before the first insist */
	bool no_timer;		  /* prepare has failed */
	uint64_t again_ns;
	uint32_t insists; /* the bits that are signalled again */
};

static const struct device_type acpi_pm_type = { .name = "acpi-pm" };

static void sleep_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	struct acpi_pm *pm = opaque;

	if (val & SLP_EN && SLP_TYP(val) == pm->config.s5_type)
		pm->env->ops->event(pm->env->vm, VM_EVENT_POWEROFF);
}

/* SLP_TYP and SLP_EN are write-only; WAK_STS is never set, because the VM never sleeps. */
static uint64_t zero_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	return 0;
}

static void reset_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	struct acpi_pm *pm = opaque;

	if (val == pm->config.reset_value)
		pm->env->ops->event(pm->env->vm, VM_EVENT_RESET);
}

static uint64_t ged_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	struct acpi_pm *pm = opaque;
	unsigned shift = 8 * (unsigned)off;
	uint32_t mask = (uint32_t)((1ull << 8 * size_bytes) - 1) << shift;

	return (atomic_fetch_and(&pm->s.pending, ~mask) & mask) >> shift;
}

/* Status bits are never set. */
static uint64_t pm1_event_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	struct acpi_pm *pm = opaque;
	uint32_t both = (uint32_t)atomic_load(&pm->s.pm1_enable) << 8 * PM1_ENABLE;

	return both >> 8 * off;
}

static void pm1_event_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	struct acpi_pm *pm = opaque;

	if (off == PM1_ENABLE && size_bytes == 2)
		atomic_store(&pm->s.pm1_enable, (uint16_t)val);
}

static uint64_t pm1_control_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	return off ? 0 : PM1_SCI_EN;
}

static void pm1_control_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	struct acpi_pm *pm = opaque;

	val <<= 8 * off;
	if (val & PM1_SLP_EN && PM1_SLP_TYP(val) == pm->config.s5_type)
		pm->env->ops->event(pm->env->vm, VM_EVENT_POWEROFF);
}

static const struct bus_ops sleep_bus = { zero_read, sleep_write };
static const struct bus_ops status_bus = { zero_read, NULL };
static const struct bus_ops reset_bus = { zero_read, reset_write };
static const struct bus_ops ged_bus = { ged_read, NULL };
static const struct bus_ops pm1_event_bus = { pm1_event_read, pm1_event_write };
static const struct bus_ops pm1_control_bus = { pm1_control_read, pm1_control_write };

static void pulse(struct acpi_pm *pm)
{
	const struct device_env *env = pm->env;

	env->ops->set_line(env->vm, pm->config.ged_gsi, pm->config.ged_holder, true);
	env->ops->set_line(env->vm, pm->config.ged_gsi, pm->config.ged_holder, false);
}

void acpi_pm_notify(struct device *dev, uint32_t bits)
{
	struct acpi_pm *pm = (struct acpi_pm *)dev;

	atomic_fetch_or(&pm->s.pending, bits);
	pulse(pm);
}

static void signal_again(void *opaque)
{
	struct acpi_pm *pm = opaque;

	pm->insists &= atomic_load(&pm->s.pending);
	if (!pm->insists)
		return;
	pulse(pm);
	pm->again_ns = 2 * pm->again_ns < MAX_AGAIN_NS ? 2 * pm->again_ns : MAX_AGAIN_NS;
	loop_timer_arm(pm->again, pm->again_ns);
}

static void acpi_pm_prepare(struct device *dev)
{
	struct acpi_pm *pm = (struct acpi_pm *)dev;

	if (!pm->no_timer && !pm->again &&
	    loop_watch_timer(pm->env->loop, signal_again, pm, &pm->again)) {
		pm->again = NULL;
		pm->no_timer = true;
	}
}

void acpi_pm_insist(struct device *dev, uint32_t bits)
{
	struct acpi_pm *pm = (struct acpi_pm *)dev;

	acpi_pm_notify(dev, bits);
	acpi_pm_prepare(dev);
	pm->insists |= bits;
	/* Without memory for a timer the guest gets this one interrupt. */
	if (!pm->again)
		return;
	pm->again_ns = AGAIN_NS;
	loop_timer_arm(pm->again, pm->again_ns);
}

static void acpi_pm_power_button(struct device *dev)
{
	acpi_pm_insist(dev, ((struct acpi_pm *)dev)->config.power_button_bit);
}

struct range {
	uint16_t port;
	uint8_t bytes;
	const struct bus_ops *ops;
};

#define MAX_RANGES 6

/* Returns the number of ranges. */
static unsigned ranges_of(const struct acpi_pm_config *c, struct range range[MAX_RANGES])
{
	unsigned n = 0;

	range[n++] = (struct range){ c->sleep_control_port, 1, &sleep_bus };
	range[n++] = (struct range){ c->sleep_status_port, 1, &status_bus };
	range[n++] = (struct range){ c->reset_port, 1, &reset_bus };
	range[n++] = (struct range){ c->ged_port, GED_BYTES, &ged_bus };
	if (!c->pm1_control_port)
		return n;
	range[n++] = (struct range){ c->pm1_event_port, PM1_EVENT_BYTES, &pm1_event_bus };
	range[n++] = (struct range){ c->pm1_control_port, PM1_CONTROL_BYTES, &pm1_control_bus };
	return n;
}

static void acpi_pm_destroy(struct device *dev)
{
	struct acpi_pm *pm = (struct acpi_pm *)dev;
	struct range range[MAX_RANGES];

	ranges_of(&pm->config, range);
	loop_unwatch(pm->again);
	while (pm->nadded)
		bus_remove(pm->env->pio, range[--pm->nadded].port);
	free(pm);
}

static void acpi_pm_describe(struct device *dev, char *buf, size_t len)
{
	struct acpi_pm *pm = (struct acpi_pm *)dev;

	snprintf(buf, len, "sleep at port 0x%x, reset at port 0x%x, events at port 0x%x, irq %u",
		 pm->config.sleep_control_port, pm->config.reset_port, pm->config.ged_port,
		 pm->config.ged_gsi);
}

static const struct device_ops acpi_pm_ops = {
	.destroy = acpi_pm_destroy,
	.prepare = acpi_pm_prepare,
	.power_button = acpi_pm_power_button,
	.describe = acpi_pm_describe,
};

int acpi_pm_create(const struct device_env *env, const struct acpi_pm_config *config,
		   struct device **out, struct err *err)
{
	struct acpi_pm *pm = calloc(1, sizeof(*pm));
	struct range range[MAX_RANGES];
	unsigned n;

	*out = NULL;
	if (!pm)
		return err_sys(err, ENOMEM, "acpi-pm");
	pm->dev = (struct device){ &acpi_pm_type, &acpi_pm_ops, "acpi-pm" };
	pm->env = env;
	pm->config = *config;
	n = ranges_of(config, range);
	for (; pm->nadded < n; pm->nadded++) {
		const struct range *r = &range[pm->nadded];
		int rc = bus_add(env->pio, r->port, r->bytes, r->ops, pm);

		if (rc) {
			err_sys(err, -rc, "acpi-pm: port 0x%x", r->port);
			acpi_pm_destroy(&pm->dev);
			return rc;
		}
	}
	*out = &pm->dev;
	return 0;
}
