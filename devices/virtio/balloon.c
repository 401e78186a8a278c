/*
 * balloon: virtio-balloon (virtio 1.2, section 5.5).
 *
 * Theory of operation. The device drops the pages that the guest puts into the balloon, or reports
 * as free, from the process's address space. When the guest takes them back it finds zeroes; the
 * device need not act. Page numbers come one by one and in any order: the device sorts them, and
 * neighbours become one madvise. A turn (turn.h) ends within a chain, if need be: the chain goes back
 * into its queue, with the progress kept. Statistics: the driver leaves a buffer with the device, which
 * returns it to ask for fresh ones.
 *
 * Threads: the loop serves queues and the timer; a vCPU's thread activates and resets; any thread
 * may call set_target, get and held_bytes. Every field is under the device's lock, and a copy of
 * actual can be read without it.
 */
#include "devices/virtio/balloon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/virtio/core/virtio.h"
#include "vmm/core/bytes.h"
#include "vmm/core/counter.h"
#include "vmm/core/log.h"
#include "vmm/core/turn.h"

#define F_STATS_VQ 1
#define F_DEFLATE_ON_OOM 2
#define F_PAGE_POISON 4
#define F_REPORTING 5

#define INFLATE 0
#define DEFLATE 1
#define NQUEUES 4
#define QUEUE_SIZE 128u
#define PAGE_BYTES 4096u

/* Section 5.5.4, little-endian; before poison_val is a field that the device does not offer. */
#define CONFIG_NUM_PAGES 0
#define CONFIG_ACTUAL 4
#define CONFIG_POISON_VAL 12
#define CONFIG_BYTES 16

/* Page numbers that are sorted together; Linux sends as many in one chain. */
#define BATCH 256u
/*
 * A madvise of one page costs as much as copying some: the processor's tables are flushed for it, on
 * every processor that runs the guest.
 */
#define DISCARD_BYTES 16384u
/* The most that one madvise gives back: a huge page, and none is split for it. */
#define REPORT_BYTES (2u << 20)
/* Linux sends 1 KiB; a far longer request would only keep the loop busy. */
#define MAX_REQUEST_BYTES 16384u
/* One entry of a statistics buffer: tag and value. Linux sends ten. */
#define STAT_BYTES 10u
#define MAX_STATS 64u

/*
 * What the host asks of the guest and what the guest has reported. A snapshot will save exactly
 * this beside virtio_state, whose config has actual and poison_val (5.5.4). The wiring is in struct
 * balloon.
 */
struct balloon_state {
	uint32_t num_pages;  /* the target in pages of 4 KiB, also in config (5.5.4) */
	bool stats_held;     /* the device holds the driver's statistics buffer (5.5.6.3) */
	uint16_t stats_head; /* that buffer's head */
	uint32_t known;	     /* bit n: stat[n] is the guest's last report */
	uint64_t stat[BALLOON_NSTATS]; /* by tag, as the driver counts (5.5.6.3) */
	uint64_t done[NQUEUES];	       /* bytes of each queue's front chain that are served */
};

struct balloon {
	struct virtio_device vdev; /* first */
	struct balloon_state s;
	struct loop_watch *again, *timer;
	struct turn turn;
	unsigned first;	      /* the queue that the next turn serves first */
	uint64_t interval_ns; /* 0: no statistics */
	/* For --stats, as the last driver left it: Linux resets the device when it powers off. */
	uint32_t left_actual, left_known;
	struct counter actual; /* as in config */
};

static struct balloon *balloon_of(struct virtio_device *vdev)
{
	return (struct balloon *)vdev;
}

/* Which queues exist depends on the features negotiated; later queues move up (section 5.5.2). */
static unsigned stats_queue(const struct balloon *b)
{
	return virtio_has(&b->vdev, F_STATS_VQ) ? 2 : NQUEUES;
}

