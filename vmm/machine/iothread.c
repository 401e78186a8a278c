/* iothread: see iothread.h. */
#include "vmm/machine/iothread.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/loop.h"

#define IOTHREAD_STACK_BYTES (256 << 10)

struct iothread {
	struct loop *loop;
	struct device_env env; /* the machine's, with this loop */
	enum thread_kind kind;
	struct device *dev;
	pthread_t thread;
	bool running;
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

/* As with the machine's own loop, the thread that ran the device's I/O destroys the device. */
static void *iothread_main(void *opaque)
{
	struct iothread *io = opaque;

	iothread_prepare(io->dev);
	thread_confine();
	BUG_ON(loop_run(io->loop));
	device_destroy(io->dev);
	io->dev = NULL;
	return NULL;
}

int iothread_start(struct iothread *io, struct err *err)
{
	char name[THREAD_NAME_BYTES];
	int rc;

	/* A card's queues are pairs. */
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

void iothread_destroy(struct iothread *io)
{
	if (io->running) {
		loop_stop(io->loop);
		pthread_join(io->thread, NULL);
	}
	device_destroy(io->dev);
	loop_destroy(io->loop);
	free(io);
}
