/* loop: see loop.h. */
#include "vmm/core/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "vmm/core/busypoll.h"
#include "vmm/core/clock.h"
#include "vmm/core/fd_rw.h"

enum watch_kind { WATCH_FD, WATCH_EVENT, WATCH_TIMER };

struct loop_watch {
	struct loop *loop;
	struct loop_watch *next, **link;
	enum watch_kind kind;
	int fd;
	_Atomic uint32_t events; /* of interest; 0: muted */
	bool dead;		 /* unwatched inside a callback; freed after the round */
	bool soon;		 /* an event that is in loop->soon */
	struct loop_watch *next_soon;
	loop_fd_fn fd_fn;
	loop_fn fn;
	void *opaque;
};

struct posted {
	struct posted *next;
	loop_fn fn;
	void *opaque;
};

struct loop {
	int epfd;
	int wake_fd;
	atomic_bool stop;
	bool dispatching;
	struct loop_watch *watches;
	struct loop_watch *dead;
	pthread_mutex_t lock; /* posted list */
	struct posted *first, **last;
	/* the loop's thread only */
	struct loop_poller *pollers; /* armed */
	struct busypoll busy;
	uint64_t waited_at;		      /* when epoll was last asked, while polling */
	struct loop_watch *soon, **soon_last; /* events of loop_event_soon, oldest first */
};

/* The loop that this thread runs. */
static _Thread_local const struct loop *here;

/* Events that one epoll_wait returns: enough for a batch, small on the stack. */
#define LOOP_BATCH 16

static void wake(struct loop *loop)
{
	int saved = errno; /* loop_stop may run in a signal handler */

	/* The write fails only if the counter is full, and then the loop is awake anyway. */
	fd_rw_wake(loop->wake_fd);
	errno = saved;
}

int loop_create(struct loop **out, struct err *err)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	struct epoll_event ev = { .events = EPOLLIN };
	int rc;

	*out = NULL;
	if (!loop)
		return err_sys(err, ENOMEM, "event loop");
	pthread_mutex_init(&loop->lock, NULL);
	loop->last = &loop->first;
	loop->soon_last = &loop->soon;
	busypoll_init(&loop->busy, BUSYPOLL_MAX_NS);
	loop->wake_fd = -1;
	loop->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epfd < 0)
		goto fail;
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0 || epoll_ctl(loop->epfd, EPOLL_CTL_ADD, loop->wake_fd, &ev))
		goto fail;
	rc = fd_rw_check(loop->wake_fd);
	if (rc) {
		err_set(err, -rc,
			"event loop: preadv2 or pwritev2: %s; a container's seccomp filter "
			"has to permit them",
			strerror(-rc));
		goto gone;
	}
	*out = loop;
	return 0;
fail:
	rc = err_sys(err, errno, "event loop");
gone:
	loop_destroy(loop);
	return rc;
}

static void bury(struct loop *loop)
{
	while (loop->dead) {
		struct loop_watch *w = loop->dead;

		loop->dead = w->next;
		free(w);
	}
}

