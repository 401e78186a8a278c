/*
 * api: see api.h.
 *
 * Theory of operation. The process's first thread runs a loop with the API's socket, its connections,
 * the signals and some timers, and never waits for anything else: the VM's executor does that
 * (vm.h). So ping and vm.info are answered at any time, also before KVM has been opened.
 *
 * The end. vmm.shutdown, a signal or the guest's power-off begin it: the machine is told to stop, and
 * the executor's last job deletes the VM, which waits for disks. Then the loop stops, all answers are
 * flushed, and the names on the host vanish. Until the last answer, requests come in, and the executor
 * serves them: it finds no VM, and makes none. A second signal does not wait. Neither does the process
 * if the VM or its machine is still being created, perhaps in a call that does not return: there is no
 * guest whose disks would need a flush.
 *
 * A client may poll vm.info to see that the guest has powered off; it expects a 404 and then to end
 * the process itself. So a connection on which vm.info was asked shortly before the power-off holds
 * the process for a moment (linger).
 */
#include "vmm/api/api.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backend/chardev/chardev.h"
#include "vmm/api/endpoints.h"
#include "vmm/cachedir.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/core/thread.h"
#include "vmm/core/unix_socket.h"
#include "vmm/http/http.h"

#define BACKLOG 128
#define DRAIN_MS 1000u
#define MIN_DRAIN_MS 100u
/* A poller counts if it asked this long before the power-off; the process ends this long after it. */
#define POLL_NS (2 * CLOCK_NS_PER_S)
#define LINGER_NS (POLL_NS - CLOCK_NS_PER_S / 10)
#define SILENCE_NS (1 * CLOCK_NS_PER_S)
/* The longest that the end waits for a machine that is being created. */
#define CREATING_NS (1 * CLOCK_NS_PER_S)
#define MAX_POLLERS 128
/* Of all --net fd= together. */
#define MAX_OPTION_FDS 253

/* A connection on which vm.info was asked. */
struct poller {
	uint64_t connection; /* 0: free */
	uint64_t asked_ns;   /* vm.info, last */
	uint64_t last_ns;    /* any request, last */
	bool told;	     /* that the VM is gone */
};

struct api {
	struct api_options *options;
	struct loop *loop;
	struct events *events;
	struct vm *vm;
	struct http_server *server;
	struct unix_listener listener;
	int listen_fd; /* listener's or the inherited one; -1: none */
	int signal_fd;
	struct loop_watch *signals, *linger, *creating;
	struct poller poller[MAX_POLLERS];
	struct api_process process;
	bool ending, gone;
	uint64_t gone_ns;
	int status;
	struct err last; /* why the process ends */
	/* The executor's, before it posts to the loop. */
	struct machine_end end;
	struct err boot_err;
};

/* --- the end ------------------------------------------------------------------------------ */

static void on_finished(void *opaque)
{
	struct api *api = opaque;

	events_emit(api->events, "vmm", "shutdown", NULL);
	loop_stop(api->loop);
}

/* Executor: the last job. */
static void finish(void *opaque)
{
	struct api *api = opaque;

	vm_delete(api->vm);
	if (loop_post(api->loop, on_finished, api))
		loop_stop(api->loop);
}

/* status: the process's, if the guest's end has not decided it. */
static void begin_end(struct api *api, int status, int outcome, const char *why)
{
	if (api->ending)
		return;
	api->ending = true;
	if (!api->gone) {
		api->status = status;
		err_set(&api->last, 0, "%s", why);
	}
	vm_begin_end(api->vm, outcome, why);
	loop_timer_arm(api->creating, CREATING_NS);
	if (vm_post(api->vm, finish, api))
		loop_stop(api->loop);
}

/* Ends the process without its VM. */
__attribute__((noreturn)) static void end_at_once(struct api *api, int status)
{
	chardev_restore_terminal();
	log_end();
	events_emit(api->events, "vmm", "shutdown", NULL);
	unix_socket_close(&api->listener);
	_exit(status);
}

