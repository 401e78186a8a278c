/*
 * machine: fifty machines that run a guest, one after the other in one process, each with disks, a network card, vsock and
 * consoles, on this host's own KVM. They end by themselves or are stopped; between them are
 * machines that are never run or fail while they are built; after each, the process has the descriptors, threads, files and memory
 * that it had before. Half of them have a thread for errands, as in a confined process: the loop and the I/O threads use it, too. Under the address sanitizer leaks are looked for as well.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/qcow2_files.h"
#include "vmm/core/log.h"
#include "vmm/core/thread.h"
#include "vmm/errand/errand.h"
#include "vmm/machine/machine.h"

#define GUESTS 50 /* that many machines run a guest */
#define GUEST "build/guest/round.elf"
#define KILLED (OUTCOME_SIGNAL + 15)
/* What the allocator may keep: caches of threads that are gone. */
#define SLACK_BYTES (64u << 10)

size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

enum life {
	RUN,	     /* until the guest ends it */
	STOP,	     /* by another thread, once the guest has used its devices */
	STOP_BEFORE, /* machine_run returns at once */
	NEVER_RUN,
	FAIL, /* to be created */
};

#define DISKS "--disk|path=raw.img|--disk|path=image.qcow2"
#define CARD "--net|stream=net.sock"
#define VSOCK "--vsock|cid=3,socket=vsock.sock"
#define CONSOLES                                                                                   \
	"--serial|file=serial.log|--console|pty,link=pty|--console|socket=console.sock|--console|" \
	"file=console.log"
#define OTHERS "--rng|--balloon|1M"
#define ALL DISKS "|" CARD "|" VSOCK "|" CONSOLES "|" OTHERS

static const struct kind {
	const char *what;
	enum life life;
	const char *end;  /* what the guest does */
	const char *args; /* "|" separates them */
	int outcome;	  /* FAIL: not used */
} kinds[] = {
	{ "power-off", RUN, "poweroff", ALL, OUTCOME_POWEROFF },
	{ "stopped", STOP, "stay", ALL, KILLED },
	{ "reset", RUN, "reset", ALL, OUTCOME_REBOOT },
	{ "no kernel", FAIL, NULL, "--kernel|none|" ALL, 0 },
	{ "never run", NEVER_RUN, NULL, ALL, 0 },
	{ "triple fault", RUN, "triple", ALL, OUTCOME_TRIPLE_FAULT },
	{ "no second disk", FAIL, NULL,
	  "--disk|path=raw.img,iothread|--disk|path=none|" CARD "|" VSOCK "|" CONSOLES, 0 },
	{ "I/O threads", RUN, "poweroff",
	  "--disk|path=raw.img,iothread|--disk|path=image.qcow2,iothread|--net|stream=net.sock,"
	  "iothread|" VSOCK "|" CONSOLES,
	  OUTCOME_POWEROFF },
	{ "I/O threads, stopped", STOP, "stay",
	  "--disk|path=raw.img,iothread|--disk|path=image.qcow2,iothread|" CARD "|" VSOCK
	  "|" CONSOLES,
	  KILLED },
	{ "vsock without a folder", FAIL, NULL,
	  DISKS "|" CARD "|" CONSOLES "|--vsock|cid=3,socket=none/vsock.sock", 0 },
	{ "stopped before it runs", STOP_BEFORE, NULL, ALL, KILLED },
	{ "threads for the disks", RUN, "poweroff",
	  "--disk|path=raw.img,engine=threads|--disk|path=image.qcow2,engine=threads|" CARD
	  "|" VSOCK "|" CONSOLES,
	  OUTCOME_POWEROFF },
	{ "console without a folder", FAIL, NULL,
	  ALL "|--console|file=none/console.log|--console|null", 0 },
	{ "virtio-mmio", RUN, "reset", "--transport|mmio|" ALL, OUTCOME_REBOOT },
	{ "dry run", NEVER_RUN, NULL, "--dry-run|" ALL, 0 },
	{ "initrd is missing", FAIL, NULL, "--initrd|none|" ALL, 0 },
};
#define NKINDS (sizeof(kinds) / sizeof(kinds[0]))

