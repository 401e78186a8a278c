/*
 * test_chardev_program: a console whose other end is the program itself, in a pool on the test's own loop
 * or in the pool's thread. The test is the owner; the device is the test, too, or a thread.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/backend/chardev/chardev.h"
#include "devices/backend/chardev/pool.h"
#include "devices/backend/chardev/program.h"
#include "vmm/core/loop.h"

#define RING_BYTES (64u << 10)

/* The n-th byte of any stream here. */
static uint8_t pattern(size_t n)
{
	return (uint8_t)(n * 7 + n / 251);
}

static void fill(uint8_t *buf, size_t from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = pattern(from + i);
}

/* --- the owner ------------------------------------------------------------------------------ */

static struct loop *loop;
static struct chardev_pool *pool;
static struct chardev *chr;

static struct {
	pthread_t thread;	    /* where callbacks belong */
	size_t got, wrong;	    /* of output */
	size_t sent, rooms;	    /* of input */
	size_t (*take)(size_t len); /* NULL: all */
	bool resume_inside, stuck;
	unsigned calls, calls_stuck;
	char opens[64]; /* "+" and "-" for guest_open, a digit for each full output before */
} owner;

static size_t take_some(const uint8_t *buf, size_t len)
{
	size_t n = owner.take ? owner.take(len) : len;

	cr_assert(pthread_equal(owner.thread, pthread_self()));
	owner.calls++;
	owner.calls_stuck += owner.stuck;
	for (size_t i = 0; i < n; i++)
		owner.wrong += buf[i] != pattern(owner.got + i);
	owner.got += n;
	owner.stuck = n < len && !owner.resume_inside;
	if (owner.resume_inside)
		chardev_program_resume(chr);
	return n;
}

static size_t on_output(void *opaque, const uint8_t *buf, size_t len)
{
	cr_assert_eq(opaque, &owner);
	cr_assert(len);
	return take_some(buf, len);
}

static void on_room(void *opaque)
{
	cr_assert(pthread_equal(owner.thread, pthread_self()));
	owner.rooms++;
}

static void on_open(void *opaque, bool open)
{
	strcat(owner.opens, open ? "+" : "-");
}

static const struct chardev_program_ops ops = { on_output, on_room, on_open };

static void resume(void)
{
	owner.stuck = false;
	chardev_program_resume(chr);
}

static void stop(void *opaque)
{
	loop_stop(opaque);
}

/* The owner's loop does what there is to do now. */
static void run(void)
{
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(loop_post(loop, stop, loop), 0);
		cr_assert_eq(loop_run(loop), 0);
	}
}

static void begin(void)
{
	struct err err = { "" };

	memset(&owner, 0, sizeof(owner));
	owner.thread = pthread_self();
	cr_assert_eq(loop_create(&loop, &err), 0);
	cr_assert_eq(chardev_pool_create_on(loop, &pool, &err), 0, "%s", err.text);
	cr_assert_eq(chardev_pool_open_program(pool, "port0", &ops, &owner, &chr, &err), 0, "%s",
		     err.text);
}

static void end(void)
{
	chardev_pool_destroy(pool);
	loop_destroy(loop);
	cr_assert_eq(owner.wrong, 0);
}

/* --- the device ------------------------------------------------------------------------------ */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	size_t written, in, in_wrong, room; /* room: how much input it takes now */
	unsigned drained, paused;
	bool done;
} device = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static size_t device_input(void *opaque, const uint8_t *buf, size_t len)
{
	pthread_mutex_lock(&device.lock);
	if (len > device.room) {
		len = device.room;
		device.paused++;
	}
	device.room -= len;
	for (size_t i = 0; i < len; i++)
		device.in_wrong += buf[i] != pattern(device.in + i);
	device.in += len;
	pthread_cond_broadcast(&device.changed);
	pthread_mutex_unlock(&device.lock);
	return len;
}

static void device_drained(void *opaque)
{
	pthread_mutex_lock(&device.lock);
	device.drained++;
	pthread_cond_broadcast(&device.changed);
	pthread_mutex_unlock(&device.lock);
}

static void attach(void)
{
	static const struct chardev_user user = { .input = device_input,
						  .drained = device_drained };
	struct chardev *found;
	struct err err = { "" };
	struct keyvals kv;

	cr_assert_eq(keys_parse(&kv, "--port", chardev_keys, "null", &err), 0);
	cr_assert_eq(chardev_obtain(pool, "port0", &kv, NULL, false, &found, &err), 0, "%s",
		     err.text);
	keys_clear(&kv);
	cr_assert_eq(found, chr);
	chardev_attach(chr, &user);
}

static void reset_device(void)
{
	device.written = device.in = device.in_wrong = device.room = 0;
	device.drained = device.paused = 0;
	device.done = false;
}

