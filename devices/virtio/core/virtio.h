/*
 * virtio: one device model over any transport (virtio 1.2, sections 2 and 4).
 *
 * A device fills a const virtio_class and embeds a virtio_device; it never
 * learns whether it sits on PCI or MMIO. dev->lock is held during every class
 * function; register accesses come from vCPU threads, kicks from the loop's
 * thread, so a device needs no lock of its own. Code that touches the device
 * from elsewhere (a completion, a timer) takes virtio_lock first.
 */
#ifndef BANTAM_VIRTIO_H
#define BANTAM_VIRTIO_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/device.h"
#include "devices/virtio/core/virtq.h"

#define VIRTIO_F_INDIRECT_DESC 28
#define VIRTIO_F_EVENT_IDX 29
#define VIRTIO_F_VERSION_1 32
#define VIRTIO_F_ACCESS_PLATFORM 33
#define VIRTIO_F_RING_RESET 40

#define VIRTIO_STATUS_ACKNOWLEDGE 1
#define VIRTIO_STATUS_DRIVER 2
#define VIRTIO_STATUS_DRIVER_OK 4
#define VIRTIO_STATUS_FEATURES_OK 8
#define VIRTIO_STATUS_NEEDS_RESET 64
#define VIRTIO_STATUS_FAILED 128

#define VIRTIO_MAX_QUEUES 33
#define VIRTIO_CONFIG_MAX 256

struct virtio_device;

struct virtio_class {
	const char *name;   /* "virtio-blk" */
	uint16_t device_id; /* section 5 */
	uint32_t pci_class; /* 24-bit class code, e.g. 0x010000 */
	/*
	 * DRIVER_OK: features are final, ready queues are enabled. -errno: NEEDS_RESET, and
	 * reset is not called for this activation. Every ready queue is kicked soon after.
	 */
	int (*activate)(struct virtio_device *dev);
	/* The driver notified queue (or may have: spurious kicks happen). Active devices only. */
	void (*kick)(struct virtio_device *dev, unsigned queue);
	/* The driver wrote dev->s.config[off, off+len); the bytes are already stored. May be NULL:
	 * then the config space is read-only. */
	void (*write_config)(struct virtio_device *dev, uint32_t off, uint32_t len);
	/*
	 * Stop. Return true when no I/O is in flight; else false, and call virtio_reset_done
	 * (lock held) when the last one is back: the register write that asked for the reset
	 * waits for that (so the loop must run until the vCPUs have stopped). Guest memory is
	 * not touched after. Called once per activation, also of a broken device; config
	 * keeps its bytes.
	 */
	bool (*reset)(struct virtio_device *dev);
	/*
	 * What virtio_call_fd says of this queue may be another descriptor now (its vector was
	 * masked, unmasked, moved). Active devices with queues elsewhere only; else NULL.
	 */
	void (*call_changed)(struct virtio_device *dev, unsigned queue);
};

struct virtio_transport_ops {
	/* Thread: any; lock held. */
	void (*signal_queue)(struct virtio_device *dev, unsigned queue);
	void (*signal_config)(struct virtio_device *dev);
	/* The device has become active: bind kicks of ready queues, and kick each once. */
	void (*activated)(struct virtio_device *dev);
	/* The device has been reset; its status does not read 0 yet. */
	void (*reset)(struct virtio_device *dev);
	/* Detach from bus, unbind kicks and interrupts, free. vCPUs joined. */
	void (*destroy)(struct virtio_device *dev);
	/* An eventfd that a kick of this queue is written to. Valid until destroy. */
	int (*kick_fd)(struct virtio_device *dev, unsigned queue);
	/* An eventfd whose write interrupts the guest for this queue without us; -1: not now.
	 * NULL: never. */
	int (*call_fd)(struct virtio_device *dev, unsigned queue);
	/* Where the device sits: "PCI 00:03.0, GSI 19". */
	void (*describe)(struct virtio_device *dev, char *buf, size_t len);
};

/* The eventfd of one queue's notifies; see kicks.h. */
struct virtio_kick {
	struct virtio_device *dev;
	unsigned index;
	struct loop_watch *watch;
	int fd;	    /* a write is a kick */
	bool bound; /* the guest's notify writes reach fd by themselves */
	struct kick at;
};

/* A relay: the server of a queue signals fd, and we inject the interrupt. */
struct virtio_relay {
	struct virtio_device *dev;
	unsigned queue;
	struct loop_watch *watch;
	int fd;
};

/*
 * What the guest sees and sets of every virtio device. A snapshot will save exactly this, one
 * virtq_state for each queue, the transport's state (virtio_pci_state or virtio_mmio_state), and
 * the device's own. The wiring lies in struct virtio_device.
 */
struct virtio_state {
	uint64_t acked;		   /* features that the driver took; bit n = feature n (2.2) */
	uint8_t status;		   /* VIRTIO_STATUS_… (2.1) */
	uint8_t config_generation; /* changes with config (2.5.2, 4.1.4.3) */
	uint8_t config
		[VIRTIO_CONFIG_MAX]; /* config_bytes of it, as the class lays them out (2.5) */
};

struct virtio_device {
	struct device dev;
	const struct virtio_class *class;
	const struct device_env *env; /* outlives the device */
	pthread_mutex_t lock;
	pthread_cond_t reset_cond;
	bool resetting;	 /* a thread is in a reset: others wait */
	bool io_pending; /* … and class->reset has not been answered yet */
	bool detaching; /* virtio_detach has begun; it waits in the loop, and no driver starts it again */

