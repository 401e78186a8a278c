/* fake_machine: see fake_machine.h. */
#include "tests/unit/fake_machine.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/backend/chardev/chardev.h"
#include "guest/frame.h"
#include "vmm/core/clock.h"
#include "vmm/test/test_impl.h"

struct fake_machine fake;

/* A sink that the script writes to as a device does: as much as it takes. */
struct line {
	struct chardev *chr;
	pthread_mutex_t lock;
	pthread_cond_t room;
	bool drained;
};

struct test_vm {
	const struct test_vm_owner *owner;
	struct chardev_pool *consoles;
	const struct config *config;
	struct loop_watch *news;
	int news_fd, stop_fd;
	pthread_t thread, bridge;
	bool bridged;
	struct line console, channel;
	int device, guest; /* the channel's two ends */
	atomic_bool panicked, crash_kernel, gone;
	struct wire_decoder in;
	uint8_t read[4096];
	size_t at, have;
	struct test_vm_end end;
};

static struct test_vm *vm;

static void tell(void)
{
	uint64_t one = 1;

	cr_assert_eq(write(vm->news_fd, &one, sizeof(one)), sizeof(one));
}

/* --- lines --------------------------------------------------------------------------------- */

static void line_drained(void *opaque)
{
	struct line *line = opaque;

	pthread_mutex_lock(&line->lock);
	line->drained = true;
	pthread_cond_broadcast(&line->room);
	pthread_mutex_unlock(&line->lock);
}

static void line_failed(void *opaque)
{
}

static bool line_write(struct line *line, const uint8_t *buf, size_t len)
{
	while (len) {
		size_t n;

		pthread_mutex_lock(&line->lock);
		line->drained = false;
		pthread_mutex_unlock(&line->lock);
		n = chardev_write(line->chr, buf, len);
		buf += n;
		len -= n;
		pthread_mutex_lock(&line->lock);
		while (len && !line->drained) {
			struct timespec until;

			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_nsec += 20000000;
			until.tv_sec += until.tv_nsec / 1000000000;
			until.tv_nsec %= 1000000000;
			if (pthread_cond_timedwait(&line->room, &line->lock, &until) &&
			    fake_stopped()) {
				pthread_mutex_unlock(&line->lock);
				return false;
			}
		}
		pthread_mutex_unlock(&line->lock);
	}
	return true;
}

static bool line_open(struct line *line, const char *option, unsigned n,
		      size_t (*input)(void *opaque, const uint8_t *buf, size_t len))
{
	struct chardev_user user = { input, line_drained, NULL, NULL, line_failed, line };
	char id[DEVICE_ID_BYTES];
	struct err err;

	pthread_mutex_init(&line->lock, NULL);
	pthread_cond_init(&line->room, NULL);
	if (!test_config_id(vm->config, option, n, id))
		return false;
	cr_assert_eq(chardev_obtain(vm->consoles, id, NULL, NULL, false, &line->chr, &err), 0);
	chardev_attach(line->chr, &user);
	return true;
}

static void line_close(struct line *line)
{
	if (line->chr) {
		chardev_detach(line->chr);
		chardev_release(line->chr);
	}
	line->chr = NULL;
}

static size_t no_input(void *opaque, const uint8_t *buf, size_t len)
{
	return len;
}

