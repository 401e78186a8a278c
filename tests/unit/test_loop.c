/* loop: fds, events, timers, posts, and changes of them inside callbacks. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/fake_env.h"
#include "vmm/core/clock.h"
#include "vmm/core/loop.h"

#define MS 1000000ull

static struct loop *loop;
static struct loop_watch *deadline;

/* Ends a test that waits too long. */
static void on_deadline(void *opaque)
{
	cr_expect(false, "the loop was stopped by the deadline");
	loop_stop(loop);
}

static void setup(void)
{
	struct err err;

	cr_assert_eq(loop_create(&loop, &err), 0, "%s", err.text);
	cr_assert_eq(loop_watch_timer(loop, on_deadline, NULL, &deadline), 0);
	loop_timer_arm(deadline, 10000 * MS);
}

static void teardown(void)
{
	loop_destroy(loop);
}

TestSuite(loop, .init = setup, .fini = teardown, .timeout = 30);

static void stop(void *opaque)
{
	loop_stop(loop);
}

/* Runs all callbacks that are ready now or within ns. */
static void settle(uint64_t ns)
{
	struct loop_watch *timer;

	cr_assert_eq(loop_watch_timer(loop, stop, NULL, &timer), 0);
	loop_timer_arm(timer, ns);
	cr_assert_eq(loop_run(loop), 0);
	loop_unwatch(timer);
}

struct seen {
	unsigned calls;
	uint32_t events;
	int fd;
	struct loop_watch *watch, *other;
};

static void count(void *opaque)
{
	((struct seen *)opaque)->calls++;
}

static void count_fd(void *opaque, uint32_t events)
{
	struct seen *s = opaque;

	s->calls++;
	s->events = events;
}

static void read_and_stop(void *opaque, uint32_t events)
{
	struct seen *s = opaque;
	char c;

	count_fd(opaque, events);
	cr_expect_eq(read(s->fd, &c, 1), 1);
	loop_stop(loop);
}

Test(loop, destroy_accepts_null)
{
	loop_destroy(NULL);
	loop_unwatch(NULL);
}

Test(loop, fd_becomes_readable)
{
	struct seen s = { 0 };
	int p[2];

	cr_assert_eq(pipe(p), 0);
	s.fd = p[0];
	cr_assert_eq(loop_watch_fd(loop, p[0], EPOLLIN, read_and_stop, &s, &s.watch), 0);
	cr_assert_eq(write(p[1], "x", 1), 1);
	cr_assert_eq(loop_run(loop), 0);
	cr_expect_eq(s.calls, 1);
	cr_expect_eq(s.events, EPOLLIN);
	loop_unwatch(s.watch);
	/* The caller's fd is still open. */
	cr_expect_eq(write(p[1], "x", 1), 1);
	close(p[0]);
	close(p[1]);
}

Test(loop, watch_refuses_what_epoll_refuses)
{
	struct loop_watch *w = (void *)1;
	int fd = open("/etc/passwd", O_RDONLY);

	cr_expect_eq(loop_watch_fd(loop, fd, EPOLLIN, count_fd, NULL, &w), -EPERM);
	cr_expect_null(w);
	cr_expect_eq(loop_watch_fd(loop, -1, EPOLLIN, count_fd, NULL, &w), -EBADF);
	cr_expect_null(w);
	close(fd);
}

static void unmute(void *opaque)
{
	loop_watch_events(((struct seen *)opaque)->watch, EPOLLIN);
}

static void hear_and_mute(void *opaque, uint32_t events)
{
	struct seen *s = opaque;

	count_fd(opaque, events);
	loop_watch_events(s->watch, 0);
}

static struct timespec cpu_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return ts;
}

