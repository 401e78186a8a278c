/*
 * virtio-rng: entropy for the guest (virtio 1.2, section 5.4).
 *
 * The loop's thread fills buffers from getrandom, or from a file that is opened non-blocking, so it
 * never blocks the loop. A turn hands out a bounded number of bytes: a guest that asks for
 * gigabytes gets them, but other devices are served in between. When the source has nothing yet, a
 * timer tries again. A vCPU's thread resets the device and leaves the timer alone: when it fires,
 * it finds an idle device.
 *
 * A snapshot saves only virtio_state: the device keeps no byte from one request to the next.
 */
#include "devices/virtio/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "devices/virtio/core/virtio.h"
#include "vmm/core/fd_rw.h"
#include "vmm/core/log.h"
#include "vmm/core/turn.h"

#define RNG_QUEUE_SIZE 64u
/* A byte of entropy takes as long as so many that are copied: a turn (turn.h) is 32 KiB. */
#define BYTE_COST 32u
#define EMPTY_NS 10000000u /* retry when the source has nothing yet */
#define ERROR_NS 1000000000u

struct rng {
	struct virtio_device vdev; /* first */
	int fd;			   /* the source, or -1: getrandom */
	struct loop_watch *timer;
};

/* Fill up to len_bytes of buf. Returns the bytes filled, 0 if there are none now, -errno. */
static ssize_t entropy(struct rng *rng, void *buf, size_t len_bytes)
{
	ssize_t n;

	do {
		n = rng->fd >= 0 ? fd_rw_read(rng->fd, buf, len_bytes) :
				   getrandom(buf, len_bytes, GRND_NONBLOCK);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	/* 0 is the end of a file. */
	return n ? n : -ENODATA;
}

/*
 * Fill one chain with at most max bytes. Returns the bytes written, 0 to try later, -errno. Section
 * 5.4.6.2 requires at least one byte and allows fewer than asked, so a huge buffer stays cheap.
 */
static ssize_t fill(struct rng *rng, const struct chain *chain, size_t max)
{
	ssize_t total = 0;

	for (unsigned i = 0; i < chain->nwritable && (size_t)total < max; i++) {
		const struct iovec *iov = &chain->iov[chain->nreadable + i];
		size_t want = max - (size_t)total < iov->iov_len ? max - (size_t)total :
								   iov->iov_len;
		ssize_t n = entropy(rng, iov->iov_base, want);

		if (n < 0)
			return total ? total : n;
		total += n;
		if ((size_t)n < want)
			break;
	}
	return total;
}

/* Serve one chain, as far as the turn allows. Returns false if there is nothing more to do now. */
static bool serve(struct rng *rng, struct turn *turn, uint64_t *retry_ns)
{
	struct virtio_device *vdev = &rng->vdev;
	struct virtq *q = &vdev->queue[0];
	struct iovec iov[RNG_QUEUE_SIZE];
	struct chain chain;
	int rc = virtq_pop(q, &chain, iov, RNG_QUEUE_SIZE);
	ssize_t n;

	if (rc < 0)
		virtio_broken(vdev, q->broken_why);
	if (rc <= 0)
		return false;
	if (!chain.writable_bytes) {
		virtio_broken(vdev, "a request has no writable byte");
		return false;
	}
	n = fill(rng, &chain, (turn_room(turn, TURN_BYTES) + BYTE_COST - 1) / BYTE_COST);
	if (n < 0)
		log_put_for(vdev->dev.id, LOG_WARN, "virtio-rng: cannot read its source: %s",
			    strerror((int)-n));
	if (n <= 0) {
		virtq_unpop(q);
		*retry_ns = n ? ERROR_NS : EMPTY_NS;
		return false;
	}
	virtq_push(q, chain.head, (uint32_t)n);
	turn_charge(turn, (uint64_t)n * BYTE_COST);
	return true;
}

static void rng_kick(struct virtio_device *vdev, unsigned queue)
{
	struct rng *rng = (struct rng *)vdev;
	struct turn turn = { 0 };
	uint64_t retry_ns = 0;

	turn_begin(&turn);
	while (!turn_over(&turn) && serve(rng, &turn, &retry_ns))
		;
	if (!vdev->active)
		return;
	virtio_interrupt(vdev, 0);
	/* There may be more to do, but other devices come first. */
	if (turn_over(&turn))
		retry_ns = 1;
	if (retry_ns)
		loop_timer_arm(rng->timer, retry_ns);
}

static void on_timer(void *opaque)
{
	struct rng *rng = opaque;

	virtio_lock(&rng->vdev);
	if (rng->vdev.active)
		rng_kick(&rng->vdev, 0);
	virtio_unlock(&rng->vdev);
}

static int rng_activate(struct virtio_device *vdev)
{
	return 0;
}

static bool rng_reset(struct virtio_device *vdev)
{
	return true;
}

static const struct virtio_class rng_class = {
	.name = "virtio-rng",
	.device_id = 4,
	.pci_class = 0x00ff00, /* unclassified: no class fits */
	.activate = rng_activate,
	.kick = rng_kick,
	.reset = rng_reset,
};

static void rng_destroy(struct device *dev)
{
	struct rng *rng = (struct rng *)dev;

	virtio_detach(&rng->vdev);
	loop_unwatch(rng->timer);
	if (rng->fd >= 0)
		close(rng->fd);
	free(rng);
}

static void rng_describe(struct device *dev, char *buf, size_t len)
{
	virtio_describe(&((struct rng *)dev)->vdev, buf, len);
}

static const struct device_ops rng_ops = {
	.destroy = rng_destroy,
	.describe = rng_describe,
};

enum { K_SOURCE };

static const struct key rng_keys[] = {
	[K_SOURCE] = { "source", KEY_PATH, KEY_BARE | KEY_READS, .def = "/dev/urandom",
		       .meta = "FILE", .help = "where the bytes come from" },
	{ NULL },
};

static int create(const struct device_env *env, const struct keyvals *cfg, struct device **out,
		  struct err *err)
{
	const char *source = keys_text(cfg, K_SOURCE);
	struct rng *rng = calloc(1, sizeof(*rng));
	int rc = 0;

	*out = NULL;
	if (!rng)
		return err_sys(err, ENOMEM, "virtio-rng");
	rng->vdev.dev.type = &virtio_rng_type;
	rng->vdev.dev.ops = &rng_ops;
	snprintf(rng->vdev.dev.id, sizeof(rng->vdev.dev.id), "rng");
	rng->fd = -1;
	virtio_init(&rng->vdev, &rng_class, env, 1, RNG_QUEUE_SIZE, 0, 0);
	/* getrandom returns the same bytes as /dev/urandom and needs no descriptor. */
	if (strcmp(source, "/dev/urandom") != 0) {
		rng->fd = open(source, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
		if (rng->fd < 0)
			rc = err_sys(err, errno, "%s: source=%s", cfg->option, source);
	}
	if (!rc) {
		rc = loop_watch_timer(env->loop, on_timer, rng, &rng->timer);
		if (rc)
			err_sys(err, -rc, "virtio-rng");
	}
	if (!rc)
		rc = virtio_attach(&rng->vdev, err);
	if (rc) {
		rng_destroy(&rng->vdev.dev);
		return rc;
	}
	*out = &rng->vdev.dev;
	return 0;
}

const struct device_type virtio_rng_type = {
	.name = "virtio-rng",
	.option = "--rng",
	.keys = rng_keys,
	.help = "entropy from the host",
	.create = create,
};