static unsigned reporting_queue(const struct balloon *b)
{
	if (!virtio_has(&b->vdev, F_REPORTING))
		return NQUEUES;
	return virtio_has(&b->vdev, F_STATS_VQ) ? 3 : 2;
}

/* --- pages ----------------------------------------------------------------------------- */

/* A driver sends them in order or the other way round; n is at most BATCH. */
static void sort(uint32_t *pfn, unsigned n)
{
	for (unsigned i = 1; i < n; i++) {
		uint32_t one = pfn[i];
		unsigned at = i;

		for (; at && pfn[at - 1] > one; at--)
			pfn[at] = pfn[at - 1];
		pfn[at] = one;
	}
}

static void charge(struct balloon *b, uint64_t bytes)
{
	turn_charge(&b->turn, bytes > DISCARD_BYTES ? bytes : DISCARD_BYTES);
}

static void discard_pages(struct balloon *b, uint32_t *pfn, unsigned n)
{
	unsigned first = 0;

	sort(pfn, n);
	for (unsigned i = 1; i <= n; i++) {
		uint64_t len;

		if (i < n && pfn[i] - pfn[i - 1] <= 1)
			continue;
		len = (pfn[i - 1] - pfn[first] + 1ull) * PAGE_BYTES;
		/*
		 * A run that crosses the end of its region is ignored as a whole: no driver sends
		 * one.
		 */
		if (!mem_discard(b->vdev.env->mem, gpa((uint64_t)pfn[first] * PAGE_BYTES), len))
			log_put(LOG_WARN, "virtio-balloon: page %#x is not memory", pfn[first]);
		charge(b, len);
		first = i;
	}
}

/* Returns true if the chain is done, else done[INFLATE] says how far. */
static bool inflate(struct balloon *b, const struct chain *chain)
{
	uint64_t *done = &b->s.done[INFLATE];
	uint32_t pfn[BATCH];
	size_t len;

	while ((len = virtq_chain_read(chain, *done, pfn, sizeof(pfn))) >= 4) {
		if (turn_over(&b->turn))
			return false;
		discard_pages(b, pfn, (unsigned)(len / 4));
		*done += len;
	}
	return true;
}

/* Returns true if the chain is done, else done[queue] says how far. */
static bool report(struct balloon *b, unsigned queue, const struct chain *chain)
{
	uint64_t *done = &b->s.done[queue], off = 0;

	/* The guest would find zeroes instead of its poison pattern in these pages. */
	if (virtio_has(&b->vdev, F_PAGE_POISON) && get_le32(b->vdev.s.config + CONFIG_POISON_VAL))
		return true;
	for (unsigned i = 0; i < chain->nwritable; i++) {
		const struct iovec *iov = &chain->iov[chain->nreadable + i];

		while (*done < off + iov->iov_len) {
			uint8_t *at = (uint8_t *)iov->iov_base + (*done - off);
			uint64_t left = off + iov->iov_len - *done;
			uint64_t len = REPORT_BYTES - (uintptr_t)at % REPORT_BYTES;

			if (turn_over(&b->turn))
				return false;
			len = len < left ? len : left;
			mem_discard_host(b->vdev.env->mem, at, len);
			charge(b, len);
			*done += len;
		}
		off += iov->iov_len;
	}
	return true;
}

/* --- statistics ------------------------------------------------------------------------ */

static void read_stats(struct balloon *b, const struct chain *chain)
{
	uint8_t entry[STAT_BYTES];

	b->s.known = 0;
	for (unsigned i = 0; i < MAX_STATS; i++) {
		uint16_t tag;

		if (virtq_chain_read(chain, i * STAT_BYTES, entry, STAT_BYTES) < STAT_BYTES)
			return;
		memcpy(&tag, entry, sizeof(tag));
		if (tag >= BALLOON_NSTATS)
			continue;
		memcpy(&b->s.stat[tag], entry + sizeof(tag), sizeof(b->s.stat[tag]));
		b->s.known |= 1u << tag;
	}
}