static struct {
	const struct kind *kind;
	char kernel[4096];
	struct loop *loop;
	int listener;
	unsigned nthreads, nwatches; /* Criterion has some too */
	bool errands;		     /* this round's machine has them */

	/* of this round */
	struct machine *machine;
	enum machine_state states[4];
	unsigned nstates;
	atomic_uint nendings;
	atomic_uint disk_starts; /* reports that a driver has activated the first disk */
	atomic_int ended_as;
	atomic_bool looked_enough;
	char failed[600]; /* "": all is well */
} t;

/* --- what the process holds ---------------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in a folder, of links what they lead to; sorted, one a line. For free(). */
static char *listing(const char *dir, bool links)
{
	char *name[256], *all = calloc(256, 300);
	unsigned n = 0;
	struct dirent *e;
	DIR *d = opendir(dir);

	cr_assert(d && all);
	while ((e = readdir(d))) {
		char to[256] = "";

		if (e->d_name[0] == '.' || (links && atoi(e->d_name) == dirfd(d)))
			continue;
		if (links && readlinkat(dirfd(d), e->d_name, to, sizeof(to) - 1) < 0)
			continue;
		cr_assert(n < 256 && asprintf(&name[n++], "%.40s %.250s\n", e->d_name, to) > 0);
	}
	closedir(d);
	qsort(name, n, sizeof(name[0]), by_text);
	for (unsigned i = 0; i < n; i++) {
		strcat(all, name[i]);
		free(name[i]);
	}
	return all;
}

static unsigned count_threads(void)
{
	char *list = listing("/proc/self/task", false);
	unsigned n = 0;

	for (char *p = list; *p; p++)
		n += *p == '\n';
	free(list);
	return n;
}

/* Some threads are the kernel's (KVM's, io_uring's): it takes them away a moment later. */
static unsigned threads_left(void)
{
	unsigned n = count_threads();

	for (unsigned ms = 0; ms < 2000 && n != t.nthreads; ms += 5) {
		usleep(5000);
		n = count_threads();
	}
	return n;
}

/* What all loops of the process watch; ours only its own wake-up. */
static unsigned watches(void)
{
	char path[64], line[256], to[64];
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		memset(to, 0, sizeof(to));
		if (readlink(path, to, sizeof(to) - 1) < 0 || !strstr(to, "[eventpoll]"))
			continue;
		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
		f = fopen(path, "r");
		while (f && fgets(line, sizeof(line), f))
			n += !strncmp(line, "tfd:", 4);
		fclose(f);
	}
	return n;
}

static size_t memory_in_use(void)
{
	return __sanitizer_get_current_allocated_bytes ? __sanitizer_get_current_allocated_bytes() :
							 mallinfo2().uordblks;
}

static size_t address_space(void)
{
	size_t pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	cr_assert(f && fscanf(f, "%zu", &pages) == 1);
	fclose(f);
	return pages * 4096;
}

/* --- one machine ---------------------------------------------------------------------- */

__attribute__((format(printf, 1, 2))) static void wrong(const char *fmt, ...)
{
	va_list ap;

	if (t.failed[0])
		return;
	va_start(ap, fmt);
	vsnprintf(t.failed, sizeof(t.failed), fmt, ap);
	va_end(ap);
}

static void on_state(void *opaque, enum machine_state state)
{
	if (state != machine_state(t.machine))
		wrong("the state is not the one that was told");
	if (t.nstates < 4)
		t.states[t.nstates++] = state;
}

static void on_ending(void *opaque, const struct machine_end *end)
{
	atomic_fetch_add(&t.nendings, 1);
	atomic_store(&t.ended_as, end->outcome);
}

static void on_device(void *opaque, const char *id, bool activated)
{
	if (!strcmp(id, "disk0") && activated)
		atomic_fetch_add(&t.disk_starts, 1);
}

static char serial_log[65536];

