/* disk/workers: see disk/workers.h. */
#include "devices/backend/disk/workers.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/core/fd_rw.h"
#include "vmm/core/thread.h"
#include "vmm/errand/errand.h"

#define MAX_THREADS 8u
/* Of those that start before there is work: they take memory whether they are needed or not. */
#define FILL_THREADS 4u
/* For a chain of 64 backing files, each a few shallow calls; only used pages take memory. */
#define STACK_BYTES (512u * 1024u)

struct work_list {
	struct disk_work *first, **last;
};

struct disk_workers {
	struct disk_workers_config cfg;
	struct loop_watch *watch;
	int event_fd;
	pthread_t thread[MAX_THREADS];
	unsigned nthreads, most; /* that run, that may */
	/* under lock */
	pthread_mutex_t lock;
	pthread_cond_t more, some; /* todo, finished grew */
	struct work_list todo, finished;
	unsigned ntodo, idle;
	bool stop;
};

static void init(struct work_list *l)
{
	l->first = NULL;
	l->last = &l->first;
}

static void add(struct work_list *l, struct disk_work *work)
{
	work->next = NULL;
	*l->last = work;
	l->last = &work->next;
}

static struct disk_work *take(struct work_list *l)
{
	struct disk_work *work = l->first;

	if (work) {
		l->first = work->next;
		if (!l->first)
			l->last = &l->first;
	}
	return work;
}

static void *thread_main(void *opaque)
{
	struct disk_workers *w = opaque;

	thread_confine();
	pthread_mutex_lock(&w->lock);
	for (;;) {
		struct disk_work *work = take(&w->todo);
		bool first;

		if (!work && w->stop)
			break;
		if (!work) {
			w->idle++;
			pthread_cond_wait(&w->more, &w->lock);
			w->idle--;
			continue;
		}
		w->ntodo--;
		pthread_mutex_unlock(&w->lock);
		work->result = w->cfg.run(w->cfg.opaque, work);
		pthread_mutex_lock(&w->lock);
		first = !w->finished.first;
		add(&w->finished, work);
		pthread_cond_signal(&w->some);
		/* One wake-up for all that finish before the loop looks. */
		if (first)
			fd_rw_wake(w->event_fd);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

int disk_workers_create(const struct disk_workers_config *cfg, struct disk_workers **out,
			struct err *err)
{
	struct disk_workers *w = calloc(1, sizeof(*w));
	int rc;

	*out = NULL;
	if (!w)
		return err_sys(err, ENOMEM, "disk threads");
	w->cfg = *cfg;
	w->most = MAX_THREADS;
	init(&w->todo);
	init(&w->finished);
	rc = loop_watch_event(cfg->loop, cfg->wake, cfg->opaque, &w->watch, &w->event_fd);
	if (rc) {
		free(w);
		return err_sys(err, -rc, "disk threads");
	}
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->more, NULL);
	pthread_cond_init(&w->some, NULL);
	*out = w;
	return 0;
}

static void start_thread(struct disk_workers *w)
{
	char name[THREAD_NAME_BYTES];

	thread_name_of(w->cfg.id, "_worker", name);
	if (!thread_start(&w->thread[w->nthreads], THREAD_WORKER, name, STACK_BYTES, thread_main,
			  w))
		w->nthreads++;
}

void disk_workers_fill(struct disk_workers *w)
{
	while (w->nthreads < FILL_THREADS) {
		unsigned before = w->nthreads;

		start_thread(w);
		if (w->nthreads == before)
			break;
	}
	w->most = w->nthreads;
}

struct here {
	struct disk_workers *w;
	struct disk_work *work;
};

static void run_here(void *opaque)
{
	const struct here *here = opaque;

	here->work->result = here->w->cfg.run(here->w->cfg.opaque, here->work);
}

void disk_workers_give(struct disk_workers *w, struct disk_work *work)
{
	bool start;

	pthread_mutex_lock(&w->lock);
	add(&w->todo, work);
	start = ++w->ntodo > w->idle && w->nthreads < w->most;
	pthread_cond_signal(&w->more);
	pthread_mutex_unlock(&w->lock);
	if (start)
		start_thread(w);
	if (w->nthreads)
		return;
	/* No thread could be started: the work is an errand, which is slow, but correct. */
	take(&w->todo);
	w->ntodo--;
	errand_run(run_here, &(struct here){ w, work });
	add(&w->finished, work);
	fd_rw_wake(w->event_fd);
}

struct disk_work *disk_workers_take(struct disk_workers *w, bool wait)
{
	struct disk_work *all;

	pthread_mutex_lock(&w->lock);
	while (wait && !w->finished.first)
		pthread_cond_wait(&w->some, &w->lock);
	all = w->finished.first;
	init(&w->finished);
	pthread_mutex_unlock(&w->lock);
	return all;
}

void disk_workers_destroy(struct disk_workers *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_broadcast(&w->more);
	pthread_mutex_unlock(&w->lock);
	for (unsigned i = 0; i < w->nthreads; i++)
		pthread_join(w->thread[i], NULL);
	loop_unwatch(w->watch);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->more);
	pthread_cond_destroy(&w->some);
	free(w);
}
