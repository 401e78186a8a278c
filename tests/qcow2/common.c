/* common: see torture.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/qcow2/torture.h"

char context[512];
static char scratch[256];

uint64_t rnd64(struct rng *r)
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

uint64_t rnd(struct rng *r, uint64_t n)
{
	return rnd64(r) % n;
}

void fail(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "FAILED: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n  %s\n  files: %s\n", context, scratch);
	_exit(1);
}

int sh(const char *fmt, ...)
{
	char cmd[2048] = "( ";
	va_list ap;
	int n, status;

	va_start(ap, fmt);
	n = vsnprintf(cmd + 2, sizeof(cmd) - 2, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n > sizeof(cmd) - 32)
		fail("a command is too long");
	strcat(cmd, " ) >log 2>&1");
	status = system(cmd);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void show_log(void)
{
	if (system("head -8 log >&2; tail -4 log >&2"))
		fprintf(stderr, "no log\n");
}

void must(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;
	int rc;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	rc = sh("%s", cmd);
	if (rc) {
		show_log();
		fail("exit status %d: %s", rc, cmd);
	}
}

unsigned long check_image(const char *image, bool leaks)
{
	unsigned long n = 0;
	char line[256];
	FILE *log;
	int rc = sh("qemu-img check -f qcow2 %s", image);

	if (rc && !(rc == 3 && leaks)) {
		show_log();
		fail("qemu-img check %s: exit status %d", image, rc);
	}
	if (!rc)
		return 0;
	log = fopen("log", "r");
	while (log && fgets(line, sizeof(line), log))
		if (strstr(line, "leaked clusters were found"))
			n = strtoul(line, NULL, 10);
	if (log)
		fclose(log);
	return n;
}

void enter_scratch(const char *dir)
{
	snprintf(scratch, sizeof(scratch), "%s/bantam-qcow2-XXXXXX", dir);
	if (!mkdtemp(scratch) || chdir(scratch))
		fail("%s: %s", scratch, strerror(errno));
}

void leave_scratch(void)
{
	if (chdir("/"))
		fail("chdir");
	must("rm -rf %s", scratch);
}

void fill_sector(uint8_t *buf, uint64_t sector, uint64_t seq)
{
	struct rng r = { sector * 0x9e3779b97f4a7c15ull ^ seq };
	uint64_t *w = (uint64_t *)buf;

	w[0] = seq;
	w[1] = sector;
	/* Every second sector is compressible. */
	for (unsigned i = 2; i < SECTOR / 8; i++)
		w[i] = seq & 1 ? rnd64(&r) : seq ^ sector;
}

uint64_t sector_seq(const uint8_t *buf, uint64_t sector)
{
	static const uint8_t zeroes[SECTOR];
	uint64_t want[SECTOR / 8], seq;

	if (!memcmp(buf, zeroes, SECTOR))
		return 0;
	memcpy(&seq, buf, 8);
	fill_sector((uint8_t *)want, sector, seq);
	return seq && !memcmp(buf, want, SECTOR) ? seq : NOT_OURS;
}

struct store *must_open(const char *path, enum store_format format, bool readonly)
{
	struct store_options options = { .path = path, .format = format, .readonly = readonly };
	struct err err = { "" };
	struct store *s;

	if (store_open(&options, &s, &err))
		fail("open: %s", err.text);
	return s;
}

/* --- ledger ---------------------------------------------------------------------------------- */

static void *shared(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		fail("no memory");
	return p;
}

void ledger_init(struct ledger *l, uint64_t nsectors)
{
	memset(l, 0, sizeof(*l));
	l->nsectors = l->size[0] = l->size[1] = nsectors;
	l->stable = shared(nsectors * 8);
	l->zeroed = shared(nsectors * 8);
}

void ledger_free(struct ledger *l)
{
	munmap(l->stable, l->nsectors * 8);
	munmap(l->zeroed, l->nsectors * 8);
	free(l->done);
	memset(l, 0, sizeof(*l));
}