/* The loop's thread. */
static size_t channel_input(void *opaque, const uint8_t *buf, size_t len)
{
	ssize_t n = send(vm->device, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	return n > 0 ? (size_t)n : errno == EPIPE || errno == ECONNRESET ? len : 0;
}

/* Carries the guest's bytes to the sink, and tells the sink when there is room for input. */
static void *bridge_main(void *opaque)
{
	uint8_t buf[20000];
	ssize_t n;

	for (;;) {
		struct pollfd p[2] = { { vm->device, POLLIN, 0 }, { vm->stop_fd, POLLIN, 0 } };

		poll(p, 2, 5);
		chardev_resume(vm->channel.chr);
		n = recv(vm->device, buf, sizeof(buf), MSG_DONTWAIT);
		if (!n || (n < 0 && errno != EAGAIN))
			return NULL;
		if (n > 0)
			line_write(&vm->channel, buf, (size_t)n);
		else if (p[1].revents)
			return NULL;
	}
}

/* --- for the script ------------------------------------------------------------------------ */

bool fake_stopped(void)
{
	struct pollfd p = { vm->stop_fd, POLLIN, 0 };

	return poll(&p, 1, 0) > 0;
}

void fake_wait_stop(void)
{
	struct pollfd p = { vm->stop_fd, POLLIN, 0 };

	poll(&p, 1, -1);
}

void fake_console(const char *text)
{
	line_write(&vm->console, (const uint8_t *)text, strlen(text));
}

int fake_channel(void)
{
	int fd[2];

	if (vm->bridged)
		return vm->guest;
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	vm->device = fd[0];
	vm->guest = fd[1];
	cr_assert(line_open(&vm->channel, fake.option, fake.n, channel_input));
	vm->bridged = true;
	pthread_create(&vm->bridge, NULL, bridge_main, NULL);
	return vm->guest;
}

void fake_say(uint8_t type, uint8_t stream, const void *payload, uint32_t len)
{
	uint8_t frame[WIRE_HEADER_BYTES + WIRE_PAYLOAD_MAX];

	wire_encode(frame, type, stream, len);
	if (len)
		memcpy(frame + WIRE_HEADER_BYTES, payload, len);
	send(fake_channel(), frame, WIRE_HEADER_BYTES + len, MSG_NOSIGNAL);
}

void fake_hello(uint64_t taint)
{
	uint8_t hello[WIRE_HELLO_BYTES + 5] = { 0 };

	put_le32(hello + WIRE_HELLO_VERSION, WIRE_VERSION);
	put_le64(hello + WIRE_HELLO_TAINT, taint);
	memcpy(hello + WIRE_HELLO_BYTES, "6.1.0", 5);
	fake_say(WIRE_HELLO, 0, hello, sizeof(hello));
}

void fake_exit(int wait_status, uint64_t taint, uint64_t oom_kills)
{
	uint8_t payload[WIRE_EXIT_BYTES] = { 0 };

	put_le32(payload + WIRE_EXIT_STATUS, (uint32_t)wait_status);
	put_le64(payload + WIRE_EXIT_TAINT, taint);
	put_le64(payload + WIRE_EXIT_OOM_KILLS, oom_kills);
	fake_say(WIRE_EXIT, 0, payload, sizeof(payload));
}

bool fake_hear(uint8_t type)
{
	for (;;) {
		struct pollfd p[2] = { { fake_channel(), POLLIN, 0 }, { vm->stop_fd, POLLIN, 0 } };
		struct wire_frame frame;
		size_t used;
		int rc;

		while (vm->at < vm->have) {
			rc = wire_decode(&vm->in, vm->read + vm->at, vm->have - vm->at, &used,
					 &frame);
			cr_assert_geq(rc, 0, "the host: %s", vm->in.why);
			vm->at += used;
			if (rc > 0 && frame.type == type)
				return true;
		}
		poll(p, 2, -1);
		if (p[1].revents)
			return false;
		vm->at = 0;
		vm->have = (size_t)recv(vm->guest, vm->read, sizeof(vm->read), 0);
		cr_assert_leq(vm->have, sizeof(vm->read));
	}
}

void fake_run_agent(void)
{
	char number[12];
	char *argv[] = { "agent", number, NULL }, *envp[] = { NULL };
	int fd = dup(fake_channel()), status;
	pid_t pid;

	cr_assert_geq(fd, 0);
	snprintf(number, sizeof(number), "%d", fd);
	cr_assert_eq(posix_spawn(&pid, "build/guest/agent", NULL, NULL, argv, envp), 0);
	close(fd);
	while (waitpid(pid, &status, WNOHANG) == 0) {
		struct pollfd p = { vm->stop_fd, POLLIN, 0 };

		if (poll(&p, 1, 5) > 0)
			kill(pid, SIGKILL);
	}
	shutdown(vm->guest, SHUT_WR);
}

void fake_panicked(bool crash_kernel)
{
	vm->crash_kernel = crash_kernel;
	vm->panicked = true;
	tell();
}

/* --- in place of vmm/test/vm.c ------------------------------------------------------------- */

static void *machine_main(void *opaque)
{
	vm->end.how = fake.script();
	vm->end.at_ns = clock_now_ns();
	if (vm->end.how == VERDICT_END_ERROR)
		err_set(&vm->end.why, EIO, "KVM cannot run this guest");
	if (vm->bridged) {
		shutdown(vm->guest, SHUT_WR);
		pthread_join(vm->bridge, NULL);
		close(vm->guest);
	}
	line_close(&vm->channel);
	line_close(&vm->console);
	vm->gone = true;
	tell();
	return NULL;
}

static void on_news(void *opaque)
{
	if (atomic_exchange(&vm->panicked, false))
		vm->owner->panicked(vm->owner->opaque, vm->crash_kernel);
	if (!vm->gone || !vm->news)
		return;
	pthread_join(vm->thread, NULL);
	loop_unwatch(vm->news);
	vm->news = NULL;
	vm->owner->over(vm->owner->opaque, &vm->end);
}

int test_vm_check(struct err *err)
{
	return fake.no_host ? err_set(err, ENOENT, "%s", fake.no_host) : 0;
}

int test_vm_describe(const struct config *config, FILE *out, struct err *err)
{
	fputs("the machine\n", out);
	return 0;
}

int test_vm_start(const struct config *config, struct loop *loop, struct chardev_pool *consoles,
		  const struct test_vm_owner *owner, struct test_vm **out, struct err *err)
{
	vm = calloc(1, sizeof(*vm));
	*out = vm;
	vm->config = config;
	vm->consoles = consoles;
	vm->owner = owner;
	vm->device = vm->guest = -1;
	vm->stop_fd = eventfd(0, EFD_CLOEXEC);
	cr_assert_eq(loop_watch_event(loop, on_news, NULL, &vm->news, &vm->news_fd), 0);
	cr_assert(line_open(&vm->console, "--serial", 0, no_input));
	pthread_create(&vm->thread, NULL, machine_main, NULL);
	return 0;
}

void test_vm_stop(struct test_vm *v)
{
	uint64_t one = 1;

	cr_assert_eq(write(v->stop_fd, &one, sizeof(one)), sizeof(one));
}

int test_vm_sample(struct test_vm *v, unsigned vcpu, struct verdict_sample *out)
{
	*out = fake.sample;
	out->vcpu = vcpu;
	if (!fake.late_samples)
		return 0;
	fake.late_samples--;
	return -ETIMEDOUT;
}

void test_vm_destroy(struct test_vm *v)
{
	if (!v)
		return;
	close(v->stop_fd);
	if (v->device >= 0)
		close(v->device);
	free(v);
}