/* The creation has not come back: see the theory of operation. */
static void on_creating(void *opaque)
{
	struct api *api = opaque;

	if (!vm_is_creating(api->vm)) {
		loop_timer_arm(api->creating, CREATING_NS);
		return;
	}
	log_always(LOG_WARN, "the VM is still being created; the process ends without it");
	if (api->server)
		http_server_drain(api->server, MIN_DRAIN_MS);
	end_at_once(api, api->status);
}

static void on_vmm_shutdown(void *opaque)
{
	begin_end(opaque, OUTCOME_POWEROFF, OUTCOME_POWEROFF, "the process was ended by a request");
}

/* --- pollers ------------------------------------------------------------------------------ */

static struct poller *poller_of(struct api *api, uint64_t connection)
{
	for (unsigned i = 0; i < MAX_POLLERS; i++)
		if (api->poller[i].connection == connection)
			return &api->poller[i];
	return NULL;
}

/* Until when the poller holds the process; 0: it does not. */
static uint64_t held_until(const struct api *api, const struct poller *p)
{
	uint64_t most = api->gone_ns + LINGER_NS, until = p->told ? p->last_ns + SILENCE_NS : most;

	if (!p->connection || p->asked_ns + POLL_NS < api->gone_ns)
		return 0;
	return until < most ? until : most;
}

/* After the power-off: ends the process, or waits for the pollers. */
static void check_pollers(void *opaque)
{
	struct api *api = opaque;
	uint64_t now = clock_now_ns(), latest = 0;

	if (!api->gone || api->ending)
		return;
	for (unsigned i = 0; i < MAX_POLLERS; i++) {
		uint64_t until = held_until(api, &api->poller[i]);

		latest = until > latest ? until : latest;
	}
	if (latest > now)
		loop_timer_arm(api->linger, latest - now);
	else
		begin_end(api, api->status, api->end.outcome, api->end.why.text);
}

static void on_asked(void *opaque, uint64_t connection, const char *name)
{
	struct api *api = opaque;
	struct poller *p = poller_of(api, connection);
	uint64_t now = clock_now_ns();
	bool info = !strcmp(name, "vm.info");

	if (!p && info && (p = poller_of(api, 0)))
		*p = (struct poller){ .connection = connection };
	if (!p)
		return;
	p->last_ns = now;
	if (info) {
		p->told = api->gone;
		p->asked_ns = api->gone ? p->asked_ns : now;
	}
	/* The answer of now is the last thing that this client may be waiting for. */
	check_pollers(api);
}

static void on_closed(void *opaque, uint64_t connection)
{
	struct api *api = opaque;
	struct poller *p = poller_of(api, connection);

	if (!p)
		return;
	p->connection = 0;
	check_pollers(api);
}

/* --- the VM's messages -------------------------------------------------------------------- */

static void on_gone(void *opaque)
{
	struct api *api = opaque;

	api->gone = true;
	api->gone_ns = clock_now_ns();
	api->status = api->end.outcome;
	api->last = api->end.why;
	if (api->options->compatible)
		log_always(api->status ? LOG_WARN : LOG_INFO, "%s", api->last.text);
	check_pollers(api);
}

/* Executor. */
static void vm_gone(void *opaque, const struct machine_end *end)
{
	struct api *api = opaque;

	api->end = *end;
	if (loop_post(api->loop, on_gone, api))
		loop_stop(api->loop);
}

static void on_boot_failed(void *opaque)
{
	struct api *api = opaque;

	/* The end itself may be the reason. */
	if (api->ending)
		return;
	if (api->options->compatible)
		fprintf(stderr,
			"cloud-hypervisor: the VM does not start\n  0: The VM cannot boot\n"
			"  1: %s\n",
			api->boot_err.text);
	begin_end(api, OUTCOME_ERROR, OUTCOME_ERROR, api->boot_err.text);
}

static void warn(void *opaque, const char *text)
{
	log_always(LOG_WARN, "%s", text);
}

