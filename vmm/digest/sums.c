/* sums: see sums.h. */
#include "vmm/digest/sums.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "devices/backend/store/file_lock.h"
#include "devices/backend/store/sum.h"
#include "vmm/core/clock.h"

#define STEP_BYTES (256u << 10)

static void to_hex(const uint8_t sum[SHA256_DIGEST_SIZE], char hex[DEFINITION_HEX_BYTES])
{
	for (unsigned i = 0; i < SHA256_DIGEST_SIZE; i++)
		sprintf(hex + (size_t)2 * i, "%02x", sum[i]);
}

void sums_of_text(const char *text, char hex[DEFINITION_HEX_BYTES])
{
	uint8_t sum[SHA256_DIGEST_SIZE];
	struct sha256_ctx ctx;

	sha256_init(&ctx);
	sha256_update(&ctx, strlen(text), (const uint8_t *)text);
	sha256_digest(&ctx, sizeof(sum), sum);
	to_hex(sum, hex);
}

/* --- the memory ---------------------------------------------------------------------- */

/* Adds a file's properties to a key. Returns false if they do not show all changes. */
static bool add_file(struct sha256_ctx *key, int fd)
{
	struct stat st;
	uint64_t part[7];

	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		return false;
	part[0] = st.st_dev;
	part[1] = st.st_ino;
	part[2] = (uint64_t)st.st_size;
	part[3] = (uint64_t)st.st_mtim.tv_sec;
	part[4] = (uint64_t)st.st_mtim.tv_nsec;
	part[5] = (uint64_t)st.st_ctim.tv_sec;
	part[6] = (uint64_t)st.st_ctim.tv_nsec;
	sha256_update(key, sizeof(part), (const uint8_t *)part);
	return true;
}

static bool key_of_store(const struct store *s, uint8_t key[32])
{
	struct sha256_ctx ctx;

	sha256_init(&ctx);
	/* The same bytes are another disk in another format. */
	sha256_update(&ctx, 1, (const uint8_t[]){ (uint8_t)s->ops->format });
	for (; s; s = s->backing)
		if (!s->image || !add_file(&ctx, s->image->fd))
			return false;
	sha256_digest(&ctx, SHA256_DIGEST_SIZE, key);
	return true;
}

static bool key_of_file(int fd, uint8_t key[32])
{
	struct sha256_ctx ctx;

	sha256_init(&ctx);
	if (!add_file(&ctx, fd))
		return false;
	sha256_digest(&ctx, SHA256_DIGEST_SIZE, key);
	return true;
}

static bool recall(const struct sums *sums, const uint8_t key[32], uint8_t sum[32])
{
	for (unsigned i = 0; i < sums->n; i++) {
		if (memcmp(sums->entry[i].key, key, 32) != 0)
			continue;
		memcpy(sum, sums->entry[i].sum, 32);
		return true;
	}
	return false;
}

static void keep(struct sums *sums, const uint8_t key[32], const uint8_t sum[32])
{
	struct sums_entry *e = &sums->entry[sums->next];

	memcpy(e->key, key, 32);
	memcpy(e->sum, sum, 32);
	sums->next = (sums->next + 1) % SUMS_KEPT;
	if (sums->n < SUMS_KEPT)
		sums->n++;
}

/* --- giving way ------------------------------------------------------------------------ */

#define SLEEPS 9u /* times the length of the last step */
#define SLEEP_MAX_NS (50 * CLOCK_NS_PER_S / 1000)
#define NAP_NS (2 * CLOCK_NS_PER_S / 1000)

static uint64_t cpu_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * CLOCK_NS_PER_S + (uint64_t)t.tv_nsec;
}

/* How often the kernel has given this thread's CPU to another one. */
static long switches_now(void)
{
	struct rusage u;

	return getrusage(RUSAGE_THREAD, &u) ? 0 : u.ru_nivcsw;
}

