/*
 * fake_env: a VM without KVM, for unit tests of devices.
 *
 * It has real guest memory (two regions), buses, loop and transport. It records the binding of
 * kicks and interrupts. fake_write plays the part of KVM: a write that
 * hits a bound kick signals its eventfd, any other goes to the bus. One thread, unless
 * a test says otherwise; any thread may cause event and line records.
 */
#ifndef BANTAM_FAKE_ENV_H
#define BANTAM_FAKE_ENV_H

#include <pthread.h>

#include "devices/device.h"
#include "devices/pci/pci.h"
#include "devices/virtio/core/mmio.h"

#define FAKE_LOW_BYTES (4ull << 20) /* memory at 0 */
#define FAKE_HIGH_BASE (1ull << 32)
#define FAKE_HIGH_BYTES (4ull << 20) /* memory at 4 GiB */
#define FAKE_ECAM 0xb0000000ull
#define FAKE_BARS 0xc0000000ull
#define FAKE_BARS_BYTES (1ull << 20)
#define FAKE_SLOTS 0xd0000000ull
#define FAKE_STRIDE 0x1000ull
#define FAKE_MAX 256

enum fake_transport { FAKE_PCI, FAKE_MMIO };

struct fake_msi {
	bool bound;
	uint64_t addr;
	uint32_t data;
	int fd;
	unsigned updates;
	unsigned sent; /* by msi_send */
};

struct fake_env {
	struct mem mem;
	struct bus pio, mmio;
	struct virtio_mmio_slots slots;
	struct device_env env; /* devices get &f->env */
	uint64_t next_alloc;

	pthread_mutex_t lock;	    /* protects the records below */
	struct kick kick[FAKE_MAX]; /* bound now */
	unsigned nkicks, binds, unbinds;
	struct fake_msi msi[FAKE_MAX];
	unsigned msi_binds, msi_updates, msi_unbinds;
	uint32_t line[FAKE_MAX];  /* by gsi; bit h: holder h asserts it */
	unsigned line_calls;	  /* calls of set_line */
	unsigned rises[FAKE_MAX]; /* by gsi: number of changes from low to high */
	unsigned events[8];	  /* counts, by enum vm_event */
	unsigned drivers[2];	  /* counts: drivers that left a device, that activated one */
	/* -errno, set by a test: the result of these calls */
	int fail_bind_kick, fail_msi_bind;
};

void fake_env_init(struct fake_env *f, enum fake_transport transport);
/* Call it after destroying all devices. */
void fake_env_destroy(struct fake_env *f);

/* Allocates zeroed guest memory below 4 MiB, aligned to 4096; never freed. */
gpa_t fake_alloc(struct fake_env *f, uint64_t len_bytes);
/* Returns the host bytes of a guest address; asserts that they exist. */
void *fake_at(struct fake_env *f, gpa_t at, uint64_t len_bytes);

/* Accesses of a guest. */
uint64_t fake_read(struct fake_env *f, uint64_t addr, unsigned size_bytes);
void fake_write(struct fake_env *f, uint64_t addr, unsigned size_bytes, uint64_t val);
uint32_t fake_config_read(struct fake_env *f, unsigned slot, unsigned off, unsigned size_bytes);
void fake_config_write(struct fake_env *f, unsigned slot, unsigned off, unsigned size_bytes,
		       uint32_t val);

/* Creates a device from text, as the command line does. Returns 0 or -errno, with err. */
int fake_create(struct fake_env *f, const struct device_type *type, const char *text,
		struct device **out, struct err *err);

/* Returns the device's counter of that name; aborts if it has none. */
uint64_t fake_counter(struct device *dev, const char *name);

/* Returns true if there is only one CPU; then the loop does not busy-poll. */
bool fake_one_cpu(void);
/* Runs the loop's due callbacks, and the callbacks that these make due, a few levels deep. */
void fake_run(struct fake_env *f);
/* Runs the loop until cond(arg). Returns false after five seconds. */
bool fake_run_until(struct fake_env *f, bool (*cond)(void *arg), void *arg);

/* Interrupts since the last call: messages with this data, rises of this line. */
unsigned fake_take_msis(struct fake_env *f, uint32_t data);
unsigned fake_take_rises(struct fake_env *f, unsigned gsi);

#endif
