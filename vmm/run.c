/*
 * run: see run.h.
 *
 * Theory of operation. The process is not the machine. The signals thread receives the signals: it
 * takes no device's lock and waits for no guest, disk or daemon, so it always answers. The
 * process's first thread owns the machine: it builds the machine, becomes its first vCPU, and
 * destroys it. The devices have a loop, which the machine runs in a third thread.
 *
 * The first thread builds the machine, and not a new thread, because a processor needs time to wake
 * up for a new thread: 5 % of the time to the guest's first instruction. (While the first thread makes its namespaces,
 * a short-lived one asks KVM for the VM: machine_begin_ahead.) So the first vCPU's thread
 * has the program's name, by which pgrep finds the process. A process that serves an API does that in
 * its first thread instead, and runs machines in another one (vmm/api).
 *
 * The first SIGTERM (SIGINT, SIGHUP, SIGQUIT) stops the machine in an orderly way: the vCPUs
 * leave the guest, and the devices finish their current requests and flush. A device may need long
 * for that, or never finish. So the second such signal (that of a person, not timeout(1)'s repetition), or the first one after the guest has ended
 * by itself, restores the terminal and ends the process at once. The kernel then frees everything
 * but the names of sockets and links. That holds until the last line is printed, because stderr may
 * be a pipe that nobody reads; afterwards these signals have their default effect.
 *
 * All threads block these signals, and the signals thread waits for them: no handler interrupts
 * anything. SIGINT, SIGHUP and SIGQUIT stay ignored if they were so at the start (thread.h). Signals
 * that the terminal needs (SIGWINCH, SIGTSTP …) have handlers, which run in the signals thread, too:
 * the other threads block them.
 *
 * Lock order: run.lock, then the machine's own locks.
 */
#include "vmm/run.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "devices/backend/chardev/chardev.h"
#include "devices/backend/store/backing.h"
#include "vmm/api/api.h"
#include "vmm/digest/definition.h"
#include "vmm/digest/digest.h"
#include "vmm/cachedir.h"
#include "vmm/config.h"
#include "vmm/confine/confine.h"
#include "vmm/confine/plan.h"
#include "vmm/errand/errand.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/core/parse.h"
#include "vmm/core/thread.h"
#include "vmm/machine/bootdisk.h"
#include "vmm/machine/machine.h"
#include "vmm/shell/shell.h"

#define SIGNALS_STACK_BYTES (64u << 10)

struct run {
	const struct config *config;
	atomic_bool ending; /* the machine ends: the next signal does not wait for it */
	atomic_bool over; /* the machine is gone: the signals thread returns at the next SIGUSR1 */

	pthread_mutex_t lock;	 /* protects the fields below; never held for long */
	struct machine *machine; /* NULL: not yet built, or about to be destroyed */
	int killed_by;		 /* the first signal, 0: none */
	bool power, refresh;	 /* a signal asked for this before the machine was built */

	/* only the machine's thread uses these */
	bool ran; /* end is valid */
	struct machine_end end;
	int initrd_fd; /* of a shell; -1: none, or no longer needed */
	struct loop *loop;
	struct errands *errands;
	sigset_t blocked; /* in the signals thread */
};

static int fail(const char *text, int status)
{
	log_last(text);
	return status;
}

/* --- the signals thread -------------------------------------------------------------- */

static void stop_machine(struct machine *m, int signo)
{
	char why[64];

	if (signo == SIGTERM && chardev_stdio_left())
		snprintf(why, sizeof(why), "ended by Ctrl-A x");
	else
		snprintf(why, sizeof(why), "killed by SIG%s", sigabbrev_np(signo));
	machine_stop(m, OUTCOME_SIGNAL + signo, why);
}

static void terminate(struct run *run, int signo)
{
	if (atomic_exchange(&run->ending, true)) {
		chardev_restore_terminal();
		log_end();
		_exit(OUTCOME_SIGNAL + signo);
	}
	pthread_mutex_lock(&run->lock);
	run->killed_by = signo;
	if (run->machine)
		stop_machine(run->machine, signo);
	pthread_mutex_unlock(&run->lock);
}

static void ask(struct run *run, bool *asked, void (*fn)(struct machine *m))
{
	pthread_mutex_lock(&run->lock);
	if (run->machine)
		fn(run->machine);
	else
		*asked = true;
	pthread_mutex_unlock(&run->lock);
}

static void *signals_main(void *opaque)
{
	struct run *run = opaque;
	sigset_t set;
	int signo;

	thread_heard_signals(&set, false);
	pthread_sigmask(SIG_SETMASK, &run->blocked, NULL);
	/* It needs nothing of the host from its start on. */
	thread_confine();
	for (;;) {
		BUG_ON(sigwait(&set, &signo));
		if (signo == SIGUSR1 && atomic_load(&run->over))
			return NULL;
		if (signo == SIGUSR1)
			ask(run, &run->power, machine_power_button);
		else if (signo == SIGUSR2)
			ask(run, &run->refresh, machine_refresh);
		else if (!thread_signal_is_echo(signo))
			terminate(run, signo);
	}
}

