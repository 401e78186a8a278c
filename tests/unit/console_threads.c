/* console_threads: see console_threads.h. */
#include "tests/unit/console_threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/backend/chardev/chardev.h"
#include "devices/backend/chardev/pool.h"

#define CLIENTS 2
#define ALIVE 0x600dcafe600dcafeull
#define DEAD 0xdeaddeaddeaddeadull

struct device {
	uint64_t mark; /* plain: TSan reports accesses that nothing orders */
	pthread_mutex_t lock;
	struct chardev *chr;
	unsigned taken, take; /* bytes of input: since the last print, and at most */
};

static struct {
	struct sockaddr_un addr;
	atomic_ulong dead_calls, inputs, outputs;
	atomic_bool stop;
} run;

static void enter(struct device *d)
{
	if (d->mark != ALIVE)
		atomic_fetch_add(&run.dead_calls, 1);
	pthread_mutex_lock(&d->lock);
}

static size_t input(void *opaque, const uint8_t *buf, size_t len)
{
	struct device *d = opaque;

	enter(d);
	if (len > d->take - d->taken)
		len = d->take - d->taken;
	d->taken += (unsigned)len;
	pthread_mutex_unlock(&d->lock);
	atomic_fetch_add(&run.inputs, len);
	return len;
}

static void call(void *opaque)
{
	struct device *d = opaque;

	enter(d);
	pthread_mutex_unlock(&d->lock);
}

/* Returns the socket, or -1 if all places are taken. */
static int dial(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (fd >= 0 && !connect(fd, (struct sockaddr *)&run.addr, sizeof(run.addr)))
		return fd;
	close(fd);
	return -1;
}

static void *client(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	char bytes[512] = "";

	while (!atomic_load(&run.stop)) {
		int fd = dial();

		for (int i = rand_r(&seed) % 8; fd >= 0 && i > 0; i--) {
			size_t len = 1 + (size_t)rand_r(&seed) % sizeof(bytes);
			ssize_t n;

			if (send(fd, bytes, len, MSG_NOSIGNAL) < 0)
				break;
			while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0)
				atomic_fetch_add(&run.outputs, (unsigned long)n);
			sched_yield();
		}
		if (fd >= 0)
			close(fd);
	}
	return NULL;
}

static void *vcpu(void *arg)
{
	struct device *d = arg;

	for (unsigned i = 0; i < 50; i++) {
		pthread_mutex_lock(&d->lock);
		chardev_write(d->chr, "a line of output\n", 17);
		d->taken = 0;
		pthread_mutex_unlock(&d->lock);
		chardev_resume(d->chr);
		if (i % 8 == 0)
			sched_yield();
	}
	return NULL;
}

static const char *machine(struct chardev_pool *pool, const struct keyvals *kv, unsigned take)
{
	struct chardev_user user = { input, call, NULL, NULL, call, NULL };
	struct device *d = malloc(sizeof(*d));
	pthread_t thread;
	struct err err;

	*d = (struct device){ .mark = ALIVE, .take = take };
	pthread_mutex_init(&d->lock, NULL);
	user.opaque = d;
	if (chardev_obtain(pool, "serial", kv, NULL, false, &d->chr, &err))
		return "obtain";
	chardev_attach(d->chr, &user);
	if (pthread_create(&thread, NULL, vcpu, d))
		return "thread";
	pthread_join(thread, NULL);
	chardev_release(d->chr);
	pthread_mutex_destroy(&d->lock);
	d->mark = DEAD;
	free(d);
	return NULL;
}

struct console_result console_threads(const char *dir, unsigned machines)
{
	struct console_result r = { 0 };
	pthread_t thread[CLIENTS];
	struct chardev_pool *pool;
	struct keyvals kv;
	struct err err;
	char text[120];

	memset(&run, 0, sizeof(run));
	run.addr.sun_family = AF_UNIX;
	snprintf(run.addr.sun_path, sizeof(run.addr.sun_path), "%s/s", dir);
	snprintf(text, sizeof(text), "socket=%s", run.addr.sun_path);
	if (chardev_pool_create(&pool, &err) ||
	    keys_parse(&kv, "--serial", chardev_keys, text, &err) ||
	    chardev_pool_open(pool, "serial", &kv, &err)) {
		r.failed = "open";
		return r;
	}
	for (uintptr_t i = 0; i < CLIENTS; i++)
		if (pthread_create(&thread[i], NULL, client, (void *)i))
			abort();
	/* On a busy host the clients may start late. */
	while (!r.failed &&
	       (r.machines < machines || !atomic_load(&run.inputs) || !atomic_load(&run.outputs))) {
		r.failed = machine(pool, &kv, r.machines % 3 ? 1u << 20 : 7);
		r.machines++;
	}
	atomic_store(&run.stop, true);
	for (unsigned i = 0; i < CLIENTS; i++)
		pthread_join(thread[i], NULL);
	chardev_pool_destroy(pool);
	keys_clear(&kv);
	r.dead_calls = run.dead_calls;
	r.inputs = run.inputs;
	r.outputs = run.outputs;
	return r;
}