static bool serial_says(const char *text)
{
	int fd = open("serial.log", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, serial_log, sizeof(serial_log) - 1);

	if (fd >= 0)
		close(fd);
	serial_log[n < 0 ? 0 : n] = 0;
	return strstr(serial_log, text);
}

/* --- a thread that looks all the time ------------------------------------------------- */

struct look {
	uint64_t disk_read, disk_ops, card_sent;
	unsigned n;
};

static void on_counter(void *opaque, const char *id, const char *name, uint64_t value)
{
	struct look *l = opaque;

	if (value > INT64_MAX)
		wrong("%s: %s is %llu", id, name, (unsigned long long)value);
	if (!strcmp(id, "disk0") && !strcmp(name, "read_bytes"))
		l->disk_read = value;
	if (!strcmp(id, "disk0") && !strcmp(name, "read_ops"))
		l->disk_ops = value;
	if (!strcmp(id, "net0") && !strcmp(name, "tx_frames"))
		l->card_sent = value;
	l->n++;
}

/* Looks at the devices and changes them, also while they are destroyed and when they are gone. */
static void *look_main(void *opaque)
{
	static uint64_t raw = 32u << 20, qcow2 = 32u << 20;
	struct machine *m = opaque;
	struct err err;

	while (!atomic_load(&t.looked_enough)) {
		struct look l = { 0 };
		int rc;

		machine_walk_counters(m, on_counter, &l);
		if (machine_memory_actual(m) != 32u << 20)
			wrong("the guest has %llu bytes",
			      (unsigned long long)machine_memory_actual(m));
		rc = machine_set_balloon(m, raw % (1u << 20), &err);
		if (rc && rc != -EINVAL)
			wrong("balloon: %s", err.text);
		rc = machine_resize_disk(m, "disk0", raw + 512, &err);
		raw += rc ? 0 : 512;
		if (rc && rc != -ENODEV)
			wrong("%s", err.text);
		rc = machine_resize_disk(m, "disk1", qcow2 + 512, &err);
		qcow2 += rc ? 0 : 512;
		if (rc && rc != -ENODEV)
			wrong("%s", err.text);
		usleep(100);
	}
	return NULL;
}

/* What cannot be. */
static void check_refusals(struct machine *m)
{
	struct err err;

	if (machine_resize_disk(m, "disk7", 1u << 30, &err) != -ENODEV ||
	    strcmp(err.text, "no disk has the id \"disk7\""))
		wrong("%s", err.text);
	if (machine_resize_disk(m, "net0", 1u << 30, &err) != -ENODEV)
		wrong("%s", err.text);
	if (machine_resize_disk(m, "disk0", 512, &err) != -EINVAL)
		wrong("%s", err.text);
	if (strstr(t.kind->args, "--balloon") &&
	    (machine_set_balloon(m, 33u << 20, &err) != -EINVAL ||
	     strcmp(err.text, "a balloon of 33M: the guest has only 32M")))
		wrong("%s", err.text);
	if (!strstr(t.kind->args, "--balloon") && (machine_set_balloon(m, 0, &err) != -EINVAL ||
						   strcmp(err.text, "this VM has no balloon")))
		wrong("%s", err.text);
}

/* What the guest has done with its devices. */
static void check_counters(struct machine *m)
{
	struct look l = { 0 };

	machine_walk_counters(m, on_counter, &l);
	if (l.n != 24 || l.disk_read != 8 * 4096 || l.disk_ops != 8 || l.card_sent != 1)
		wrong("%u counters: %llu bytes of %llu reads, %llu frames", l.n,
		      (unsigned long long)l.disk_read, (unsigned long long)l.disk_ops,
		      (unsigned long long)l.card_sent);
}

static void *stop_main(void *opaque)
{
	struct machine *m = opaque;

	for (unsigned ms = 0; ms < 20000 && !serial_says("used"); ms += 2)
		usleep(2000);
	check_counters(m);
	check_refusals(m);
	machine_power_button(m);
	machine_refresh(m);
	machine_stop(m, KILLED, "killed by SIGTERM");
	machine_stop(m, OUTCOME_ERROR, "too late");
	return NULL;
}