/* Returns how much the chardev took. */
static size_t device_write(size_t len)
{
	uint8_t buf[4096];
	size_t done = 0;

	while (done < len) {
		size_t part = len - done < sizeof(buf) ? len - done : sizeof(buf), n;

		fill(buf, device.written, part);
		n = chardev_write(chr, buf, part);
		done += n;
		device.written += n;
		if (n < part)
			break;
	}
	return done;
}

TestSuite(chardev_program, .timeout = 60);

/* --- output ----------------------------------------------------------------------------------- */

static size_t take_none(size_t len)
{
	return 0;
}

static size_t take_one(size_t len)
{
	return 1;
}

static size_t take_half(size_t len)
{
	return (len + 1) / 2;
}

static size_t take_all_but_one(size_t len)
{
	return len > 1 ? len - 1 : 1;
}

static size_t take_random(size_t len)
{
	static const unsigned of[] = { 0, 1, 3, 100, 4095, 4096 };
	size_t n = of[(unsigned)rand() % 6];

	return n < len ? n : len;
}

/* Whatever the owner takes and whenever it resumes, it gets each byte once. */
Test(chardev_program, output_under_credit)
{
	static const struct {
		size_t (*take)(size_t len);
		size_t bytes;
	} cases[] = {
		{ NULL, 1 << 20 },	  { take_one, 1000 },
		{ take_half, 1 << 18 },	  { take_all_but_one, 300000 },
		{ take_random, 1 << 20 },
	};

	for (unsigned i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		size_t bytes = cases[i / 2].bytes;

		begin();
		reset_device();
		attach();
		owner.take = cases[i / 2].take;
		owner.resume_inside = i % 2;
		for (unsigned turns = 0; owner.got < bytes; turns++) {
			device_write(bytes - device.written);
			run();
			if (owner.stuck)
				resume();
			cr_assert(turns < 2 * bytes, "case %u: no progress", i);
		}
		cr_assert_eq(device.written, bytes);
		cr_assert_eq(owner.got, bytes, "case %u", i);
		cr_assert_eq(owner.calls_stuck, 0, "case %u: output before resume", i);
		chardev_release(chr);
		end();
	}
}

/* An owner that takes nothing holds the device back; then the device learns that there is room. */
Test(chardev_program, back_pressure)
{
	begin();
	reset_device();
	attach();
	owner.take = take_none;
	device_write(1);
	run();
	cr_assert_eq(owner.calls, 1);
	cr_assert_eq(device_write(1 << 20), RING_BYTES - 1);
	cr_assert_eq(device_write(1), 0);
	for (unsigned i = 0; i < 20; i++)
		run();
	cr_assert_eq(owner.calls, 1, "one short output, and none before resume");
	resume();
	run();
	cr_assert_eq(owner.calls, 2);
	/* It resumes each time and takes nothing: the loop serves others meanwhile. */
	owner.resume_inside = true;
	resume();
	for (unsigned i = 0; i < 20; i++)
		run();
	cr_assert(owner.calls > 10 && owner.calls < 200, "%u", owner.calls);
	cr_assert_eq(device.drained, 0);
	owner.take = NULL;
	run();
	cr_assert_eq(owner.got, RING_BYTES);
	cr_assert_eq(device.drained, 1);
	chardev_release(chr);
	end();
}

/* A register's single bytes are gathered, but none waits longer than some milliseconds. */
Test(chardev_program, single_bytes)
{
	begin();
	reset_device();
	attach();
	for (unsigned i = 0; i < 1000; i++)
		device_write(1);
	for (unsigned ms = 0; owner.got < 1000; ms++) {
		cr_assert_lt(ms, 10000);
		usleep(1000);
		run();
	}
	cr_assert_lt(owner.calls, 100, "%u calls for 1000 bytes", owner.calls);
	chardev_release(chr);
	end();
}

/* --- input -------------------------------------------------------------------------------------- */

/* The owner sends all of a stream while the device takes so much at a time. */
Test(chardev_program, input_under_credit)
{
	static const size_t rooms[] = { 1, 511, 512, 513, 100000, 1 << 30 };
	enum { BYTES = 1 << 16 };
	static uint8_t text[BYTES];

	fill(text, 0, BYTES);
	for (unsigned i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++) {
		size_t bytes = rooms[i] < 10 ? 2000 : BYTES, sent, seen = 0;

		begin();
		reset_device();
		sent = chardev_program_send(chr, text, bytes); /* no device yet */
		cr_assert(sent > 0 && sent < 1024, "%zu", sent);
		cr_assert_eq(chardev_program_send(chr, text, 0), 0);
		attach();
		device.room = rooms[i];
		while (device.in < bytes) {
			run();
			if (device.room == 0) {
				device.room = rooms[i];
				chardev_resume(chr);
				continue;
			}
			cr_assert(sent == bytes || owner.rooms > seen, "%zu: no room is told",
				  rooms[i]);
			seen = owner.rooms;
			sent += chardev_program_send(chr, text + sent, bytes - sent);
		}
		cr_assert_eq(device.in, bytes);
		cr_assert_eq(device.in_wrong, 0);
		chardev_release(chr);
		end();
	}
}

