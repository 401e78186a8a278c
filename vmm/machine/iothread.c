/* iothread: see iothread.h. */
#include "vmm/machine/iothread.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/loop.h"
#include "vmm/errand/errand.h"

#define IOTHREAD_STACK_BYTES (256 << 10)

struct iothread {
	struct loop *loop;
	struct device_env env; /* the machine's, with this loop */
	enum thread_kind kind;
	struct device *dev;
	struct errands *errands;
	pthread_t thread;
	bool running; /* thread is to be joined */

	pthread_mutex_t lock; /* a leaf; protects the fields below */
	pthread_cond_t cond;
	bool left, may_end; /* thread has left the loop; has nothing left to wait for */
};

void iothread_prepare(struct device *dev)
{
	if (thread_confines() && dev->ops->prepare)
		dev->ops->prepare(dev);
}

int iothread_create(const struct device_env *env, enum thread_kind kind,
		    const struct device_type *type, const struct keyvals *kv, struct iothread **out,
		    struct err *err)
{
	struct iothread *io = calloc(1, sizeof(*io));
	int rc;

	*out = NULL;
	if (!io)
		return err_sys(err, ENOMEM, "%s", type->option);
	io->kind = kind;
	io->env = *env;
	pthread_mutex_init(&io->lock, NULL);
	pthread_cond_init(&io->cond, NULL);
	rc = loop_create(&io->loop, err);
	io->env.loop = io->loop;
	if (!rc)
		rc = type->create(&io->env, kv, &io->dev, err);
	io->env.id = NULL;
	if (rc || !io->dev) {
		iothread_destroy(io);
		return rc;
	}
	*out = io;
	return 0;
}

struct device *iothread_device(const struct iothread *io)
{
	return io->dev;
}

/* As the machine's own loop's thread, it rests until the device has been destroyed (machine.c). */
static void *iothread_main(void *opaque)
{
	struct iothread *io = opaque;

	errands_use(io->errands);
	iothread_prepare(io->dev);
	thread_serve(io->dev->type->calls);
	thread_confine();
	BUG_ON(loop_run(io->loop));
	pthread_mutex_lock(&io->lock);
	io->left = true;
	pthread_cond_broadcast(&io->cond);
	while (!io->may_end)
		pthread_cond_wait(&io->cond, &io->lock);
	pthread_mutex_unlock(&io->lock);
	return NULL;
}

int iothread_start(struct iothread *io, struct errands *errands, struct err *err)
{
	char name[THREAD_NAME_BYTES];
	int rc;

	/* A card's queues are pairs. */
	io->errands = errands;
	thread_name_of(io->dev->id, strcmp(io->dev->type->option, "--net") ? "_q0" : "_qp0", name);
	rc = thread_start(&io->thread, io->kind, name, IOTHREAD_STACK_BYTES, iothread_main, io);
	if (rc)
		return err_sys(err, -rc, "%s: cannot start its I/O thread", io->dev->id);
	io->running = true;
	return 0;
}

void iothread_post(struct iothread *io, void (*fn)(void *dev))
{
	loop_post(io->loop, fn, io->dev);
}

void iothread_stop(struct iothread *io)
{
	if (io->running)
		loop_stop(io->loop);
}

void iothread_await_stop(struct iothread *io)
{
	pthread_mutex_lock(&io->lock);
	while (io->running && !io->left)
		pthread_cond_wait(&io->cond, &io->lock);
	pthread_mutex_unlock(&io->lock);
}

void iothread_destroy(struct iothread *io)
{
	bool left;

	pthread_mutex_lock(&io->lock);
	left = io->left;
	pthread_mutex_unlock(&io->lock);
	if (!left)
		iothread_stop(io);
	iothread_await_stop(io);
	device_destroy(io->dev);
	pthread_mutex_lock(&io->lock);
	io->may_end = true;
	pthread_cond_broadcast(&io->cond);
	pthread_mutex_unlock(&io->lock);
	if (io->running)
		pthread_join(io->thread, NULL);
	loop_destroy(io->loop);
	pthread_cond_destroy(&io->cond);
	pthread_mutex_destroy(&io->lock);
	free(io);
}