static int confine_nothing(enum thread_kind kind)
{
	return 0;
}

static int run_with_errands(struct machine *m, struct machine_end *end, struct err *err)
{
	struct errands *errands;
	int rc;

	if (!t.errands)
		return machine_run(m, end, err);
	thread_set_confine(confine_nothing);
	rc = errands_start(false, &errands, err);
	errands_use(errands);
	if (!rc)
		rc = machine_run(m, end, err);
	errands_end(errands);
	thread_set_confine(NULL);
	return rc;
}

static void run(struct machine *m)
{
	static const enum machine_state all[] = { MACHINE_RUNNING, MACHINE_SHUTDOWN };
	bool before = t.kind->life == STOP_BEFORE;
	struct machine_end end = { .outcome = -1 };
	struct err err = { "" };
	pthread_t stopper, looker;

	atomic_store(&t.looked_enough, false);
	cr_assert_eq(pthread_create(&looker, NULL, look_main, m), 0);
	if (t.kind->life == STOP)
		cr_assert_eq(pthread_create(&stopper, NULL, stop_main, m), 0);
	if (before)
		machine_stop(m, KILLED, "killed by SIGTERM");
	if (run_with_errands(m, &end, &err))
		wrong("did not run: %s", err.text);
	if (t.kind->life == STOP)
		pthread_join(stopper, NULL);
	atomic_store(&t.looked_enough, true);
	pthread_join(looker, NULL);
	if (end.outcome != t.kind->outcome)
		wrong("outcome %d (%s), not %d", end.outcome, end.why.text, t.kind->outcome);
	if (t.nendings != 1 || t.ended_as != end.outcome)
		wrong("told %u times that it ends, with %d", t.nendings, t.ended_as);
	if (t.nstates != 2u - before || memcmp(t.states, all + before, t.nstates * sizeof(all[0])))
		wrong("%u states were told, the last is %d", t.nstates, t.states[1]);
	if (!before && (!serial_says("used") || serial_says("not ok")))
		wrong("the guest could not use its devices:\n%s", serial_log);
	if (t.disk_starts != !before)
		wrong("told %u times that the first disk is active", t.disk_starts);
	/* Asked too late: nothing of it may reach the next machine. */
	machine_power_button(m);
	machine_refresh(m);
	machine_stop(m, OUTCOME_ERROR, "too late");
}

static void configure(struct config *config)
{
	char text[2000], *rest = text, *argv[100];
	struct err err;
	int argc = 0;

	snprintf(text, sizeof(text), "--memory|32M|--cpus|2|--cmdline|end=%s|%s",
		 t.kind->end ? t.kind->end : "poweroff", t.kind->args);
	while (rest)
		argv[argc++] = strsep(&rest, "|");
	if (!strstr(t.kind->args, "--kernel")) {
		argv[argc++] = "--kernel";
		argv[argc++] = t.kernel;
	}
	cr_assert_eq(config_parse(config, argc, argv, &err), 0, "%s", err.text);
}

/* The machine's whole life; in a thread of its own, or in the process's first one. */
static void *round_main(void *opaque)
{
	struct machine_setup setup = {
		.loop = t.loop,
		.events = { .state = on_state, .ending = on_ending, .device = on_device }
	};
	struct config config;
	struct err err = { "" };
	int rc;

	configure(&config);
	setup.config = &config;
	rc = machine_create(&setup, &t.machine, &err);
	if (t.kind->life == FAIL && (!rc || !err.text[0] || t.machine))
		wrong("was created");
	if (t.kind->life != FAIL && rc)
		wrong("not created: %s", err.text);
	if (!rc && machine_state(t.machine) != MACHINE_CREATED)
		wrong("a new machine's state is %d", machine_state(t.machine));
	if (!rc && t.kind->life != NEVER_RUN && t.kind->life != FAIL)
		run(t.machine);
	machine_destroy(t.machine);
	config_clear(&config);
	return NULL;
}