static void drop_posted(struct loop *loop)
{
	while (loop->first) {
		struct posted *p = loop->first;

		loop->first = p->next;
		free(p);
	}
	loop->last = &loop->first;
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	while (loop->watches)
		loop_unwatch(loop->watches);
	bury(loop);
	drop_posted(loop);
	if (loop->epfd >= 0)
		close(loop->epfd);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

static void run_posted(struct loop *loop)
{
	uint64_t count;
	struct posted *p;

	(void)!fd_rw_read(loop->wake_fd, &count, sizeof(count));
	pthread_mutex_lock(&loop->lock);
	p = loop->first;
	loop->first = NULL;
	loop->last = &loop->first;
	pthread_mutex_unlock(&loop->lock);
	while (p) {
		struct posted *next = p->next;

		p->fn(p->opaque);
		free(p);
		p = next;
	}
}

static void dispatch(struct loop_watch *w, uint32_t events)
{
	uint32_t wanted = w->events;
	uint64_t count;

	/* An earlier callback of this round may have muted the watch. See also interest(). */
	events &= wanted ? wanted | EPOLLERR | EPOLLHUP : 0;
	if (w->dead || !events)
		return;
	if (w->kind == WATCH_FD) {
		w->fd_fn(w->opaque, events);
		return;
	}
	if (w->kind == WATCH_EVENT) {
		w->fn(w->opaque);
		return;
	}
	/* A timer: the read clears it. Nothing to read: it was disarmed meanwhile. */
	if (fd_rw_read(w->fd, &count, sizeof(count)) == sizeof(count))
		w->fn(w->opaque);
}

bool loop_is_here(const struct loop *loop)
{
	return here == loop;
}

/* --- busy polling ------------------------------------------------------------ */

bool loop_poll_arm(struct loop *loop, struct loop_poller *poller)
{
	if (poller->armed)
		return true;
	if (!loop->busy.ns)
		return false;
	poller->armed = true;
	poller->next = loop->pollers;
	loop->pollers = poller;
	return true;
}

void loop_poll_disarm(struct loop *loop, struct loop_poller *poller)
{
	struct loop_poller **p = &loop->pollers;

	if (!poller->armed)
		return;
	while (*p != poller)
		p = &(*p)->next;
	*p = poller->next;
	poller->armed = false;
}

/* Call each poller once. A poller may disarm itself, so its successor is read before the call. */
static bool poll_all(struct loop *loop)
{
	struct loop_poller *next;
	bool any = false;

	for (struct loop_poller *p = loop->pollers; p; p = next) {
		next = p->next;
		any |= p->poll(p->opaque);
	}
	return any;
}

/*
 * Returns true if a poller found work (more may come), if one left its turn (an event is to run soon)
 * or *n events are ready, and false if all pollers are disarmed.
 */
static bool spin(struct loop *loop, uint64_t begin, struct epoll_event *ev, int *n)
{
	uint64_t end = begin + loop->busy.ns;

	for (unsigned i = 1; loop->pollers && !atomic_load(&loop->stop); i++) {
		if (poll_all(loop) || loop->soon)
			return true;
		busypoll_relax();
		if (i % 8)
			continue;
		*n = epoll_wait(loop->epfd, ev, LOOP_BATCH, 0);
		if (*n)
			return true;
		if (clock_now_ns() >= end)
			break;
	}
	while (loop->pollers) {
		struct loop_poller *p = loop->pollers;

		loop_poll_disarm(loop, p);
		p->idle(p->opaque);
		/* The poller found work after all: it expects more, or has left its turn. */
		if (p->armed || loop->soon)
			return true;
	}
	return false;
}

/*
 * Wait for events. Poll first if a poller is armed. If an event is to run soon, only look at the
 * others.
 */
static int wait_events(struct loop *loop, struct epoll_event *ev)
{
	uint64_t begin, now;
	bool polled = loop->pollers;
	int n;

	if (loop->soon) {
		poll_all(loop);
		return epoll_wait(loop->epfd, ev, LOOP_BATCH, 0);
	}
	begin = clock_now_ns();
	while (loop->pollers) {
		n = 0;
		if (!spin(loop, begin, ev, &n))
			break;
		busypoll_paid(&loop->busy);
		now = clock_now_ns();
		if (n) {
			loop->waited_at = now;
			return n;
		}
		if (loop->soon || now - loop->waited_at >= LOOP_POLL_TURN_NS ||
		    atomic_load(&loop->stop)) {
			loop->waited_at = now;
			return epoll_wait(loop->epfd, ev, LOOP_BATCH, 0);
		}
		begin = now;
	}
	n = epoll_wait(loop->epfd, ev, LOOP_BATCH, -1);
	loop->waited_at = clock_now_ns();
	busypoll_learn(&loop->busy, loop->waited_at - begin, polled);
	return n;
}

/* Run the events that were there before: one that comes back waits for the next round. */
static void run_soon(struct loop *loop)
{
	struct loop_watch *w = loop->soon, *next;

	loop->soon = NULL;
	loop->soon_last = &loop->soon;
	for (; w; w = next) {
		next = w->next_soon;
		w->soon = false;
		if (!w->dead)
			w->fn(w->opaque);
	}
}

static int run(struct loop *loop)
{
	struct epoll_event ev[LOOP_BATCH];

	while (!atomic_load(&loop->stop)) {
		int n = wait_events(loop, ev);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		loop->dispatching = true;
		for (int i = 0; i < n; i++) {
			if (ev[i].data.ptr)
				dispatch(ev[i].data.ptr, ev[i].events);
			else
				run_posted(loop);
		}
		run_soon(loop);
		loop->dispatching = false;
		bury(loop);
	}
	atomic_store(&loop->stop, false);
	return 0;
}

int loop_run(struct loop *loop)
{
	int rc;

	here = loop;
	rc = run(loop);
	here = NULL;
	return rc;
}

void loop_stop(struct loop *loop)
{
	atomic_store(&loop->stop, true);
	wake(loop);
}

void loop_reset(struct loop *loop)
{
	uint64_t count;

	BUG_ON(loop_is_here(loop));
	drop_posted(loop);
	atomic_store(&loop->stop, false);
	(void)!fd_rw_read(loop->wake_fd, &count, sizeof(count));
}

/*
 * epoll reports a hang-up even if it was not asked for. So a muted watch asks for no event, once:
 * after one hang-up, which dispatch drops, epoll is silent until the next change.
 */
static struct epoll_event interest(struct loop_watch *w, uint32_t events)
{
	w->events = events;
	/* An event's counter is never read: only its edges count. */
	if (events && w->kind == WATCH_EVENT)
		events |= EPOLLET;
	return (struct epoll_event){ .events = events ? events : EPOLLET | EPOLLONESHOT,
				     .data.ptr = w };
}

static struct loop_watch *watch_new(struct loop *loop, enum watch_kind kind, int fd,
				    uint32_t events, void *opaque)
{
	struct loop_watch *w = calloc(1, sizeof(*w));
	struct epoll_event ev;

	if (!w)
		return NULL;
	w->loop = loop;
	w->kind = kind;
	ev = interest(w, events);
	w->fd = fd;
	w->opaque = opaque;
	if (epoll_ctl(loop->epfd, EPOLL_CTL_ADD, fd, &ev)) {
		free(w);
		return NULL;
	}
	w->next = loop->watches;
	w->link = &loop->watches;
	if (w->next)
		w->next->link = &w->next;
	loop->watches = w;
	return w;
}

int loop_watch_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn fn, void *opaque,
		  struct loop_watch **out)
{
	errno = ENOMEM;
	*out = watch_new(loop, WATCH_FD, fd, events, opaque);
	if (!*out)
		return -errno;
	(*out)->fd_fn = fn;
	return 0;
}