/* The caller joins *thread after end_signals. */
static int start_signals(struct run *run, pthread_t *thread, struct err *err)
{
	sigset_t set;
	int rc;

	thread_heard_signals(&set, false);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	pthread_sigmask(SIG_BLOCK, NULL, &run->blocked);
	signal(SIGPIPE, SIG_IGN);
	rc = thread_start(thread, THREAD_PROCESS, "signals", SIGNALS_STACK_BYTES, signals_main,
			  run);
	return rc ? err_sys(err, -rc, "cannot start a thread") : 0;
}

static void end_signals(struct run *run, pthread_t thread)
{
	sigset_t set;

	atomic_store(&run->over, true);
	pthread_kill(thread, SIGUSR1);
	pthread_join(thread, NULL);
	/* A late SIGUSR1 or SIGUSR2 stays blocked: it finds no machine, and must not kill. */
	thread_heard_signals(&set, false);
	sigdelset(&set, SIGUSR1);
	sigdelset(&set, SIGUSR2);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* --- the machine's thread ----------------------------------------------------------- */

static void on_ending(void *opaque, const struct machine_end *end)
{
	struct run *run = opaque;

	atomic_store(&run->ending, true);
}

static void on_panicked(void *opaque, bool crash_kernel)
{
	if (crash_kernel)
		log_put(LOG_INFO, "the guest panicked and starts its crash kernel");
}

/*
 * A person sits before standard error, and wants to be told: it is a terminal, and no other job has
 * it.
 */
static bool is_watched(const struct config *config)
{
	pid_t job = isatty(STDERR_FILENO) ? tcgetpgrp(STDERR_FILENO) : 0;

	return !keys_num(&config->vm, CONFIG_QUIET) && job && (job < 0 || job == getpgrp());
}

static int create(struct run *run, struct loop *loop, struct machine **out, struct err *err)
{
	struct machine_setup setup = {
		.config = run->config,
		.loop = loop,
		.viewer = is_watched(run->config),
		.events = { .opaque = run, .ending = on_ending, .panicked = on_panicked },
	};
	char *cache_dir = cachedir_default();
	int rc;

	setup.cache_dir = cache_dir;
	rc = machine_create(&setup, out, err);
	free(cache_dir);
	/* The guest has a copy. A dry run reads it once more, for the digest. */
	if (run->initrd_fd >= 0 && !keys_num(&run->config->vm, CONFIG_DRY_RUN)) {
		close(run->initrd_fd);
		run->initrd_fd = -1;
	}
	return rc;
}

/* From here on signals reach the machine. Passes on the signals that came before. */
static void show(struct run *run, struct machine *m)
{
	pthread_mutex_lock(&run->lock);
	run->machine = m;
	if (run->killed_by)
		stop_machine(m, run->killed_by);
	if (run->power)
		machine_power_button(m);
	if (run->refresh)
		machine_refresh(m);
	pthread_mutex_unlock(&run->lock);
}

static void hide(struct run *run)
{
	pthread_mutex_lock(&run->lock);
	run->machine = NULL;
	pthread_mutex_unlock(&run->lock);
}

/*
 * The rest of a dry run is there at once; this line may take as long as read-only disks are large. A VM
 * without a digest can run (its kernel may come from a pipe).
 */
static void print_digest(const struct config *config)
{
	char hex[DEFINITION_HEX_BYTES];
	struct err err = { "" };
	json_t *vm;
	int rc = definition_of_run(config, &vm, &err);

	fflush(stdout);
	if (!rc) {
		rc = digest_now(vm, hex, &err);
		json_decref(vm);
	}
	if (rc)
		printf("digest unknown: %s\n", err.text);
	else
		printf("digest %s\n", hex);
}

/* --- the line at the start --------------------------------------------------------- */

#define TITLE_BYTES 160

/* What runs: "/boot/vmlinuz (2 CPUs, 512M)", or "" if the line is not wanted. */
static void make_title(const struct config *config, char title[TITLE_BYTES])
{
	uint64_t ncpus = keys_num(&config->vm, CONFIG_CPUS);
	const char *from = keys_text(&config->vm, CONFIG_KERNEL);
	char size[32];

	title[0] = 0;
	if (!is_watched(config))
		return;
	if (!from)
		from = bootdisk_image(config);
	snprintf(title, TITLE_BYTES, "%.100s (%llu CPU%s, %s)", from ? from : "",
		 (unsigned long long)ncpus, ncpus == 1 ? "" : "s",
		 parse_size_text(keys_num(&config->vm, CONFIG_MEMORY), size, sizeof(size)));
}

static bool hears_ctrl_c(void)
{
	struct sigaction act;

	return sigaction(SIGINT, NULL, &act) || act.sa_handler != SIG_IGN;
}

/* A guest may stay silent for long: the user learns that it runs, and the way out. */
static void greet(const char *title)
{
	if (!*title)
		return;
	if (chardev_stdio_keys())
		log_always(LOG_WARN, "runs %s; Ctrl-A x ends, Ctrl-A ? helps", title);
	else if (hears_ctrl_c())
		log_always(LOG_WARN, "runs %s; Ctrl-C ends", title);
	else
		log_always(LOG_WARN, "runs %s; kill %d ends", title, (int)getpid());
}

/* --- the machine's life --------------------------------------------------------------- */

static int begin_errands(struct run *run, struct err *err)
{
	int rc = errands_start(false, &run->errands, err);

	errands_use(run->errands);
	return rc;
}

static int life(struct run *run, struct machine *m, struct err *err)
{
	char title[TITLE_BYTES];
	int rc;

	if (keys_num(&run->config->vm, CONFIG_DRY_RUN)) {
		machine_describe(m, stdout);
		print_digest(run->config);
		return 0;
	}
	make_title(run->config, title);
	greet(title);
	rc = confine_finish(err);
	if (!rc)
		rc = begin_errands(run, err);
	if (rc)
		return rc;
	show(run, m);
	rc = machine_run(m, &run->end, err);
	run->ran = !rc;
	return rc;
}

struct remains {
	struct run *run;
	struct machine *machine;
};

static void clear_away(void *opaque)
{
	struct remains *r = opaque;

	if (r->run->ran && keys_num(&r->run->config->vm, CONFIG_STATS))
		machine_print_stats(r->machine, stderr);
	hide(r->run);
	machine_destroy(r->machine);
	loop_destroy(r->run->loop);
}

static int create_and_run(struct run *run, struct err *err)
{
	struct remains remains = { .run = run };
	int rc = loop_create(&run->loop, err);

	if (!rc)
		rc = create(run, run->loop, &remains.machine, err);
	machine_end_ahead();
	if (!rc)
		rc = life(run, remains.machine, err);
	errand_run(clear_away, &remains);
	return rc;
}

/* --- the process -------------------------------------------------------------------- */

/* Prints the last line. Returns the exit status. */
static int report(const struct run *run, int rc, const struct err *err)
{
	if (rc)
		return fail(err->text, OUTCOME_ERROR);
	if (!run->ran)
		return 0;
	/* The devices are gone and have restored the terminal, so the last line prints normally. */
	if (keys_num(&run->config->vm, CONFIG_QUIET))
		log_end();
	else
		log_last(run->end.why.text);
	return run->end.outcome;
}

struct last_words {
	struct run *run;
	pthread_t signals;
	int rc, status;
	const struct err *err;
};

static void say_last_words(void *opaque)
{
	struct last_words *w = opaque;

	atomic_store(&w->run->ending, true); /* if the machine could not run: it is not yet set */
	w->status = report(w->run, w->rc, w->err);
	end_signals(w->run, w->signals);
}

static int hear_and_run(struct run *run, struct err *err)
{
	struct last_words words = { .run = run, .err = err };

	words.rc = start_signals(run, &words.signals, err);
	if (words.rc)
		return report(run, words.rc, err);
	thread_block_signals();
	thread_become(THREAD_VCPU);
	words.rc = create_and_run(run, err);
	errand_run(say_last_words, &words);
	errands_end(run->errands);
	return words.status;
}

static int run_machine(const struct config *config, int initrd_fd)
{
	struct run run = { .config = config, .initrd_fd = initrd_fd };
	struct err err = { "" };
	int status;

	pthread_mutex_init(&run.lock, NULL);
	/* A dry run starts no thread, so no signals thread either. */
	status = keys_num(&config->vm, CONFIG_DRY_RUN) ?
			 report(&run, create_and_run(&run, &err), &err) :
			 hear_and_run(&run, &err);
	pthread_mutex_destroy(&run.lock);
	if (run.initrd_fd >= 0)
		close(run.initrd_fd);
	return status;
}

/* With an API, the process does more than run one machine (api.h). */
static int serve(struct config *config)
{
	char title[TITLE_BYTES];
	struct api_options options = {
		.socket = { keys_text(&config->vm, CONFIG_API_SOCKET), -1 },
		.monitor = { NULL, -1 },
		.reboot = VM_EXIT,
		.panic = VM_EXIT,
		.quiet = keys_num(&config->vm, CONFIG_QUIET),
		.config = config,
		.booted = greet,
		.title = title,
	};

	make_title(config, title);
	return api_serve(&options);
}

/*
 * A process whose parent has ended belongs to process 1, or to another that collects such processes. A
 * child of process 1 has its session or one of its own; one with another session had another parent.
 */
static bool is_orphan(pid_t parent)
{
	pid_t of_init = getsid(1), own = getsid(0);

	return parent == 1 && of_init >= 0 && own != of_init && own != getpid();
}

/*
 * The kernel sends SIGTERM when the parent ends from now on. parent: of the process when it began; if
 * another one has taken its place since, it ended before. No helper inherits this.
 */
static int exit_with_parent(pid_t parent, struct err *err)
{
	if (prctl(PR_SET_PDEATHSIG, SIGTERM))
		return err_sys(err, errno, "--exit-with-parent");
	if (getppid() != parent || is_orphan(parent))
		return err_set(err, ESRCH,
			       "--exit-with-parent: the process that started bantam has ended");
	return 0;
}

static int begin_confined(struct confine_plan *plan, bool api, struct err *err)
{
	/* Files of an API are for a thread, not for the process. */
	char *cache_dir = api ? NULL : cachedir_default();
	int rc = cache_dir ? confine_add_path(plan, cache_dir, strlen(cache_dir),
					      CONFINE_READ | CONFINE_FILL, err) :
			     0;

	if (!rc)
		rc = confine_begin(plan, err);
	free(cache_dir);
	return rc;
}

/* Returns the exit status, 0 if the process is confined. */
static int confine_run(const struct config *config, bool api)
{
	/* With an API any device may come. */
	struct confine_plan plan = { .files_later = api,
				     .lacks = api ? 0 : confine_plan_lacks(config) };
	struct err err = { "" };

	if (confine_plan_config(&plan, config, &err))
		return fail(err.text, OUTCOME_ERROR);
	if (confine_jail_check(&plan.jail, &err))
		return fail(err.text, OUTCOME_USAGE);
	plan.jail.disks_later = api;
	if (api)
		plan.report[plan.nreports++] = keys_text(&config->vm, CONFIG_API_SOCKET);
	if (!plan.jail.dry_run)
		plan.meanwhile = machine_begin_ahead;
	confine_at_refusal(chardev_restore_terminal_in_handler);
	if (begin_confined(&plan, api, &err)) {
		machine_end_ahead();
		return fail(err.text, OUTCOME_ERROR);
	}
	if (plan.jail.dry_run)
		confine_jail_describe(&plan.jail, stdout);
	/* Below the new root, if there is one. */
	if (store_allow_folders(keys_text(&config->vm, CONFIG_BACKING_DIR), &err)) {
		machine_end_ahead();
		return fail(err.text, OUTCOME_USAGE);
	}
	return 0;
}

static int carry_out(struct config *config, pid_t parent)
{
	bool api = keys_has(&config->vm, CONFIG_API_SOCKET) &&
		   !keys_num(&config->vm, CONFIG_DRY_RUN);
	struct err err = { "" };
	int initrd_fd = -1, status;

	chardev_print_names(is_watched(config));
	if (keys_num(&config->vm, CONFIG_EXIT_WITH_PARENT) && exit_with_parent(parent, &err))
		return fail(err.text, OUTCOME_ERROR);
	/* Before the plan is made: it packs files of the host that no option names. */
	if (keys_num(&config->vm, CONFIG_SHELL) && shell_prepare(config, "", &initrd_fd, &err))
		return fail(err.text, OUTCOME_ERROR);
	status = confine_run(config, api);
	if (status)
		return status;
	if (!api)
		return run_machine(config, initrd_fd);
	status = serve(config);
	if (initrd_fd >= 0)
		close(initrd_fd);
	return status;
}

int run_command(int argc, char **argv)
{
	pid_t parent = getppid();
	struct config config;
	struct err err = { "" };
	int rc = config_parse(&config, argc, argv, &err);

	if (!rc && keys_num(&config.vm, CONFIG_VERBOSE))
		log_set_level(LOG_DEBUG);
	if (!rc && !keys_num(&config.vm, CONFIG_HELP))
		rc = shell_check(&config, &err);
	if (!rc && !keys_num(&config.vm, CONFIG_HELP) && !keys_num(&config.vm, CONFIG_SHELL))
		rc = bootdisk_check(&config, &err);
	if (!rc && keys_num(&config.vm, CONFIG_SHELL) && keys_has(&config.vm, CONFIG_CHROOT))
		rc = err_set(
			&err, EINVAL,
			"--shell packs files of the host, and --chroot hides them; leave one out");
	if (rc) {
		rc = fail(err.text, OUTCOME_USAGE);
	} else if (keys_num(&config.vm, CONFIG_HELP)) {
		config_help(stdout);
	} else {
		rc = carry_out(&config, parent);
	}
	config_clear(&config);
	return rc;
}