/* The other end hangs up while the watch is muted, or before the watch exists. */
Test(loop, a_muted_watch_hears_no_hang_up)
{
	struct seen s = { 0 };
	struct loop_watch *later;
	int sv[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	cr_assert_eq(loop_watch_fd(loop, sv[0], EPOLLIN, hear_and_mute, &s, &s.watch), 0);
	loop_watch_events(s.watch, 0);
	close(sv[1]);
	settle(20 * MS);
	cr_expect_eq(s.calls, 0, "a muted watch heard 0x%x", s.events);
	loop_unwatch(s.watch);
	loop_destroy(loop);

	/* Made muted on a dead peer: unmuted, it reports the hang-up, and mutes itself again. */
	setup();
	cr_assert_eq(loop_watch_fd(loop, sv[0], 0, hear_and_mute, &s, &s.watch), 0);
	cr_assert_eq(loop_watch_timer(loop, unmute, &s, &later), 0);
	loop_timer_arm(later, 10 * MS);
	struct timespec before = cpu_now();
	settle(60 * MS);
	struct timespec after = cpu_now();

	cr_expect_eq(s.calls, 1);
	cr_expect(s.events & EPOLLIN);
	cr_expect_lt((after.tv_sec - before.tv_sec) * 1000 +
			     (after.tv_nsec - before.tv_nsec) / 1000000,
		     25, "the loop was busy");
	close(sv[0]);
}

static void mute_other(void *opaque, uint32_t events)
{
	struct seen *s = opaque;

	count_fd(opaque, events);
	loop_watch_events(s->other, 0);
	loop_watch_events(s->watch, 0);
}

/* Both watches are ready in one batch; the first to run mutes or removes the other. */
Test(loop, muting_takes_effect_within_the_batch)
{
	struct seen s[2] = { { 0 } };
	int p[2];

	cr_assert_eq(pipe(p), 0);
	cr_assert_eq(write(p[1], "x", 1), 1);
	cr_assert_eq(loop_watch_fd(loop, p[0], EPOLLIN, mute_other, &s[0], &s[0].watch), 0);
	cr_assert_eq(loop_watch_fd(loop, p[1], EPOLLOUT, mute_other, &s[1], &s[1].watch), 0);
	s[0].other = s[1].watch;
	s[1].other = s[0].watch;
	settle(10 * MS);
	cr_expect_eq(s[0].calls + s[1].calls, 1);
	close(p[0]);
	close(p[1]);
}

static void unwatch_both(void *opaque, uint32_t events)
{
	struct seen *s = opaque;

	count_fd(opaque, events);
	loop_unwatch(s->other);
	loop_unwatch(s->watch);
	loop_unwatch(s->watch); /* a second time, in the same round */
}

Test(loop, unwatch_inside_a_callback)
{
	struct seen s[2] = { { 0 } };
	int p[2];

	cr_assert_eq(pipe(p), 0);
	cr_assert_eq(write(p[1], "x", 1), 1);
	cr_assert_eq(loop_watch_fd(loop, p[0], EPOLLIN, unwatch_both, &s[0], &s[0].watch), 0);
	cr_assert_eq(loop_watch_fd(loop, p[1], EPOLLOUT, unwatch_both, &s[1], &s[1].watch), 0);
	s[0].other = s[1].watch;
	s[1].other = s[0].watch;
	settle(10 * MS);
	cr_expect_eq(s[0].calls + s[1].calls, 1);
	close(p[0]);
	close(p[1]);
}

static void unwatch_event(void *opaque)
{
	struct seen *s = opaque;

	s->calls++;
	loop_unwatch(s->watch);
}

Test(loop, event_counts_writes_as_one_and_closes_its_fd)
{
	struct seen s = { 0 };
	uint64_t one = 1;
	int fd;

	cr_assert_eq(loop_watch_event(loop, count, &s, &s.watch, &fd), 0);
	cr_assert_eq(write(fd, &one, 8), 8);
	cr_assert_eq(write(fd, &one, 8), 8);
	settle(10 * MS);
	cr_expect_eq(s.calls, 1);
	/* Muted, then watched again: the events meanwhile cause one call, not a busy loop. */
	loop_watch_events(s.watch, 0);
	cr_assert_eq(write(fd, &one, 8), 8);
	settle(10 * MS);
	cr_expect_eq(s.calls, 1);
	loop_watch_events(s.watch, EPOLLIN);
	settle(10 * MS);
	cr_expect_eq(s.calls, 2);
	loop_unwatch(s.watch);
	cr_expect_eq(fcntl(fd, F_GETFD), -1);
}

Test(loop, event_unwatched_by_itself)
{
	struct seen s = { 0 };
	uint64_t one = 1;
	int fd;

	cr_assert_eq(loop_watch_event(loop, unwatch_event, &s, &s.watch, &fd), 0);
	cr_assert_eq(write(fd, &one, 8), 8);
	settle(10 * MS);
	cr_expect_eq(s.calls, 1);
	cr_expect_eq(fcntl(fd, F_GETFD), -1);
}

Test(loop, timer_fires_once_and_in_time)
{
	struct seen s = { 0 };
	uint64_t start = clock_now_ns();

	cr_assert_eq(loop_watch_timer(loop, stop, NULL, &s.watch), 0);
	loop_timer_arm(s.watch, 20 * MS);
	cr_assert_eq(loop_run(loop), 0);
	cr_expect_geq(clock_now_ns() - start, 20 * MS);
}

Test(loop, timer_disarmed_and_rearmed)
{
	struct seen once = { 0 }, never = { 0 };

	cr_assert_eq(loop_watch_timer(loop, count, &once, &once.watch), 0);
	cr_assert_eq(loop_watch_timer(loop, count, &never, &never.watch), 0);
	loop_timer_arm(once.watch, 1000000 * MS);
	loop_timer_arm(once.watch, 1 * MS);
	loop_timer_arm(never.watch, 1 * MS);
	loop_timer_arm(never.watch, 0);
	settle(30 * MS);
	cr_expect_eq(once.calls, 1);
	cr_expect_eq(never.calls, 0);
}

static void disarm_other(void *opaque)
{
	struct seen *s = opaque;

	s->calls++;
	loop_timer_arm(s->other, 0);
}

/* Two timers are due in one batch; the first disarms the second. */
Test(loop, timer_disarmed_within_the_batch)
{
	struct seen s[2] = { { 0 } };

	for (int i = 0; i < 2; i++)
		cr_assert_eq(loop_watch_timer(loop, disarm_other, &s[i], &s[i].watch), 0);
	for (int i = 0; i < 2; i++) {
		s[i].other = s[!i].watch;
		loop_timer_arm(s[i].watch, 1);
	}
	usleep(1000);
	settle(10 * MS);
	cr_expect_eq(s[0].calls + s[1].calls, 1);
}

#define POSTERS 4
#define POSTS 1000

static void *poster(void *opaque)
{
	for (int i = 0; i < POSTS; i++)
		cr_assert_eq(loop_post(loop, count, opaque), 0);
	return NULL;
}

static void *join_and_stop(void *opaque)
{
	for (int i = 0; i < POSTERS; i++)
		pthread_join(((pthread_t *)opaque)[i], NULL);
	loop_post(loop, stop, NULL);
	return NULL;
}

Test(loop, posts_from_threads_all_run)
{
	struct seen s[POSTERS] = { { 0 } };
	pthread_t t[POSTERS], joiner;

	for (int i = 0; i < POSTERS; i++)
		pthread_create(&t[i], NULL, poster, &s[i]);
	pthread_create(&joiner, NULL, join_and_stop, t);
	cr_assert_eq(loop_run(loop), 0);
	pthread_join(joiner, NULL);
	for (int i = 0; i < POSTERS; i++)
		cr_expect_eq(s[i].calls, POSTS);
}

static char order[8];

static void note_a(void *opaque)
{
	strcat(order, "a");
}

static void note_and_post(void *opaque)
{
	strcat(order, "p");
	loop_post(loop, note_a, NULL);
	loop_post(loop, stop, NULL);
}

Test(loop, posts_keep_their_order_and_may_post)
{
	loop_post(loop, note_a, NULL);
	loop_post(loop, note_and_post, NULL);
	loop_post(loop, note_a, NULL);
	cr_assert_eq(loop_run(loop), 0);
	cr_expect_str_eq(order, "apaa");
}

Test(loop, destroy_drops_posts_and_watches)
{
	struct seen s = { 0 };
	int fd;

	loop_post(loop, count, &s);
	cr_assert_eq(loop_watch_event(loop, count, &s, &s.watch, &fd), 0);
	loop_destroy(loop);
	cr_expect_eq(s.calls, 0);
	cr_expect_eq(fcntl(fd, F_GETFD), -1);
	setup();
}

static void *stop_soon(void *opaque)
{
	usleep(5000);
	loop_stop(loop);
	return NULL;
}

Test(loop, stop_from_a_thread)
{
	pthread_t t;

	pthread_create(&t, NULL, stop_soon, NULL);
	cr_assert_eq(loop_run(loop), 0);
	pthread_join(t, NULL);
	/* A stop that came before the run counts once. */
	loop_stop(loop);
	cr_assert_eq(loop_run(loop), 0);
	loop_post(loop, stop, NULL);
	cr_assert_eq(loop_run(loop), 0);
}

static void on_signal(int sig)
{
	loop_stop(loop);
}

Test(loop, stop_from_a_signal_handler)
{
	signal(SIGUSR1, on_signal);
	errno = ENOTTY;
	raise(SIGUSR1);
	cr_expect_eq(errno, ENOTTY);
	cr_assert_eq(loop_run(loop), 0);
}

static void ignore(int sig)
{
}

static void *interrupt(void *opaque)
{
	for (int i = 0; i < 3; i++) {
		usleep(3000);
		pthread_kill(*(pthread_t *)opaque, SIGUSR1);
	}
	usleep(3000);
	loop_post(loop, stop, NULL);
	return NULL;
}

Test(loop, a_signal_does_not_end_the_loop)
{
	struct sigaction act = { .sa_handler = ignore };
	pthread_t self = pthread_self(), t;
	uint64_t start = clock_now_ns();

	sigaction(SIGUSR1, &act, NULL);
	pthread_create(&t, NULL, interrupt, &self);
	cr_assert_eq(loop_run(loop), 0);
	cr_expect_geq(clock_now_ns() - start, 12 * MS);
	pthread_join(t, NULL);
}

/* --- busy polling ---------------------------------------------------------------- */

struct polled {
	struct loop_poller poller;
	unsigned polls, idles, work; /* work: number of polls that return true */
	bool armed_first, armed_later;
};

static bool poll_once(void *opaque)
{
	struct polled *p = opaque;

	p->polls++;
	if (!p->work)
		return false;
	p->work--;
	return true;
}

static void poll_idle(void *opaque)
{
	((struct polled *)opaque)->idles++;
	loop_stop(loop);
}

/* The loop learns nothing from the first wait; after a short wait it tries polling. */
static void arm_twice(void *opaque)
{
	struct polled *p = opaque;

	if (!p->polls && !p->armed_later) {
		p->armed_later = loop_poll_arm(loop, &p->poller);
		if (!p->armed_later)
			loop_post(loop, arm_twice, p);
	}
}

static void init_polled(struct polled *p)
{
	*p = (struct polled){ .poller = { poll_once, poll_idle, p } };
}

Test(loop, polls_after_a_short_wait_until_idle)
{
	struct polled p;

	if (fake_one_cpu())
		cr_skip_test("one CPU: no polling");
	init_polled(&p);
	cr_assert_not(loop_poll_arm(loop, &p.poller), "nothing has been learnt yet");
	p.work = 5;
	cr_assert_eq(loop_post(loop, arm_twice, &p), 0);
	cr_assert_eq(loop_run(loop), 0);
	cr_assert(p.armed_later);
	cr_assert_gt(p.polls, 5);
	cr_assert_eq(p.work, 0);
	cr_assert_eq(p.idles, 1);
	cr_assert_not(p.poller.armed);
	/* The polling failed, so the loop does not try again at once. */
	cr_assert_not(loop_poll_arm(loop, &p.poller));
}

static void stop_now(void *opaque)
{
	((struct polled *)opaque)->armed_first = true;
	loop_stop(loop);
}

/* A poller that always has work does not starve the loop's other callbacks. */
Test(loop, polling_leaves_time_for_others)
{
	struct loop_watch *timer;
	struct polled p;

	if (fake_one_cpu())
		cr_skip_test("one CPU: no polling");
	init_polled(&p);
	p.work = UINT32_MAX;
	cr_assert_eq(loop_watch_timer(loop, stop_now, &p, &timer), 0);
	loop_timer_arm(timer, 20000000);
	cr_assert_eq(loop_post(loop, arm_twice, &p), 0);
	cr_assert_eq(loop_run(loop), 0);
	cr_assert(p.armed_first);
	cr_assert_gt(p.polls, 10);
	cr_assert_eq(p.idles, 0);
	loop_poll_disarm(loop, &p.poller);
	loop_poll_disarm(loop, &p.poller);
	loop_unwatch(timer);
}

static void arm_and_count(void *opaque)
{
	struct polled *p = opaque;

	p->armed_first |= loop_poll_arm(loop, &p->poller);
	if (p->polls++ < 20)
		loop_post(loop, arm_and_count, p);
	else
		loop_stop(loop);
}

/* Whether a poller was armed, in 20 short waits. */
static bool armed_at_all(void)
{
	struct polled p;

	init_polled(&p);
	cr_assert_eq(loop_post(loop, arm_and_count, &p), 0);
	cr_assert_eq(loop_run(loop), 0);
	loop_poll_disarm(loop, &p.poller);
	return p.armed_first;
}

/* The thread that brings the work needs the CPU that a poll would take. What the loop's maker may use decides. */
Test(loop, no_polling_on_one_cpu)
{
	cpu_set_t all, one;
	int cpu = 0;

	cr_assert_eq(sched_getaffinity(0, sizeof(all), &all), 0);
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	teardown();
	cr_assert_eq(sched_setaffinity(0, sizeof(one), &one), 0);
	setup();
	cr_expect_not(armed_at_all());
	/* With more of them the same waits do arm it. */
	if (CPU_COUNT(&all) < 2)
		return;
	teardown();
	cr_assert_eq(sched_setaffinity(0, sizeof(all), &all), 0);
	setup();
	cr_expect(armed_at_all());
}

/* --- events that run soon -------------------------------------------------------- */

struct soon {
	struct loop_watch *event, *other;
	unsigned calls, seen; /* calls of the other event at each of ours */
	unsigned left;
};

static unsigned others;

static void count_other(void *opaque)
{
	others++;
}

static void soon_again(void *opaque)
{
	struct soon *s = opaque;

	s->calls++;
	s->seen += others;
	others = 0;
	if (!s->left--) {
		loop_stop(loop);
		return;
	}
	/* The other event is ready before ours runs again, and so are posts. */
	loop_event_soon(s->event);
	loop_event_soon(s->event);
	cr_assert_eq(loop_post(loop, count_other, NULL), 0);
}

Test(loop, an_event_soon_lets_others_be_served)
{
	struct soon s = { .left = 100 };

	cr_assert_eq(loop_watch_event(loop, soon_again, &s, &s.event, NULL), 0);
	loop_event_soon(s.event); /* the loop does not run yet: as from another thread */
	cr_assert_eq(loop_run(loop), 0);
	cr_expect_eq(s.calls, 101);
	cr_expect_eq(s.seen, 100);
	loop_unwatch(s.event);
}

static void drop_both(void *opaque)
{
	struct soon *s = opaque;

	s->calls++;
	loop_event_soon(s->event);
	loop_event_soon(s->other);
	loop_unwatch(s->other);
	loop_unwatch(s->event);
}

static void drop_other(void *opaque)
{
	struct soon *s = opaque;

	s->calls++;
	loop_unwatch(s->other);
	loop_unwatch(s->event);
	s->other = s->event = NULL;
}

static void both_soon(void *opaque)
{
	struct soon *s = opaque;

	loop_event_soon(s->event);
	loop_event_soon(s->other);
}

/* One that goes away before it ran never runs. */
Test(loop, an_event_soon_that_is_dropped)
{
	struct soon s = { 0 };

	cr_assert_eq(loop_watch_event(loop, drop_both, &s, &s.event, NULL), 0);
	cr_assert_eq(loop_watch_event(loop, count_other, NULL, &s.other, NULL), 0);
	loop_event_soon(s.event);
	settle(20 * MS);
	cr_expect_eq(s.calls, 1);
	cr_expect_eq(others, 0);
	/* Both are to run in one round; the first drops the second. */
	cr_assert_eq(loop_watch_event(loop, drop_other, &s, &s.event, NULL), 0);
	cr_assert_eq(loop_watch_event(loop, count_other, NULL, &s.other, NULL), 0);
	cr_assert_eq(loop_post(loop, both_soon, &s), 0);
	settle(20 * MS);
	cr_expect_eq(s.calls, 2);
	cr_expect_eq(others, 0);
}

struct leaver {
	struct loop_poller poller;
	struct loop_watch *event, *late;
	unsigned polls;
	bool from_poll, armed, came, too_late;
};

/* A device that leaves its turn while it is polled has work, but not now: it returns false. */
static bool leave_in_poll(void *opaque)
{
	struct leaver *l = opaque;

	if (++l->polls == 5 && l->from_poll)
		loop_event_soon(l->event);
	return false;
}

static void leave_in_idle(void *opaque)
{
	struct leaver *l = opaque;

	loop_event_soon(l->event);
}

static void leaver_came(void *opaque)
{
	((struct leaver *)opaque)->came = true;
	loop_stop(loop);
}

static void leaver_late(void *opaque)
{
	((struct leaver *)opaque)->too_late = true;
	loop_stop(loop);
}

static void arm_leaver(void *opaque)
{
	struct leaver *l = opaque;

	l->armed = loop_poll_arm(loop, &l->poller);
	if (!l->armed)
		loop_post(loop, arm_leaver, l);
}

/* The loop does not sleep while an event is to run soon, also if a poller or its end asked for it. */
Test(loop, an_event_soon_of_a_poller)
{
	if (fake_one_cpu())
		cr_skip_test("one CPU: no polling");
	for (int from_poll = 0; from_poll <= 1; from_poll++) {
		struct leaver l = { .poller = { leave_in_poll, leave_in_idle, &l },
				    .from_poll = from_poll };

		cr_assert_eq(loop_watch_event(loop, leaver_came, &l, &l.event, NULL), 0);
		cr_assert_eq(loop_watch_timer(loop, leaver_late, &l, &l.late), 0);
		loop_timer_arm(l.late, 2000 * MS);
		cr_assert_eq(loop_post(loop, arm_leaver, &l), 0);
		cr_assert_eq(loop_run(loop), 0);
		cr_expect(l.armed);
		cr_expect(l.came && !l.too_late, "from_poll %d", from_poll);
		loop_poll_disarm(loop, &l.poller);
		loop_unwatch(l.event);
		loop_unwatch(l.late);
		teardown();
		setup();
	}
}
