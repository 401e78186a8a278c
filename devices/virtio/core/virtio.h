/*
 * virtio: one device model over any transport (virtio 1.2, sections 2 and 4).
 *
 * A device fills a const virtio_class and embeds a virtio_device; it never learns whether it sits
 * on PCI or MMIO. Register accesses come from vCPU threads and kicks from the loop's thread, but
 * the caller holds dev->lock during every class function, so a device needs no lock of its own.
 * Code that touches the device from elsewhere (a completion, a timer) takes virtio_lock first.
 */
#ifndef BANTAM_VIRTIO_H
#define BANTAM_VIRTIO_H

#include <pthread.h>
#include <stdatomic.h>
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
	 * The driver set DRIVER_OK: features are final, ready queues are enabled. 0 or -errno; on
	 * an error the device gets NEEDS_RESET, and reset is not called for this activation. After
	 * success every ready queue is kicked once soon.
	 */
	int (*activate)(struct virtio_device *dev);
	/*
	 * The driver notified queue, or it may have: spurious kicks happen. Called for active
	 * devices only.
	 */
	void (*kick)(struct virtio_device *dev, unsigned queue);
	/*
	 * The driver wrote dev->s.config[off, off+len); the bytes are already stored. NULL: the
	 * configuration is read-only.
	 */
	void (*write_config)(struct virtio_device *dev, uint32_t off, uint32_t len);
	/*
	 * Stop. Return true if no I/O is in flight. Else return false, and call virtio_reset_done
	 * (lock held) when the last I/O has completed: the register write that asked for the reset
	 * waits for that call (so the loop must run until the vCPUs have stopped). The device does
	 * not touch guest memory afterwards. Called once per activation, also for a broken device;
	 * s.config keeps its bytes.
	 */
	bool (*reset)(struct virtio_device *dev);
	/*
	 * virtio_call_fd may return another descriptor for this queue now (its vector was masked,
	 * unmasked or moved). Called for active devices with queues elsewhere only; other classes
	 * leave it NULL.
	 */
	void (*call_changed)(struct virtio_device *dev, unsigned queue);
};

struct virtio_transport_ops {
	/* Thread: any; lock held. */
	void (*signal_queue)(struct virtio_device *dev, unsigned queue);
	void (*signal_config)(struct virtio_device *dev);
	/*
	 * The device has become active: bind the kicks of ready queues, and kick each queue once.
	 */
	void (*activated)(struct virtio_device *dev);
	/* The device has been reset; its status does not read 0 yet. */
	void (*reset)(struct virtio_device *dev);
	/* Detach from the bus, unbind interrupts, free. Kicks are unbound. vCPUs may still run. */
	void (*destroy)(struct virtio_device *dev);
	/*
	 * Returns an eventfd whose write interrupts the guest for this queue without this process,
	 * or -1 if there is none now. NULL: the transport never has one.
	 */
	int (*call_fd)(struct virtio_device *dev, unsigned queue);
	/* Writes where the device sits: "PCI 00:03.0, GSI 19". */
	void (*describe)(struct virtio_device *dev, char *buf, size_t len);
};

/* The eventfd of one queue's notifies; see kicks.h. */
struct virtio_kick {
	struct virtio_device *dev;
	unsigned index;
	struct loop_watch *watch;
	bool missed; /* a kick came while the lock was taken; the loop's thread */
	int fd;	     /* each write is a kick; only this process has it */
	int lent_fd; /* the same for a server elsewhere, who has it, too; -1: none */
	bool bound;  /* KVM writes one of them at the guest's notify */
	struct kick at;
};

/* A relay: the server of a queue writes fd, and the loop injects the interrupt. */
struct virtio_relay {
	struct virtio_device *dev;
	unsigned queue;
	struct loop_watch *watch;
	int fd;
	bool missed; /* as in virtio_kick */
};

/*
 * The state of every virtio device that the guest sees and sets. A snapshot will save exactly this,
 * one virtq_state for each queue, the transport's state (virtio_pci_state or virtio_mmio_state),
 * and the device's own. The wiring is in struct virtio_device.
 */
struct virtio_state {
	uint64_t acked;		   /* features that the driver accepted; bit n = feature n (2.2) */
	uint8_t status;		   /* VIRTIO_STATUS_… (2.1) */
	uint8_t config_generation; /* counts changes of config (2.5.2, 4.1.4.3) */
	uint8_t config[VIRTIO_CONFIG_MAX]; /* config_bytes used, in the class's layout (2.5) */
};

struct virtio_device {
	struct device dev;
	const struct virtio_class *class;
	const struct device_env *env; /* outlives the device */
	pthread_mutex_t lock;
	pthread_cond_t reset_cond;
	bool resetting;	 /* a thread is in a reset; other threads wait */
	bool io_pending; /* class->reset returned false; virtio_reset_done is still due */
	bool detaching;	 /* virtio_detach has begun; no driver starts the device again */

	unsigned nqueues;
	struct virtq queue[VIRTIO_MAX_QUEUES];
	struct virtio_kick kick[VIRTIO_MAX_QUEUES]; /* one for each queue; see kicks.h */

	/*
	 * Bit n: queue n is served elsewhere (by the kernel or a vhost-user daemon): its server
	 * reads the kicks, and class->kick is not called for it. Between virtio_init and virtio_attach the device sets
	 * the bits of all queues that may ever be served elsewhere; later virtio_serve changes
	 * them.
	 */
	uint64_t elsewhere;
	struct virtio_relay *relay; /* one for each queue; NULL: none was elsewhere at attach */
	/*
	 * With relays: what the loop missed, since the lock was taken (virtio_lock_now). Then again is called in
	 * the loop's thread. The device sets it, or NULL.
	 */
	atomic_bool missed;
	struct loop_watch *again_watch;
	int again_fd;
	void (*again)(void *opaque);
	void *again_opaque;
	struct loop_watch *
		late; /* an event that found the lock taken, and is to run then; the loop's thread */

