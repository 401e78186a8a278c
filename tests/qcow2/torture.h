/*
 * torture: common code of the randomised tests of qcow2. tests/integration/qcow2 runs them.
 *
 * Each sector identifies itself: fill_sector derives all 512 bytes from the sector's number and
 * from the number of the operation that wrote it, so the tests can check any content after
 * a crash. An operation's number (seq) is never 0.
 */
#ifndef BANTAM_QCOW2_TORTURE_H
#define BANTAM_QCOW2_TORTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/backend/disk/disk.h"
#include "devices/backend/store/store.h"

#define SECTOR 512u
#define MAX_SECTORS 1200u /* per operation */
#define NOT_OURS UINT64_MAX

struct rng {
	uint64_t state;
};

uint64_t rnd64(struct rng *r);
/* Returns a random number from 0 to n - 1; n > 0. */
uint64_t rnd(struct rng *r, uint64_t n);

/* The beginning of each message: seed, round, configuration. */
extern char context[512];
/* Prints the message and the place of the files, and exits with status 1. */
void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
/* Runs a shell command in the current folder; output goes to the file "log". Returns its status. */
int sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void must(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* qemu-img check must find no corruption, and no leaks unless leaks. Returns the leaks' number. */
unsigned long check_image(const char *image, bool leaks);
/* Makes a new folder below dir and changes into it. leave_scratch removes it. */
void enter_scratch(const char *dir);
void leave_scratch(void);

void fill_sector(uint8_t *buf, uint64_t sector, uint64_t seq);
/* Returns the number of the operation that wrote the sector; 0: zeroes; NOT_OURS: neither. */
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
 * Operations on the same sector never overlap in time. stable: the last operation that completed
 * before the begin of a flush that has ended; the sector must hold its data or later data. zeroed:
 * the last operation that may have left zeroes; operation 0 zeroed every unwritten sector.
 */
struct ledger {
	uint64_t nsectors; /* the largest size of the disk */
	uint64_t size[2]; /* sectors: the disk has one of these; they differ only during a resize */
	uint64_t issued;  /* the last seq */
	uint64_t *stable, *zeroed;
	struct op *done; /* complete but not flushed, oldest first */
	uint64_t ndone, room, first_done;
	bool may_tear; /* a process was killed while it wrote, see sector_torn in common.c */
	unsigned torn; /* number of torn sectors found */
};

/* Allocates in memory that a child shares. */
void ledger_init(struct ledger *l, uint64_t nsectors);
void ledger_free(struct ledger *l);
void ledger_issue(struct ledger *l, const struct op *op);
void ledger_done(struct ledger *l, const struct op *op);
uint64_t ledger_flush_begin(struct ledger *l);
void ledger_flush_end(struct ledger *l, uint64_t mark);
/* Checks the image. With adopt, its content becomes the expected content. */
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
	uint64_t *seq;	       /* number of the last operation */
	uint8_t *mirror;       /* NULL: no comparison */
	struct ledger *ledger; /* NULL: none */
	/* called at the begin and end of an operation or flush, for traces; may be NULL */
	void (*note)(struct driver *d, const struct op *op, bool end, uint64_t mark);
	unsigned max_sectors;
	bool hot;	/* most operations use the first clusters */
	uint8_t *maybe; /* with mirror, per sector: discarded, so old data or zeroes */
	struct slot slot[DEPTH];
};

void driver_open(struct driver *d, const char *image, enum disk_engine engine, bool direct);
/* Runs n operations. Returns when all are complete. */
void driver_run(struct driver *d, uint64_t n);
void driver_close(struct driver *d);

/* --- the tests ----------------------------------------------------------------------------------- */

int torture_random(uint64_t seed, uint64_t nops, const char *dir);
int torture_kill(uint64_t seed, unsigned rounds, const char *dir);
int torture_power(uint64_t seed, unsigned points, const char *dir);
int torture_probe(const char *image);

#endif