void ledger_issue(struct ledger *l, const struct op *op)
{
	if (op->seq > l->issued)
		l->issued = op->seq;
	if (op->kind == DISK_WRITE_ZEROES || op->kind == DISK_DISCARD)
		for (uint64_t i = op->first; i < op->first + op->n; i++)
			l->zeroed[i] = op->seq;
}

static void settle(struct ledger *l, const struct op *op)
{
	/* A discarded sector may still hold the old data. */
	if (op->kind != DISK_WRITE && op->kind != DISK_WRITE_ZEROES)
		return;
	for (uint64_t i = op->first; i < op->first + op->n; i++)
		if (l->stable[i] < op->seq)
			l->stable[i] = op->seq;
}

void ledger_done(struct ledger *l, const struct op *op)
{
	if (op->durable && op->kind == DISK_WRITE) {
		settle(l, op);
		return;
	}
	if (l->ndone == l->room) {
		l->room = l->room ? l->room * 2 : 256;
		l->done = realloc(l->done, l->room * sizeof(*l->done));
		if (!l->done)
			fail("no memory");
	}
	l->done[l->ndone++] = *op;
}

uint64_t ledger_flush_begin(struct ledger *l)
{
	return l->ndone;
}

void ledger_flush_end(struct ledger *l, uint64_t mark)
{
	for (; l->first_done < mark; l->first_done++)
		settle(l, &l->done[l->first_done]);
}

/*
 * Returns true if a killed write tore the sector. A write to the page cache that SIGKILL cuts short
 * ends where a fault on its source stopped the copy, which may be inside a sector (seen once in
 * some 10,000 kills, on tmpfs): the beginning is the new operation's or zeroes, the rest is old.
 */
static bool sector_torn(const uint8_t *buf, uint64_t sector, uint64_t stable)
{
	uint8_t new[SECTOR] = { 0 }, old[SECTOR] = { 0 };
	uint64_t seq;
	unsigned at = 0;

	memcpy(&seq, buf, 8);
	if (seq)
		fill_sector(new, sector, seq);
	if (stable)
		fill_sector(old, sector, stable);
	while (at < SECTOR && buf[at] == new[at])
		at++;
	return at && !memcmp(buf + at, old + at, SECTOR - at);
}

void ledger_verify(struct ledger *l, const char *image, bool adopt)
{
	struct store *s = must_open(image, STORE_QCOW2, true);
	enum { CHUNK = 512 };
	uint64_t size = s->size_bytes / SECTOR;
	uint8_t *buf = malloc(CHUNK * SECTOR);

	if (size != l->size[0] && size != l->size[1])
		fail("%s has %llu bytes", image, (unsigned long long)s->size_bytes);
	for (uint64_t at = 0; at < size; at += CHUNK) {
		uint64_t n = size - at < CHUNK ? size - at : CHUNK;
		int rc = store_read(s, buf, at * SECTOR, n * SECTOR);

		if (rc)
			fail("%s: read at sector %llu: %s", image, (unsigned long long)at,
			     strerror(-rc));
		for (uint64_t i = at; i < at + n; i++) {
			uint64_t seq = sector_seq(buf + (i - at) * SECTOR, i);
			bool good = seq ? seq != NOT_OURS && seq >= l->stable[i] :
					  l->zeroed[i] >= l->stable[i];

			if (!good && l->may_tear && seq == NOT_OURS &&
			    sector_torn(buf + (i - at) * SECTOR, i, l->stable[i])) {
				l->torn++;
				continue;
			}
			if (!good)
				fail("%s: sector %llu holds %s%llu; the flushed operation is %llu, "
				     "the last zeroing %llu, the last of all %llu",
				     image, (unsigned long long)i,
				     seq == NOT_OURS ? "garbage " : "", (unsigned long long)seq,
				     (unsigned long long)l->stable[i],
				     (unsigned long long)l->zeroed[i],
				     (unsigned long long)l->issued);
			if (!adopt)
				continue;
			l->stable[i] = seq;
			l->zeroed[i] = 0;
		}
	}
	if (adopt)
		l->ndone = l->first_done = 0;
	free(buf);
	store_close(s);
}