/* Executor: the VM that the command line describes. */
static void boot(void *opaque)
{
	struct api *api = opaque;
	int fd[MAX_OPTION_FDS];
	struct vmconfig_notes notes = { .warn = warn, .fd = fd };
	int rc;

	if (api->options->vm)
		notes.nfds = vmconfig_option_fds(api->options->vm, fd, MAX_OPTION_FDS);

	if (api->options->config)
		rc = vm_adopt(api->vm, api->options->config, &api->boot_err);
	else
		rc = vm_create(api->vm, api->options->vm, &notes, &api->boot_err);
	if (!rc)
		rc = vm_boot(api->vm, &api->boot_err);
	if (!rc && api->options->booted)
		api->options->booted(api->options->title);
	if (rc && loop_post(api->loop, on_boot_failed, api))
		loop_stop(api->loop);
}

/* --- signals ------------------------------------------------------------------------------ */

/* Under the other name, SIGINT ends the process even if it was ignored at the start, as there. */
static void heard_signals(const struct api *api, sigset_t *set)
{
	thread_heard_signals(set, api->options->compatible);
}

static void terminate(struct api *api, int signo)
{
	int status = api->options->compatible ? 0 : OUTCOME_SIGNAL + signo;
	char why[64];

	if (api->ending)
		end_at_once(api, api->gone ? api->status : status);
	if (signo == SIGTERM && chardev_stdio_left())
		snprintf(why, sizeof(why), "ended by Ctrl-A x");
	else
		snprintf(why, sizeof(why), "killed by SIG%s", sigabbrev_np(signo));
	begin_end(api, status, OUTCOME_SIGNAL + signo, why);
	if (api->options->compatible)
		log_always(LOG_INFO, "%s", why);
}

static void on_signal(void *opaque, uint32_t events)
{
	struct api *api = opaque;
	struct signalfd_siginfo info;

	while (read(api->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGUSR1)
			vm_power_button(api->vm);
		else if (info.ssi_signo == SIGUSR2)
			vm_refresh(api->vm);
		else
			terminate(api, (int)info.ssi_signo);
	}
}

/* Before there is anything to leave behind: they wait until the loop runs. */
static void block_signals(const struct api *api)
{
	sigset_t set;

	heard_signals(api, &set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int watch_signals(struct api *api, struct err *err)
{
	sigset_t set;
	int rc;

	heard_signals(api, &set);
	api->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (api->signal_fd < 0)
		return err_sys(err, errno, "signalfd");
	rc = loop_watch_fd(api->loop, api->signal_fd, EPOLLIN, on_signal, api, &api->signals);
	return rc ? err_sys(err, -rc, "signals") : 0;
}

/* --- the process -------------------------------------------------------------------------- */

static int inherit(struct api *api, struct err *err)
{
	int fd = api->options->socket.fd, listens = 0;
	socklen_t len = sizeof(listens);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) || !listens)
		return err_set(err, EINVAL, "--api-socket fd=%d: is not a listening socket", fd);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	api->listen_fd = fd;
	return 0;
}

static int listen_first(struct api *api, struct err *err)
{
	const struct api_place *at = &api->options->socket;
	int rc;

	if (at->fd >= 0)
		return inherit(api, err);
	if (!at->path)
		return 0;
	rc = unix_socket_listen(&api->listener, "--api-socket", "path", at->path, BACKLOG, err);
	api->listen_fd = api->listener.fd;
	return rc;
}

static void on_request(void *opaque, struct http_exchange *x, struct http_request *req)
{
	struct api *api = opaque;

	api_request(&api->process, x, req);
}

static int serve_requests(struct api *api, struct err *err)
{
	struct http_handler handler = { .opaque = api, .request = on_request, .closed = on_closed };

	api->process = (struct api_process){ .opaque = api,
					     .vm = api->vm,
					     .events = api->events,
					     .shutdown = on_vmm_shutdown,
					     .asked = on_asked };
	if (api->listen_fd < 0)
		return 0;
	return http_server_create(api->loop, api->listen_fd, "bantam", &handler, &api->server, err);
}