static void want_stats(struct balloon *b)
{
	unsigned queue = stats_queue(b);

	if (!b->s.stats_held)
		return;
	b->s.stats_held = false;
	virtq_push(&b->vdev.queue[queue], b->s.stats_head, 0);
	virtio_interrupt(&b->vdev, queue);
}

static void on_timer(void *opaque)
{
	struct balloon *b = opaque;

	virtio_lock(&b->vdev);
	if (b->vdev.active)
		want_stats(b);
	virtio_unlock(&b->vdev);
	loop_timer_arm(b->timer, b->interval_ns);
}

/* --- queues ---------------------------------------------------------------------------- */

static void take_stats(struct balloon *b, unsigned queue, const struct chain *chain)
{
	read_stats(b, chain);
	if (b->s.stats_held) /* two buffers: return the first, which is stale */
		virtq_push(&b->vdev.queue[queue], b->s.stats_head, 0);
	b->s.stats_held = true;
	b->s.stats_head = chain->head;
	charge(b, 0);
}

/* Returns false if the turn is over before the chain is done. */
static bool give_back(struct balloon *b, unsigned queue, const struct chain *chain)
{
	turn_charge(&b->turn, 0);
	if (queue == reporting_queue(b))
		return report(b, queue, chain);
	if (chain->readable_bytes > MAX_REQUEST_BYTES)
		log_put(LOG_WARN, "virtio-balloon: a request has too many pages");
	else if (queue == INFLATE)
		return inflate(b, chain);
	return true;
}

/* Serve one chain. Returns false if there is nothing more to do now. */
static bool serve(struct balloon *b, unsigned queue)
{
	struct virtq *q = &b->vdev.queue[queue];
	struct iovec iov[QUEUE_SIZE];
	struct chain chain;
	int rc = virtq_pop(q, &chain, iov, QUEUE_SIZE);

	if (rc < 0)
		virtio_broken(&b->vdev, q->broken_why);
	if (rc <= 0)
		return false;
	if (queue == stats_queue(b)) {
		take_stats(b, queue, &chain);
		return true;
	}
	if (!give_back(b, queue, &chain)) {
		virtq_unpop(q);
		return false;
	}
	b->s.done[queue] = 0;
	virtq_push(q, chain.head, 0);
	return true;
}

static void run_queue(struct balloon *b, unsigned queue)
{
	while (!turn_over(&b->turn) && serve(b, queue))
		;
	if (!b->vdev.active)
		return;
	virtio_interrupt(&b->vdev, queue);
	if (turn_over(&b->turn))
		turn_leave(&b->turn, b->again);
}

static void balloon_kick(struct virtio_device *vdev, unsigned queue)
{
	struct balloon *b = balloon_of(vdev);

	turn_begin(&b->turn);
	run_queue(b, queue);
}

/* Each turn begins with another queue. */
static void on_again(void *opaque)
{
	struct balloon *b = opaque;

	virtio_lock(&b->vdev);
	turn_resume(&b->turn);
	b->first = (b->first + 1) % NQUEUES;
	for (unsigned i = 0; i < NQUEUES; i++) {
		unsigned queue = (b->first + i) % NQUEUES;

		if (b->vdev.active && b->vdev.queue[queue].s.ready)
			run_queue(b, queue);
	}
	virtio_unlock(&b->vdev);
}

/* --- class ------------------------------------------------------------------------------ */

static int balloon_activate(struct virtio_device *vdev)
{
	return 0;
}

static bool balloon_reset(struct virtio_device *vdev)
{
	struct balloon *b = balloon_of(vdev);

	b->s.stats_held = false;
	memset(b->s.done, 0, sizeof(b->s.done));
	b->left_actual = get_le32(b->vdev.s.config + CONFIG_ACTUAL);
	b->left_known = b->s.known;
	b->s.known = 0;
	put_le32(b->vdev.s.config + CONFIG_ACTUAL, 0);
	counter_set(&b->actual, 0);
	put_le32(b->vdev.s.config + CONFIG_POISON_VAL, 0);
	return true;
}