/* An event or timer owns its fd. */
static int watch_own(struct loop *loop, enum watch_kind kind, int fd, loop_fn fn, void *opaque,
		     struct loop_watch **out)
{
	int rc;

	*out = NULL;
	if (fd < 0)
		return -errno;
	errno = ENOMEM;
	*out = watch_new(loop, kind, fd, EPOLLIN, opaque);
	if (!*out) {
		rc = -errno;
		close(fd);
		return rc;
	}
	(*out)->fn = fn;
	return 0;
}

int loop_watch_event(struct loop *loop, loop_fn fn, void *opaque, struct loop_watch **out,
		     int *fd_out)
{
	int rc = watch_own(loop, WATCH_EVENT, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), fn, opaque,
			   out);

	if (fd_out)
		*fd_out = rc ? -1 : (*out)->fd;
	return rc;
}

void loop_event_soon(struct loop_watch *event)
{
	struct loop *loop = event->loop;

	if (!loop_is_here(loop)) {
		/* The counter never gets full. */
		fd_rw_wake(event->fd);
		return;
	}
	if (event->soon)
		return;
	event->soon = true;
	event->next_soon = NULL;
	*loop->soon_last = event;
	loop->soon_last = &event->next_soon;
}

int loop_watch_timer(struct loop *loop, loop_fn fn, void *opaque, struct loop_watch **out)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	return watch_own(loop, WATCH_TIMER, fd, fn, opaque, out);
}

void loop_timer_arm(struct loop_watch *watch, uint64_t delay_ns)
{
	struct itimerspec when = { .it_value = { .tv_sec = (time_t)(delay_ns / CLOCK_NS_PER_S),
						 .tv_nsec = (long)(delay_ns % CLOCK_NS_PER_S) } };

	BUG_ON(watch->kind != WATCH_TIMER);
	timerfd_settime(watch->fd, 0, &when, NULL);
}

void loop_watch_events(struct loop_watch *watch, uint32_t events)
{
	struct epoll_event ev = interest(watch, events);

	BUG_ON(epoll_ctl(watch->loop->epfd, EPOLL_CTL_MOD, watch->fd, &ev));
}

static void forget_soon(struct loop *loop, const struct loop_watch *watch)
{
	struct loop_watch **p = &loop->soon;

	while (*p && *p != watch)
		p = &(*p)->next_soon;
	if (!*p)
		return;
	*p = watch->next_soon;
	if (!*p)
		loop->soon_last = p;
}

void loop_unwatch(struct loop_watch *watch)
{
	struct loop *loop;

	if (!watch || watch->dead)
		return;
	loop = watch->loop;
	epoll_ctl(loop->epfd, EPOLL_CTL_DEL, watch->fd, NULL);
	if (watch->kind != WATCH_FD)
		close(watch->fd);
	watch->fd = -1;
	*watch->link = watch->next;
	if (watch->next)
		watch->next->link = watch->link;
	forget_soon(loop, watch);
	watch->dead = true;
	watch->next = loop->dead;
	loop->dead = watch;
	if (!loop->dispatching)
		bury(loop);
}

int loop_post(struct loop *loop, loop_fn fn, void *opaque)
{
	struct posted *p = malloc(sizeof(*p));

	if (!p)
		return -ENOMEM;
	*p = (struct posted){ NULL, fn, opaque };
	pthread_mutex_lock(&loop->lock);
	*loop->last = p;
	loop->last = &p->next;
	pthread_mutex_unlock(&loop->lock);
	wake(loop);
	return 0;
}
