/*
 * digest: see digest.h.
 *
 * Theory of operation. A job is one digest_start: its thread, its copy of the configuration, and its
 * copy of the memory of sums, which goes back to struct digest at the end. digest.lock protects all
 * that the thread and the owner share; done runs under it, so no done runs after a cancel.
 *
 * The thread of a job that has come to its end sleeps until the job is cancelled. A client that has just
 * booted a VM lists the process's threads, and puts each into a control group; libvirt gives up the VM
 * if one of them has ended meanwhile.
 *
 * A cancelled job is joined, so that nothing of it is left. But a thread may be stuck in a read, of a
 * network file system whose server is gone; after CANCEL_MS the job is abandoned, and its thread frees
 * it whenever it returns, and struct digest too if that is destroyed by then.
 */
#include "vmm/digest/digest.h"

#include <errno.h>
#include <linux/ioprio.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmm/digest/canonical.h"
#include "vmm/digest/sums.h"
#include "vmm/core/thread.h"

#define STACK_BYTES (256u << 10)
#define CANCEL_MS 20

struct job {
	struct digest *digest;
	pthread_t thread;
	json_t *config;
	struct sums sums;
	bool cancelled, ended, abandoned; /* digest.lock protects them */
};

struct digest {
	void (*done)(void *opaque, const char *hex, const struct err *err);
	void *opaque;
	pthread_mutex_t lock;	  /* protects the fields below */
	pthread_cond_t cancelled; /* a job that may sleep */
	struct job *job;	  /* NULL: none runs, and none sleeps */
	struct sums sums;	  /* as of the last job that ended */
	unsigned abandoned;	  /* jobs */
	bool destroyed;
};

static void free_job(struct job *job)
{
	json_decref(job->config);
	free(job);
}

static void free_digest(struct digest *d)
{
	pthread_cond_destroy(&d->cancelled);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

/* Gives back what a job has read, which is worth keeping even if it was cancelled. */
static void keep_sums(struct digest *d, const struct job *job)
{
	d->sums = job->sums;
	atomic_store(&d->sums.stop, false);
}

static int find_sum(void *opaque, const struct definition_file *file,
		    char hex[DEFINITION_HEX_BYTES], struct err *err)
{
	return sums_of(opaque, file, hex, err);
}

static int compute(const json_t *config, struct sums *sums, char hex[DEFINITION_HEX_BYTES],
		   struct err *err)
{
	json_t *definition;
	char *text;
	int rc = definition_make(config, find_sum, sums, &definition, err);

	if (rc)
		return rc;
	rc = canonical_json(definition, &text, err);
	json_decref(definition);
	if (rc)
		return rc;
	sums_of_text(text, hex);
	free(text);
	return 0;
}

static void finish(struct job *job, const char *hex, const struct err *err)
{
	struct digest *d = job->digest;
	bool mine, last;

	pthread_mutex_lock(&d->lock);
	if (!job->cancelled)
		d->done(d->opaque, hex, err);
	while (!job->cancelled)
		pthread_cond_wait(&d->cancelled, &d->lock);
	job->ended = true;
	mine = job->abandoned;
	d->abandoned -= job->abandoned;
	last = d->destroyed && !d->abandoned;
	pthread_mutex_unlock(&d->lock);
	if (mine)
		free_job(job);
	if (last)
		free_digest(d);
}

static void *job_main(void *opaque)
{
	struct job *job = opaque;
	char hex[DEFINITION_HEX_BYTES];
	struct err err = { "" };
	int rc;

	/* The CPU is the matter of sums.h. Where this is refused, the job disturbs a little more. */
	syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
	rc = compute(job->config, &job->sums, hex, &err);
	finish(job, rc ? NULL : hex, &err);
	return NULL;
}

int digest_create(void (*done)(void *opaque, const char *hex, const struct err *err), void *opaque,
		  struct digest **out, struct err *err)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return err_sys(err, ENOMEM, "digest");
	(*out)->done = done;
	(*out)->opaque = opaque;
	pthread_mutex_init(&(*out)->lock, NULL);
	pthread_cond_init(&(*out)->cancelled, NULL);
	return 0;
}

int digest_start(struct digest *d, const json_t *config, struct err *err)
{
	struct job *job;
	int rc;

	digest_cancel(d);
	job = calloc(1, sizeof(*job));
	if (!job)
		return err_sys(err, ENOMEM, "digest");
	job->digest = d;
	job->config = json_deep_copy(config);
	/* The thread's end waits for the lock, until job->thread is set. */
	pthread_mutex_lock(&d->lock);
	job->sums = d->sums;
	rc = job->config ? thread_start(&job->thread, THREAD_WORKER, "digest", STACK_BYTES,
					job_main, job) :
			   -ENOMEM;
	if (!rc)
		d->job = job;
	pthread_mutex_unlock(&d->lock);
	if (rc) {
		free_job(job);
		return err_sys(err, -rc, "digest: cannot start a thread");
	}
	return 0;
}

/* Waits for a cancelled job, but not for long. */
static void join(struct digest *d, struct job *job)
{
	struct timespec until;
	bool joined;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += CANCEL_MS * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	joined = !pthread_clockjoin_np(job->thread, NULL, CLOCK_MONOTONIC, &until);
	pthread_mutex_lock(&d->lock);
	if (!joined && !job->ended) {
		pthread_detach(job->thread);
		job->abandoned = true;
		d->abandoned++;
		job = NULL;
	}
	pthread_mutex_unlock(&d->lock);
	if (!job)
		return;
	if (!joined)
		pthread_join(job->thread, NULL);
	keep_sums(d, job);
	free_job(job);
}

void digest_cancel(struct digest *d)
{
	struct job *job;

	pthread_mutex_lock(&d->lock);
	job = d->job;
	d->job = NULL;
	if (job) {
		job->cancelled = true;
		pthread_cond_broadcast(&d->cancelled);
	}
	pthread_mutex_unlock(&d->lock);
	if (!job)
		return;
	atomic_store(&job->sums.stop, true);
	join(d, job);
}

void digest_destroy(struct digest *d)
{
	bool last;

	if (!d)
		return;
	digest_cancel(d);
	pthread_mutex_lock(&d->lock);
	d->destroyed = true;
	last = !d->abandoned;
	pthread_mutex_unlock(&d->lock);
	if (last)
		free_digest(d);
}

int digest_now(const json_t *config, char hex[DEFINITION_HEX_BYTES], struct err *err)
{
	struct sums *sums = calloc(1, sizeof(*sums));
	int rc = sums ? compute(config, sums, hex, err) : err_sys(err, ENOMEM, "digest");

	free(sums);
	return rc;
}