/* Before each step of reading: sleeps if others want the CPU. 0, or -ECANCELED. */
static int step(void *opaque, uint64_t at)
{
	struct sums *sums = opaque;
	uint64_t now = cpu_now_ns(), took = now > sums->cpu_ns ? now - sums->cpu_ns : 0;
	uint64_t left = switches_now() != sums->switches ? SLEEPS * took : 0;

	if (left > SLEEP_MAX_NS)
		left = SLEEP_MAX_NS;
	while (left && !atomic_load(&sums->stop)) {
		uint64_t nap = left < NAP_NS ? left : NAP_NS;

		nanosleep(&(struct timespec){ .tv_nsec = (long)nap }, NULL);
		left -= nap;
	}
	sums->switches = switches_now();
	sums->cpu_ns = cpu_now_ns();
	return atomic_load(&sums->stop) ? -ECANCELED : 0;
}

/* --- files and disks ----------------------------------------------------------------- */

static int read_file(struct sums *sums, int fd, uint8_t sum[32])
{
	uint8_t *buf = malloc(STEP_BYTES);
	struct sha256_ctx ctx;
	ssize_t n = 1;
	int rc = buf ? 0 : -ENOMEM;

	sha256_init(&ctx);
	while (!rc && n) {
		rc = step(sums, 0);
		n = rc ? 0 : read(fd, buf, STEP_BYTES);
		if (n < 0 && errno != EINTR)
			rc = -errno;
		else if (n > 0)
			sha256_update(&ctx, (size_t)n, buf);
		sums->read_bytes += n > 0 ? (uint64_t)n : 0;
	}
	free(buf);
	sha256_digest(&ctx, SHA256_DIGEST_SIZE, sum);
	return rc;
}

static int changed(const char *path, struct err *err)
{
	return err_set(err, EBUSY, "digest: %s changed while it was read", path);
}

static int file_sum(struct sums *sums, const char *path, uint8_t sum[32], struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), rc = 0;
	uint8_t before[32], after[32];

	if (fd < 0)
		return err_sys(err, errno, "digest: %s", path);
	if (!key_of_file(fd, before)) {
		rc = err_set(err, EINVAL, "digest: %s is not a regular file", path);
	} else if (!recall(sums, before, sum)) {
		rc = read_file(sums, fd, sum);
		if (rc)
			rc = err_sys(err, -rc, "digest: %s", path);
		else if (!key_of_file(fd, after) || memcmp(before, after, 32) != 0)
			rc = changed(path, err);
		else
			keep(sums, before, sum);
	}
	close(fd);
	return rc;
}

static int read_disk(struct sums *sums, struct store *s, const char *path, uint8_t sum[32],
		     struct err *err)
{
	uint8_t before[32], after[32];
	bool known = key_of_store(s, before);
	uint64_t at;
	int rc;

	if (known && recall(sums, before, sum))
		return 0;
	rc = store_sum(s, step, sums, sum, &at);
	sums->read_bytes += at;
	if (rc)
		return err_sys(err, -rc, "digest: %s: cannot read at %" PRIu64, path, at);
	if (!known)
		return 0;
	if (!key_of_store(s, after) || memcmp(before, after, 32) != 0)
		return changed(path, err);
	keep(sums, before, sum);
	return 0;
}

static int disk_sum(struct sums *sums, const struct definition_file *file, uint8_t sum[32],
		    struct err *err)
{
	struct store_options options = { .path = file->path, .readonly = true, .dry_run = true };
	struct store *s = NULL;
	int rc = 0;

	if (file->format)
		options.format = !strcmp(file->format, "Qcow2") ? STORE_QCOW2 : STORE_RAW;
	else
		rc = store_choose_format(&options, err);
	if (!rc)
		rc = store_open(&options, &s, err);
	/*
	 * Until the VM boots, other processes may write to its disks: a client may create the VM
	 * first and its disks then. read_disk sees that a file has changed.
	 */
	for (const struct store *one = s; one; one = one->backing)
		if (one->image)
			store_file_unlock(one->image->fd);
	if (!rc)
		rc = read_disk(sums, s, file->path, sum, err);
	store_close(s);
	return rc;
}

int sums_of(struct sums *sums, const struct definition_file *file, char hex[DEFINITION_HEX_BYTES],
	    struct err *err)
{
	uint8_t sum[32];
	int rc = file->disk ? disk_sum(sums, file, sum, err) : file_sum(sums, file->path, sum, err);

	if (!rc)
		to_hex(sum, hex);
	return rc;
}