static int start_vm(struct api *api, const char *cache_dir, struct err *err)
{
	const struct api_options *o = api->options;
	struct vm_setup setup = { .reboot = o->reboot,
				  .panic = o->panic,
				  .no_shutdown = o->no_shutdown,
				  .viewer = o->title && *o->title,
				  .events = api->events,
				  .cache_dir = cache_dir,
				  .gone = vm_gone,
				  .opaque = api };
	int rc = vm_start(&setup, &api->vm, err);

	if (!rc && (o->vm || o->config) && vm_post(api->vm, boot, api))
		rc = err_sys(err, ENOMEM, "VM");
	return rc;
}

static int start(struct api *api, const char *cache_dir, struct err *err)
{
	const struct api_place *monitor = &api->options->monitor;
	struct events_config to = { .path = monitor->path, .fd = monitor->fd };
	int rc;

	block_signals(api);
	rc = listen_first(api, err);
	if (!rc)
		rc = loop_create(&api->loop, err);
	if (!rc)
		rc = watch_signals(api, err);
	if (!rc)
		rc = loop_watch_timer(api->loop, check_pollers, api, &api->linger) ||
				     loop_watch_timer(api->loop, on_creating, api, &api->creating) ?
			     err_sys(err, ENOMEM, "timers") :
			     0;
	if (!rc)
		rc = events_create(to.path || to.fd >= 0 ? &to : NULL, &api->events, err);
	if (rc)
		return rc;
	events_emit(api->events, "vmm", "starting", NULL);
	rc = start_vm(api, cache_dir, err);
	return rc ? rc : serve_requests(api, err);
}

/* How long unread answers may delay the end: after a power-off, the pollers have had their time. */
static unsigned drain_ms(const struct api *api)
{
	uint64_t most = api->gone ? api->gone_ns + POLL_NS : UINT64_MAX, now = clock_now_ns();
	uint64_t left = most > now ? (most - now) / (CLOCK_NS_PER_S / 1000) : 0;

	return left < MIN_DRAIN_MS ? MIN_DRAIN_MS : left < DRAIN_MS ? (unsigned)left : DRAIN_MS;
}

static void stop(struct api *api)
{
	/* If the loop did not begin the end. */
	if (api->vm && !api->ending)
		vm_begin_end(api->vm, OUTCOME_ERROR, "the process ends");
	/* The last requests still need the VM. */
	if (api->server)
		http_server_drain(api->server, drain_ms(api));
	http_server_destroy(api->server);
	vm_end(api->vm);
	events_destroy(api->events);
	loop_unwatch(api->signals);
	loop_unwatch(api->linger);
	loop_unwatch(api->creating);
	loop_destroy(api->loop);
	if (api->signal_fd >= 0)
		close(api->signal_fd);
	unix_socket_close(&api->listener);
}

/*
 * As bantam run without an API: the terminal is restored, and stderr may be a pipe that nobody reads, so
 * the signals that end a process do that again.
 */
static void print_last(const struct api *api)
{
	const struct api_options *o = api->options;
	sigset_t set;

	log_end();
	if (o->compatible || (o->quiet && api->status != OUTCOME_ERROR))
		return;
	heard_signals(api, &set);
	sigdelset(&set, SIGUSR1);
	sigdelset(&set, SIGUSR2);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	log_last(api->last.text);
}

int api_serve(struct api_options *options)
{
	struct api api = { .options = options, .listen_fd = -1, .signal_fd = -1 };
	char *cache_dir = cachedir_default();
	struct err err = { "" };
	int rc;

	api.listener.fd = -1;
	thread_become(THREAD_API);
	/* Of /dev/urandom, while it can be opened. */
	json_object_seed(0);
	rc = start(&api, cache_dir, &err);
	if (!rc) {
		/* The executor has begun, and opens all that is opened from now on. */
		thread_confine();
		rc = loop_run(api.loop);
		if (rc)
			err_sys(&err, -rc, "event loop");
	}
	if (rc) {
		if (options->compatible)
			fprintf(stderr, "bantam: %s\n", err.text);
		api.last = err;
		api.status = OUTCOME_ERROR;
	}
	stop(&api);
	print_last(&api);
	free(cache_dir);
	return api.status;
}