	struct virtio_state s;
	uint64_t offered;      /* features offered; bit n = feature n; fixed after virtio_attach */
	uint32_t config_bytes; /* of s.config */
	/* Which class functions were called last. */
	bool active;  /* DRIVER_OK is set, activate succeeded, not broken */
	bool started; /* activate succeeded, and class->reset was not called since */

	const struct virtio_transport_ops *transport_ops;
	void *transport; /* virtio_pci or virtio_mmio */
};

/*
 * Prepare dev (zeroed by the caller) with its queues. Adds VERSION_1, INDIRECT_DESC and EVENT_IDX
 * to offered.
 */
void virtio_init(struct virtio_device *dev, const struct virtio_class *class,
		 const struct device_env *env, unsigned nqueues, uint16_t queue_size_max,
		 uint64_t offered, uint32_t config_bytes);

/*
 * Put dev on the machine's transport (env->pci or env->mmio_slots). 0 or -errno; -ENOSPC: no slot
 * is left.
 */
int virtio_attach(struct virtio_device *dev, struct err *err);
/*
 * Reset the device, take it off the transport, destroy its locks. Accepts a device that was never
 * attached. Thread: the one that runs the loop, outside loop_run. If class->reset returns false,
 * virtio_detach runs the loop until virtio_reset_done, so no I/O is in flight afterwards. vCPUs may
 * still run: no driver starts the device again, and when virtio_detach returns, no vCPU is in its
 * registers.
 */
void virtio_detach(struct virtio_device *dev);
/* Writes one line for --dry-run: where the device sits. "" if the device is not attached. */
void virtio_describe(struct virtio_device *dev, char *buf, size_t len);

static inline bool virtio_has(const struct virtio_device *dev, unsigned feature)
{
	return dev->s.acked >> feature & 1;
}

void virtio_lock(struct virtio_device *dev);
void virtio_unlock(struct virtio_device *dev);
/*
 * For callbacks in the loop's thread. Of a device with queues elsewhere, a vCPU's thread may hold the lock as long
 * as a daemon takes to answer: then this returns false, and dev->again is called when the lock is free.
 */
bool virtio_lock_now(struct virtio_device *dev);

/* For devices; the caller holds the lock. */
void virtio_interrupt(struct virtio_device *dev, unsigned queue); /* if the driver wants it */
void virtio_config_changed(struct virtio_device *dev);		  /* after changing s.config */
/* Set NEEDS_RESET, ignore kicks until the driver resets the device, log one line. */
void virtio_broken(struct virtio_device *dev, const char *why);
void virtio_reset_done(struct virtio_device *dev);
/*
 * For a device with queues elsewhere. virtio_kick_fd returns the eventfd that the guest's kicks
 * arrive at, or -errno. It is made for the server, and valid until the reset or until the queue is taken back;
 * its first kick is in it. virtio_call_fd returns the eventfd whose write interrupts the guest:
 * KVM's own if the queue's vector allows it, else the one of the relay (a masked vector, INTx,
 * MMIO). The device owns both.
 */
int virtio_kick_fd(struct virtio_device *dev, unsigned queue);
int virtio_call_fd(struct virtio_device *dev, unsigned queue);
/*
 * Sets who reads the queue's kicks: this process (false) or its server (true). When the queue is
 * taken back, class->kick gets the kicks that the server had not read. Thread: any, lock held.
 */
void virtio_serve(struct virtio_device *dev, unsigned queue, bool elsewhere);
/* The loop calls class->kick once more soon. For a queue that this process serves. */
void virtio_kick_again(struct virtio_device *dev, unsigned queue);

/*
 * For transports; the caller holds the lock (virtio.c implements the state machine once for both).
 */
void virtio_set_status(struct virtio_device *dev, uint8_t status); /* 0 resets, and waits */
void virtio_set_features(struct virtio_device *dev, unsigned word, uint32_t bits);
uint32_t virtio_offered_word(const struct virtio_device *dev, uint32_t word);
uint32_t virtio_acked_word(const struct virtio_device *dev, uint32_t word);
/*
 * Read or write device configuration; size_bytes is 1 to 4, off is any offset. Bytes beyond the end
 * read as 0, and so does a field that the driver knows and this device lacks. Writes beyond the end
 * are dropped.
 */
uint32_t virtio_config_read(struct virtio_device *dev, uint64_t off, unsigned size_bytes);
void virtio_config_write(struct virtio_device *dev, uint64_t off, unsigned size_bytes,
			 uint32_t val);
/*
 * virtio_queue returns the queue, or NULL if there is none. virtio_queue_setup also returns NULL
 * while the queue's registers are not writable (it is ready, or DRIVER_OK is set).
 */
struct virtq *virtio_queue(struct virtio_device *dev, uint32_t queue);
struct virtq *virtio_queue_setup(struct virtio_device *dev, uint32_t queue);
/* The driver declares the queue ready; a bad size or address breaks the device. */
void virtio_queue_enable(struct virtio_device *dev, uint32_t queue);
/* The state of vectors changed: call call_changed for every ready queue if queues are elsewhere. */
void virtio_calls_changed(struct virtio_device *dev);
/*
 * Stop the device before virtio_detach takes it down; no driver starts it again. Takes the lock
 * itself. Called by attach.c only.
 */
void virtio_stop_last(struct virtio_device *dev);
/* Write half of an address register: replaces the low (half = 0) or the high (1) 32 bits. */
void virtio_set_half(gpa_t *addr, unsigned half, uint32_t val);

#endif