/* The driver owns actual and poison_val; restore the rest. */
static void balloon_write_config(struct virtio_device *vdev, uint32_t off, uint32_t len)
{
	struct balloon *b = balloon_of(vdev);

	put_le32(b->vdev.s.config + CONFIG_NUM_PAGES, b->s.num_pages);
	put_le32(b->vdev.s.config + CONFIG_ACTUAL + 4, 0);
	counter_set(&b->actual, get_le32(b->vdev.s.config + CONFIG_ACTUAL));
}

static const struct virtio_class balloon_class = {
	.name = "virtio-balloon",
	.device_id = 5,
	.pci_class = 0x00ff00,
	.activate = balloon_activate,
	.kick = balloon_kick,
	.write_config = balloon_write_config,
	.reset = balloon_reset,
};

/* --- for the host ------------------------------------------------------------------------- */

int balloon_set_target(struct device *dev, uint64_t bytes)
{
	struct balloon *b = (struct balloon *)dev;

	if (bytes > b->vdev.env->mem->total_bytes || bytes / PAGE_BYTES > UINT32_MAX)
		return -ERANGE;
	virtio_lock(&b->vdev);
	b->s.num_pages = (uint32_t)(bytes / PAGE_BYTES);
	put_le32(b->vdev.s.config + CONFIG_NUM_PAGES, b->s.num_pages);
	virtio_config_changed(&b->vdev);
	virtio_unlock(&b->vdev);
	return 0;
}

void balloon_get(struct device *dev, struct balloon_info *out)
{
	struct balloon *b = (struct balloon *)dev;

	virtio_lock(&b->vdev);
	out->target_bytes = (uint64_t)b->s.num_pages * PAGE_BYTES;
	out->actual_bytes = (uint64_t)get_le32(b->vdev.s.config + CONFIG_ACTUAL) * PAGE_BYTES;
	out->known = b->s.known;
	memcpy(out->stat, b->s.stat, sizeof(out->stat));
	virtio_unlock(&b->vdev);
}

uint64_t balloon_held_bytes(const struct device *dev)
{
	const struct balloon *b = (const struct balloon *)dev;

	return counter_read(&b->actual) * PAGE_BYTES;
}

/* --- life --------------------------------------------------------------------------------- */

static void balloon_destroy(struct device *dev)
{
	struct balloon *b = (struct balloon *)dev;

	virtio_detach(&b->vdev);
	loop_unwatch(b->timer);
	loop_unwatch(b->again);
	free(b);
}

static void balloon_describe(struct device *dev, char *buf, size_t len)
{
	struct balloon *b = (struct balloon *)dev;
	char at[128];

	virtio_describe(&b->vdev, at, sizeof(at));
	snprintf(buf, len, "%s%starget %llu MiB", at, *at ? ": " : "",
		 (unsigned long long)b->s.num_pages * PAGE_BYTES >> 20);
}

static void balloon_stats(struct device *dev, char *buf, size_t len)
{
	static const uint32_t shown = 1u << BALLOON_FREE_BYTES | 1u << BALLOON_TOTAL_BYTES |
				      1u << BALLOON_AVAILABLE_BYTES;
	struct balloon *b = (struct balloon *)dev;
	struct balloon_info s;
	int n;

	balloon_get(dev, &s);
	if (!b->vdev.started) {
		s.actual_bytes = (uint64_t)b->left_actual * PAGE_BYTES;
		s.known = b->left_known;
	}
	n = snprintf(buf, len, "%llu of %llu MiB given", (unsigned long long)s.actual_bytes >> 20,
		     (unsigned long long)s.target_bytes >> 20);
	if ((s.known & shown) == shown && n > 0 && (size_t)n < len)
		snprintf(buf + n, len - (size_t)n,
			 "; the guest has %llu MiB free, %llu available, %llu in all",
			 (unsigned long long)s.stat[BALLOON_FREE_BYTES] >> 20,
			 (unsigned long long)s.stat[BALLOON_AVAILABLE_BYTES] >> 20,
			 (unsigned long long)s.stat[BALLOON_TOTAL_BYTES] >> 20);
}