/* --- both, with threads ---------------------------------------------------------------------------- */

#define STREAM_BYTES ((size_t)4 << 20)

static void *device_main(void *opaque)
{
	unsigned seed = 1;

	attach();
	pthread_mutex_lock(&device.lock);
	while (device.written < STREAM_BYTES || device.in < STREAM_BYTES) {
		size_t most = STREAM_BYTES - device.written, want;
		unsigned drained = device.drained;

		want = (size_t)rand_r(&seed) % 20000;
		device.room = (size_t)rand_r(&seed) % 3 ? (size_t)rand_r(&seed) % 5000 : 0;
		chardev_resume(chr);
		if (want > most)
			want = most;
		/* With the lock held, as devices do. */
		if (device_write(want) < want)
			while (device.drained == drained)
				pthread_cond_wait(&device.changed, &device.lock);
		pthread_mutex_unlock(&device.lock);
		if (!(rand_r(&seed) % 64))
			usleep(100);
		pthread_mutex_lock(&device.lock);
	}
	pthread_mutex_unlock(&device.lock);
	chardev_release(chr);
	cr_assert_eq(loop_post(loop, stop, loop), 0);
	return NULL;
}

static uint8_t stream[STREAM_BYTES];
static struct loop_watch *tick;

static void send_more(void *opaque)
{
	owner.sent += chardev_program_send(chr, stream + owner.sent, STREAM_BYTES - owner.sent);
}

static void on_tick(void *opaque)
{
	if (owner.stuck)
		resume();
	loop_timer_arm(tick, 50000);
}

Test(chardev_program, a_device_in_its_own_thread)
{
	static const struct chardev_program_ops sending = { on_output, send_more, NULL };
	struct err err = { "" };
	pthread_t thread;

	begin();
	reset_device();
	chardev_pool_destroy(pool);
	cr_assert_eq(chardev_pool_create_on(loop, &pool, &err), 0);
	cr_assert_eq(chardev_pool_open_program(pool, "port0", &sending, &owner, &chr, &err), 0);
	fill(stream, 0, STREAM_BYTES);
	owner.take = take_random;
	cr_assert_eq(loop_watch_timer(loop, on_tick, NULL, &tick), 0);
	loop_timer_arm(tick, 1);
	send_more(NULL);
	cr_assert_eq(pthread_create(&thread, NULL, device_main, NULL), 0);
	cr_assert_eq(loop_run(loop), 0);
	pthread_join(thread, NULL);
	cr_assert_eq(owner.calls_stuck, 0);
	cr_assert_eq(device.in, STREAM_BYTES);
	cr_assert_eq(device.in_wrong, 0);
	loop_unwatch(tick);
	owner.take = NULL;
	end();
	cr_assert_eq(owner.got, STREAM_BYTES);
}

/* --- devices come and go --------------------------------------------------------------------------- */

static void *one_machine(void *opaque)
{
	attach();
	device_write(1000);
	chardev_guest_open(chr, true);
	chardev_release(chr);
	device.done = true; /* what it wrote is with the owner: no run of the loop was needed */
	cr_assert_eq(loop_post(loop, stop, loop), 0);
	return NULL;
}

Test(chardev_program, attach_and_detach)
{
	begin();
	reset_device();
	for (unsigned i = 1; i <= 50; i++) {
		pthread_t thread;

		owner.opens[0] = 0;
		cr_assert_eq(pthread_create(&thread, NULL, one_machine, NULL), 0);
		cr_assert_eq(loop_run(loop), 0);
		pthread_join(thread, NULL);
		cr_assert(device.done);
		cr_assert_eq(owner.got, i * 1000);
		cr_assert_str_eq(owner.opens, "+-");
	}
	/* Input that no device has taken waits for the next. */
	device.room = 0;
	attach();
	cr_assert_eq(chardev_program_send(chr, (uint8_t[]){ pattern(0), pattern(1) }, 2), 2);
	run();
	chardev_release(chr);
	device.room = 100;
	attach();
	run();
	cr_assert_eq(device.in, 2);
	cr_assert_eq(device.in_wrong, 0);
	chardev_release(chr);
	end();
}