static void drop_connections(void)
{
	int fd;

	while ((fd = accept4(t.listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		close(fd);
	cr_assert_eq(errno, EAGAIN);
}

static void same(const char *what, char *now, const char *before)
{
	if (strcmp(now, before))
		wrong("%s are\n%snot\n%s", what, now, before);
	free(now);
}

static void one_round(unsigned n, const char *fds, const char *files)
{
	pthread_t thread;
	sigset_t kick;
	unsigned left;

	t.kind = &kinds[n % NKINDS];
	t.machine = NULL;
	t.nstates = 0;
	t.nendings = 0;
	t.disk_starts = 0;
	if (n % 2) {
		cr_assert_eq(thread_start(&thread, THREAD_VCPU, "vcpu0", 1u << 20, round_main,
					  NULL),
			     0);
		pthread_join(thread, NULL);
	} else {
		/* A parent may have blocked the signal that stops the vCPUs. */
		sigemptyset(&kick);
		sigaddset(&kick, SIGRTMIN + 1);
		pthread_sigmask(SIG_BLOCK, &kick, NULL);
		round_main(NULL);
	}
	drop_connections();
	unlink("serial.log");
	unlink("console.log");
	same("descriptors", listing("/proc/self/fd", true), fds);
	same("files", listing(".", false), files);
	left = threads_left();
	if (left != t.nthreads)
		wrong("%u threads, not %u", left, t.nthreads);
	if (watches() != t.nwatches)
		wrong("the loops have %u watches, not %u", watches(), t.nwatches);
	cr_assert(!t.failed[0], "round %u, %s: %s", n, t.kind->what, t.failed);
}

static void listen_for_cards(void)
{
	struct sockaddr_un addr = { AF_UNIX, "net.sock" };

	t.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(t.listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	cr_assert_eq(listen(t.listener, 16), 0);
}

Test(machine, fifty_in_one_process, .timeout = 180)
{
	size_t memory = 0, space = 0;
	unsigned ran = 0;
	char *fds, *files;
	struct err err;

	if (access("/dev/kvm", R_OK | W_OK))
		cr_skip_test("/dev/kvm cannot be used here: %s", strerror(errno));
	if (!realpath(GUEST, t.kernel))
		cr_skip_test("%s is not built", GUEST);
	/* Each arena reserves 64 MiB, and their number depends on which threads allocate at once. */
	mallopt(M_ARENA_MAX, 1);
	scratch_enter();
	must("qemu-img create -q -f qcow2 image.qcow2 32M");
	must("truncate -s 32M raw.img");
	listen_for_cards();
	cr_assert_eq(loop_create(&t.loop, &err), 0, "%s", err.text);
	/* As the first round leaves them: a library may keep something until the process ends. */
	for (unsigned n = 0; ran < GUESTS; n++) {
		enum life life = kinds[n % NKINDS].life;

		/* Two rounds of each other kind are enough. */
		if (life != RUN && life != STOP && n >= 2 * NKINDS)
			continue;
		ran += life == RUN || life == STOP;
		t.errands = n / NKINDS % 2;
		if (!n) {
			log_open(); /* which may take a descriptor, once */
			fds = listing("/proc/self/fd", true);
			files = listing(".", false);
			t.nthreads = count_threads();
			t.nwatches = watches();
		}
		one_round(n, fds, files);
		if (n == NKINDS) {
			memory = memory_in_use();
			space = address_space();
		}
	}
	cr_expect_lt(memory_in_use(), memory + SLACK_BYTES);
	/* The sanitizer's own maps grow. */
	if (!__sanitizer_get_current_allocated_bytes)
		cr_expect_lt(address_space(), space + (32u << 20), "%zu, not %zu", address_space(),
			     space);
	free(fds);
	free(files);
	loop_destroy(t.loop);
	close(t.listener);
	scratch_leave();
	if (__lsan_do_recoverable_leak_check)
		cr_expect_eq(__lsan_do_recoverable_leak_check(), 0, "leaks");
}