static const struct device_ops balloon_ops = {
	.destroy = balloon_destroy,
	.describe = balloon_describe,
	.stats = balloon_stats,
};

enum { K_SIZE, K_OOM, K_REPORTING, K_INTERVAL };

static const struct key balloon_keys[] = {
	[K_SIZE] = { "size", KEY_SIZE, KEY_BARE, .def = "0", .meta = "SIZE",
		     .help = "memory that the guest is asked to give back" },
	[K_OOM] = { "deflate-on-oom", KEY_BOOL, .def = "on",
		    .help = "the guest may take memory back before it runs out" },
	[K_REPORTING] = { "free-page-reporting", KEY_BOOL, .def = "on",
			  .help = "the host gets back memory that the guest does not use" },
	[K_INTERVAL] = { "stats-interval", KEY_NUM, .def = "0", .max = 3600, .meta = "SECONDS",
			 .help = "seconds between two requests for statistics; 0: none" },
	{ NULL },
};

static int start(struct balloon *b, const struct keyvals *cfg, struct err *err)
{
	const struct device_env *env = b->vdev.env;
	uint64_t size = keys_num(cfg, K_SIZE);
	int rc;

	if (size > env->mem->total_bytes || size / PAGE_BYTES > UINT32_MAX)
		return err_set(err, ERANGE, "%s size=%s: the guest has less memory", cfg->option,
			       keys_text(cfg, K_SIZE));
	b->s.num_pages = (uint32_t)(size / PAGE_BYTES);
	put_le32(b->vdev.s.config + CONFIG_NUM_PAGES, b->s.num_pages);
	rc = loop_watch_event(env->loop, on_again, b, &b->again, NULL);
	if (!rc && b->interval_ns)
		rc = loop_watch_timer(env->loop, on_timer, b, &b->timer);
	if (rc)
		return err_sys(err, -rc, "%s", cfg->option);
	if (b->timer)
		loop_timer_arm(b->timer, b->interval_ns);
	return virtio_attach(&b->vdev, err);
}

static int create(const struct device_env *env, const struct keyvals *cfg, struct device **out,
		  struct err *err)
{
	struct balloon *b = calloc(1, sizeof(*b));
	uint64_t features = 1ull << F_PAGE_POISON;
	int rc;

	*out = NULL;
	if (!b)
		return err_sys(err, ENOMEM, "%s", cfg->option);
	b->vdev.dev.type = &virtio_balloon_type;
	b->vdev.dev.ops = &balloon_ops;
	strcpy(b->vdev.dev.id, "balloon");
	b->interval_ns = keys_num(cfg, K_INTERVAL) * 1000000000u;
	features |= (uint64_t) !!b->interval_ns << F_STATS_VQ;
	features |= keys_num(cfg, K_OOM) << F_DEFLATE_ON_OOM;
	features |= keys_num(cfg, K_REPORTING) << F_REPORTING;
	virtio_init(&b->vdev, &balloon_class, env, NQUEUES, QUEUE_SIZE, features, CONFIG_BYTES);
	rc = start(b, cfg, err);
	if (rc) {
		balloon_destroy(&b->vdev.dev);
		return rc;
	}
	*out = &b->vdev.dev;
	return 0;
}

const struct device_type virtio_balloon_type = {
	.name = "virtio-balloon",
	.option = "--balloon",
	.keys = balloon_keys,
	.help = "memory that the guest gives back",
	.create = create,
};