Test(chardev_program, the_guest_opens_and_closes)
{
	begin();
	reset_device();
	attach();
	chardev_guest_open(chr, false);
	run();
	cr_assert_str_eq(owner.opens, "");
	chardev_guest_open(chr, true);
	chardev_guest_open(chr, true);
	run();
	cr_assert_str_eq(owner.opens, "+");
	/* Between two looks: closed and open again, thousands of times. */
	for (unsigned i = 0; i < 10000; i++) {
		chardev_guest_open(chr, false);
		chardev_guest_open(chr, true);
	}
	run();
	cr_assert_str_eq(owner.opens, "+-+");
	/* The output from before comes first, however long the owner takes. */
	owner.take = take_half;
	device_write(1000);
	chardev_guest_open(chr, false);
	run();
	run();
	cr_assert_str_eq(owner.opens, "+-+");
	cr_assert_lt(owner.got, 1000);
	owner.take = NULL;
	resume();
	run();
	cr_assert_eq(owner.got, 1000);
	cr_assert_str_eq(owner.opens, "+-+-");
	chardev_release(chr);
	run();
	cr_assert_str_eq(owner.opens, "+-+-");
	end();
}

/* --- the end ----------------------------------------------------------------------------------------- */

/* What is left goes to the owner at the end, unless it has said that it takes no more. */
Test(chardev_program, the_end)
{
	begin();
	reset_device();
	attach();
	device_write(5000);
	chardev_release(chr);
	cr_assert_eq(owner.got, 5000, "its last words come before the machine's end is known");
	device_write(3);
	end();
	cr_assert_eq(owner.got, 5003);

	begin();
	reset_device();
	attach();
	owner.take = take_one;
	device_write(5000);
	run();
	chardev_release(chr);
	end();
	cr_assert_eq(owner.got, 1);
	cr_assert_eq(owner.calls, 1);
}

Test(chardev_program, refusals)
{
	struct chardev *other;
	struct err err = { "" };
	struct keyvals kv;

	begin();
	cr_assert_eq(chardev_pool_open_program(pool, "port0", &ops, NULL, &other, &err), -EEXIST);
	cr_assert_str_eq(err.text, "port0: there is another console of this name");
	cr_assert_null(other);
	reset_device();
	attach();
	cr_assert_eq(keys_parse(&kv, "--port", chardev_keys, "null", &err), 0);
	cr_assert_eq(chardev_obtain(pool, "port0", &kv, NULL, false, &other, &err), -EBUSY);
	keys_clear(&kv);
	chardev_release(chr);
	end();
}

/* --- other pools and other sinks ------------------------------------------------------------------------ */

static pthread_t console_thread;
static atomic_uint console_got;

static size_t in_console(void *opaque, const uint8_t *buf, size_t len)
{
	console_thread = pthread_self();
	chardev_program_send(chr, buf, len);
	atomic_fetch_add(&console_got, (unsigned)len);
	return len;
}

/* In a pool with a thread of its own, the callbacks come in that thread. */
Test(chardev_program, in_the_pools_own_thread)
{
	static const struct chardev_program_ops echo = { .output = in_console };
	struct err err = { "" };

	reset_device();
	device.room = 1 << 20;
	cr_assert_eq(chardev_pool_create(&pool, &err), 0);
	cr_assert_eq(chardev_pool_open_program(pool, "port0", &echo, NULL, &chr, &err), 0);
	attach();
	device_write(100000);
	pthread_mutex_lock(&device.lock);
	while (device.in < device.written)
		pthread_cond_wait(&device.changed, &device.lock);
	pthread_mutex_unlock(&device.lock);
	chardev_release(chr);
	chardev_pool_destroy(pool);
	cr_assert_eq(atomic_load(&console_got), device.written);
	cr_assert_eq(device.in_wrong, 0);
	cr_assert_not(pthread_equal(console_thread, pthread_self()));
}

/* The other sinks work in the owner's loop, too. */
Test(chardev_program, a_socket_in_the_owners_loop)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	char dir[] = "/tmp/bantam-test-XXXXXX", text[160], got[16] = "";
	struct err err = { "" };
	struct keyvals kv;
	int fd;

	begin();
	cr_assert(mkdtemp(dir));
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/s", dir);
	snprintf(text, sizeof(text), "socket=%s", sa.sun_path);
	cr_assert_eq(keys_parse(&kv, "--serial", chardev_keys, text, &err), 0);
	cr_assert_eq(chardev_pool_open(pool, "serial0", &kv, &err), 0, "%s", err.text);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	cr_assert_eq(chardev_obtain(pool, "serial0", &kv, NULL, false, &chr, &err), 0);
	keys_clear(&kv);
	cr_assert_eq(chardev_write(chr, "hello\n", 6), 6);
	run();
	cr_assert_eq(recv(fd, got, sizeof(got), MSG_DONTWAIT), 6);
	cr_assert_str_eq(got, "hello\n");
	chardev_release(chr);
	chardev_pool_rest(pool);
	cr_assert_eq(chardev_pool_resume(pool, &err), 0);
	end();
	cr_assert_eq(rmdir(dir), 0);
	close(fd);
}
