/*
 * acpi_pm: sleep and reset registers of hardware-reduced ACPI, and the port behind the Generic
 * Event Device (ACPI 6.4, sections 4.8.3.7, 4.8.3.6, 5.6.9).
 *
 * The GED's _EVT method reads the port once and notifies the device of each bit that is set. The
 * read clears the bits, so that no event is reported twice and none is lost between two pulses.
 *
 * A guest that has not come so far as to unmask the interrupt loses its edge, and would never look at
 * the port. So the interrupt comes again, less and less often, until the guest has read that the button
 * was pressed.
 *
 * Threads: any vCPU reads and writes the registers, any thread notifies; only pending changes, and
 * it is atomic. The loop's thread presses the button and has the timer.
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
/* When an unread press is signalled again: first, and at most. */
#define AGAIN_NS (CLOCK_NS_PER_S / 5)
#define MAX_AGAIN_NS (2 * CLOCK_NS_PER_S)

/* A snapshot will save exactly this. The wiring is in struct acpi_pm. */
struct acpi_pm_state {
	_Atomic uint32_t pending; /* bits of the GED port that were raised and not read (5.6.9) */
};

struct acpi_pm {
	struct device dev;
	struct acpi_pm_state s;
	const struct device_env *env;
	struct acpi_pm_config config;
	unsigned nadded;
	struct loop_watch *again; /* NULL before the button was pressed */
	uint64_t again_ns;
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

static const struct bus_ops sleep_bus = { zero_read, sleep_write };
static const struct bus_ops status_bus = { zero_read, NULL };
static const struct bus_ops reset_bus = { zero_read, reset_write };
static const struct bus_ops ged_bus = { ged_read, NULL };

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

static void press_again(void *opaque)
{
	struct acpi_pm *pm = opaque;
	uint32_t bit = pm->config.power_button_bit;

	if (!(atomic_load(&pm->s.pending) & bit))
		return;
	pulse(pm);
	pm->again_ns = 2 * pm->again_ns < MAX_AGAIN_NS ? 2 * pm->again_ns : MAX_AGAIN_NS;
	loop_timer_arm(pm->again, pm->again_ns);
}

static void acpi_pm_power_button(struct device *dev)
{
	struct acpi_pm *pm = (struct acpi_pm *)dev;

	acpi_pm_notify(dev, pm->config.power_button_bit);
	/* Without memory for a timer the guest gets this one interrupt. */
	if (!pm->again && loop_watch_timer(pm->env->loop, press_again, pm, &pm->again)) {
		pm->again = NULL;
		return;
	}
	pm->again_ns = AGAIN_NS;
	loop_timer_arm(pm->again, pm->again_ns);
}

static void ports(const struct acpi_pm *pm, uint16_t port[4])
{
	port[0] = pm->config.sleep_control_port;
	port[1] = pm->config.sleep_status_port;
	port[2] = pm->config.reset_port;
	port[3] = pm->config.ged_port;
}

static void acpi_pm_destroy(struct device *dev)
{
	struct acpi_pm *pm = (struct acpi_pm *)dev;
	uint16_t port[4];

	ports(pm, port);
	loop_unwatch(pm->again);
	while (pm->nadded)
		bus_remove(pm->env->pio, port[--pm->nadded]);
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
	.power_button = acpi_pm_power_button,
	.describe = acpi_pm_describe,
};

int acpi_pm_create(const struct device_env *env, const struct acpi_pm_config *config,
		   struct device **out, struct err *err)
{
	static const struct bus_ops *const ops[] = { &sleep_bus, &status_bus, &reset_bus,
						     &ged_bus };
	struct acpi_pm *pm = calloc(1, sizeof(*pm));
	uint16_t port[4];

	*out = NULL;
	if (!pm)
		return err_sys(err, ENOMEM, "acpi-pm");
	pm->dev = (struct device){ &acpi_pm_type, &acpi_pm_ops, "acpi-pm" };
	pm->env = env;
	pm->config = *config;
	ports(pm, port);
	for (; pm->nadded < 4; pm->nadded++) {
		int rc = bus_add(env->pio, port[pm->nadded], pm->nadded == 3 ? GED_BYTES : 1,
				 ops[pm->nadded], pm);

		if (rc) {
			err_sys(err, -rc, "acpi-pm: port 0x%x", port[pm->nadded]);
			acpi_pm_destroy(&pm->dev);
			return rc;
		}
	}
	*out = &pm->dev;
	return 0;
}
