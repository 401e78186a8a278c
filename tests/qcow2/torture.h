/*
 * torture: what the randomised tests of qcow2 share. tests/integration/qcow2 runs them.
 *
 * Sectors say what they are: fill_sector derives all 512 bytes from the sector's number and
 * from the number of the operation that wrote it, so that what is found after a crash can be
 * judged. An operation's number (seq) is never 0.
 */
#ifndef BANTAM_QCOW2_TORTURE_H
#define BANTAM_QCOW2_TORTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/backend/disk/disk.h"
#include "devices/backend/store/store.h"

#define SECTOR 512u
#define MAX_SECTORS 1200u /* of one operation */
#define NOT_OURS UINT64_MAX

struct rng {
	uint64_t state;
};

uint64_t rnd64(struct rng *r);
/* 0 .. n - 1; n > 0. */
uint64_t rnd(struct rng *r, uint64_t n);

/* What the messages begin with: seed, round, configuration. */
extern char context[512];
/* Says it, and where the files are, and exits with status 1. */
void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
/* A shell command in the current folder; its exit status. Output goes to the file "log". */
int sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void must(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* qemu-img check finds no corruption; leaks: they are allowed. Returns their number. */
unsigned long check_image(const char *image, bool leaks);
/* A folder of its own below dir, made the current one; removed by leave_scratch. */
void enter_scratch(const char *dir);
void leave_scratch(void);

void fill_sector(uint8_t *buf, uint64_t sector, uint64_t seq);
/* The number of the operation that wrote it; 0: zeroes; NOT_OURS: neither. */
uint64_t sector_seq(const uint8_t *buf, uint64_t sector);

struct store *must_open(const char *path, enum store_format format, bool readonly);

/* --- what a sector may hold ---------------------------------------------------------------- */

struct op {
	enum disk_op kind;
	bool durable;
	uint64_t seq;
	uint64_t first, n; /* sectors */
};

/*
 * Operations on the same sector never overlap in time. stable: the last one that was complete
 * when a flush began that has ended; it, or anything later, must be found. zeroed: the last that
 * may have left zeroes; a sector that was never written was zeroed by operation 0.
 */
struct ledger {
	uint64_t nsectors; /* of the largest disk */
	uint64_t size[2];  /* sectors: the disk has either; equal but around a resize */
	uint64_t issued;   /* the last seq */
	uint64_t *stable, *zeroed;
	struct op *done; /* not below a flush yet, oldest first */
	uint64_t ndone, room, first_done;
	bool may_tear; /* a process was killed while it wrote, see sector_torn in common.c */
	unsigned torn; /* sectors so found */
};

/* In memory that a child shares. */
void ledger_init(struct ledger *l, uint64_t nsectors);
void ledger_free(struct ledger *l);
void ledger_issue(struct ledger *l, const struct op *op);
void ledger_done(struct ledger *l, const struct op *op);
uint64_t ledger_flush_begin(struct ledger *l);
void ledger_flush_end(struct ledger *l, uint64_t mark);
/* The image as it is now; adopt: what is found becomes what must be found. */
void ledger_verify(struct ledger *l, const char *image, bool adopt);

/* --- operations through the asynchronous adapter --------------------------------------------- */

#define DEPTH 24u

struct driver;

struct slot {
	struct disk_req req; /* first */
	struct driver *driver;
	struct op op;
	struct iovec iov[3];
	uint8_t *buf;
	uint64_t mark;
	bool busy;
};

struct driver {
	struct rng *rng;
	struct loop *loop;
	struct disk *disk;
	uint64_t nsectors;
	unsigned inflight;
	uint64_t *seq;	       /* the last operation */
	uint8_t *mirror;       /* NULL: no comparison */
	struct ledger *ledger; /* NULL: none */
	/* begin and end of an operation or flush, for traces; may be NULL */
	void (*note)(struct driver *d, const struct op *op, bool end, uint64_t mark);
	unsigned max_sectors;
	bool hot;	/* most of it in the first clusters */
	uint8_t *maybe; /* with mirror, per sector: discarded, old data or zeroes */
	struct slot slot[DEPTH];
};

void driver_open(struct driver *d, const char *image, const char *engine, bool direct);
/* n operations, all complete at return. */
void driver_run(struct driver *d, uint64_t n);
void driver_close(struct driver *d);

/* --- the tests ----------------------------------------------------------------------------------- */

int torture_random(uint64_t seed, uint64_t nops, const char *dir);
int torture_kill(uint64_t seed, unsigned rounds, const char *dir);
int torture_power(uint64_t seed, unsigned points, const char *dir);
int torture_probe(const char *image);

#endif