	unsigned nqueues;
	struct virtq queue[VIRTIO_MAX_QUEUES];
	struct virtio_kick kick[VIRTIO_MAX_QUEUES]; /* the transport's, by kicks.h */

	/*
	 * Bit n: queue n is served elsewhere (vhost, vhost-user): its server reads the kicks, and
	 * class->kick is not called for it. Set between virtio_init and virtio_attach, for all that may ever be;
	 * changed by virtio_serve after.
	 */
	uint64_t elsewhere;
	struct virtio_relay *relay; /* one for each queue, if any was elsewhere at first */

	struct virtio_state s;
	uint64_t offered;      /* features, bit n = feature n; fixed after virtio_attach */
	uint32_t config_bytes; /* of s.config */
	/* What the class was told. */
	bool active;  /* DRIVER_OK and activate succeeded, not broken */
	bool started; /* activate succeeded, class->reset was not called since */

	const struct virtio_transport_ops *transport_ops;
	void *transport; /* virtio_pci or virtio_mmio */
};

/*
 * Prepare dev (zeroed by the caller) with its queues. offered gets VERSION_1,
 * INDIRECT_DESC and EVENT_IDX added.
 */
void virtio_init(struct virtio_device *dev, const struct virtio_class *class,
		 const struct device_env *env, unsigned nqueues, uint16_t queue_size_max,
		 uint64_t offered, uint32_t config_bytes);

/* Put dev on the machine's transport (env->pci or env->mmio_slots). -ENOSPC: no slot left. */
int virtio_attach(struct virtio_device *dev, struct err *err);
/*
 * Reset, take off the transport, release locks. Accepts a device that was never attached.
 * Thread: the one that runs the loop, outside loop_run: if class->reset returns false, the
 * loop runs here until virtio_reset_done. So no I/O is in flight afterwards. vCPUs may still run: no
 * driver starts the device again, and when it returns, none is in its registers.
 */
void virtio_detach(struct virtio_device *dev);
/* One line for --dry-run: where the device sits. "" when not attached. */
void virtio_describe(struct virtio_device *dev, char *buf, size_t len);

static inline bool virtio_has(const struct virtio_device *dev, unsigned feature)
{
	return dev->s.acked >> feature & 1;
}

void virtio_lock(struct virtio_device *dev);
void virtio_unlock(struct virtio_device *dev);

/* For devices; lock held. */
void virtio_interrupt(struct virtio_device *dev, unsigned queue); /* if the driver wants it */
void virtio_config_changed(struct virtio_device *dev);		  /* after changing s.config */
/* NEEDS_RESET, no kicks until the driver resets, one line in the log. */
void virtio_broken(struct virtio_device *dev, const char *why);
void virtio_reset_done(struct virtio_device *dev);
/*
 * For a device with queues elsewhere: the eventfd that the guest's kicks arrive at, and the one whose
 * write interrupts the guest: KVM's own if the queue's vector lets it, else one that this process
 * listens to (a masked vector, INTx, MMIO). Owned by the device; the kick's is fixed.
 */
int virtio_kick_fd(struct virtio_device *dev, unsigned queue);
int virtio_call_fd(struct virtio_device *dev, unsigned queue);
/*
 * Take a queue back (elsewhere false) or hand it out again: who hears its kicks from now on. Taken
 * back, kicks that were not read yet reach class->kick. Any thread, lock held.
 */
void virtio_serve(struct virtio_device *dev, unsigned queue, bool elsewhere);

/* For transports; lock held (virtio.c implements the state machine once for both). */
void virtio_set_status(struct virtio_device *dev, uint8_t status); /* 0 resets, and waits */
void virtio_set_features(struct virtio_device *dev, unsigned word, uint32_t bits);
uint32_t virtio_offered_word(const struct virtio_device *dev, uint32_t word);
uint32_t virtio_acked_word(const struct virtio_device *dev, uint32_t word);
/*
 * Device configuration, size_bytes 1 to 4, any offset. Bytes beyond the end read as 0: so does
 * a field that the driver knows and this device lacks. Writes there are dropped.
 */
uint32_t virtio_config_read(struct virtio_device *dev, uint64_t off, unsigned size_bytes);
void virtio_config_write(struct virtio_device *dev, uint64_t off, unsigned size_bytes,
			 uint32_t val);
/* The queue, if it exists; with its registers writable (not ready, no DRIVER_OK), else NULL. */
struct virtq *virtio_queue(struct virtio_device *dev, uint32_t queue);
struct virtq *virtio_queue_setup(struct virtio_device *dev, uint32_t queue);
/* The driver declares it ready; a bad size or address breaks the device. */
void virtio_queue_enable(struct virtio_device *dev, uint32_t queue);
/* The state of vectors changed in some way: see call_changed. */
void virtio_calls_changed(struct virtio_device *dev);
/* The stop that no start follows: as virtio_detach says. Takes the lock itself. For attach.c. */
void virtio_stop_last(struct virtio_device *dev);
/* Part of an address register: replaces the low (0) or high (1) 32 bits. */
void virtio_set_half(gpa_t *addr, unsigned half, uint32_t val);

#endif
