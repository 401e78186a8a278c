/*
 * hotplug: devices come to a running machine and go, in any order and until its end, on this host's own KVM. The guest
 * hotplug.elf drives the registers by hand. As in a confined process, vCPUs and loops have errands run.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/proc.h"
#include "vmm/core/thread.h"
#include "vmm/errand/errand.h"
#include "vmm/machine/machine.h"

#define GUEST "build/guest/hotplug.elf"
#define KILLED (OUTCOME_SIGNAL + 15)
#define DISK_BYTES 65536

static struct {
	char dir[64];
	struct config config, more; /* more: devices for machine_add_device */
	struct loop *loop;
	struct machine *m;
	struct errands *errands;
	pthread_t thread;
	sem_t running, ejected;
	int rc;
	struct err err;
	struct machine_end end;
	char gone[DEVICE_ID_BYTES]; /* the last device that went */
	unsigned ngone;
} t;

static const char *in_dir(const char *name)
{
	static char path[4][128];
	static unsigned at;

	at = (at + 1) % 4;
	snprintf(path[at], sizeof(path[at]), "%s/%s", t.dir, name);
	return path[at];
}

static void write_disk(const char *name, const char *text)
{
	int fd = open(in_dir(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	cr_assert(fd >= 0 && write(fd, text, 4) == 4 && !ftruncate(fd, DISK_BYTES));
	close(fd);
}

static int confine_nothing(enum thread_kind kind)
{
	return 0;
}

static void setup(void)
{
	thread_set_confine(confine_nothing);
	if (access("/dev/kvm", R_OK | W_OK))
		cr_skip_test("/dev/kvm cannot be used here: %s", strerror(errno));
	if (access(GUEST, R_OK))
		cr_skip_test("%s is not built", GUEST);
	snprintf(t.dir, sizeof(t.dir), "/tmp/bantam-hotplug.XXXXXX");
	cr_assert(mkdtemp(t.dir));
	write_disk("first.raw", "ONE!");
	write_disk("hot.raw", "HOT!");
}

static void teardown(void)
{
	static const char *const names[] = { "first.raw", "hot.raw", "log", "vsock" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlink(in_dir(names[i]));
	rmdir(t.dir);
}

TestSuite(hotplug, .init = setup, .fini = teardown, .timeout = 120);

static void on_state(void *opaque, enum machine_state state)
{
	if (state == MACHINE_RUNNING)
		sem_post(&t.running);
}

static void on_ejected(void *opaque)
{
	sem_post(&t.ejected);
}

/* The thread that is the first vCPU creates the machine. */
static void *run_main(void *opaque)
{
	t.rc = machine_create(opaque, &t.m, &t.err);
	if (!t.rc)
		t.rc = errands_start(true, &t.errands, &t.err);
	errands_use(t.errands);
	if (!t.rc)
		t.rc = machine_run(t.m, &t.end, &t.err);
	if (t.rc)
		sem_post(&t.running);
	return NULL;
}

/* "|" separates the words. */
static void parse(struct config *config, const char *words)
{
	char text[1000], *rest = text, *argv[40];
	struct err err;
	int argc = 0;

	snprintf(text, sizeof(text), "%s", words);
	while (rest)
		argv[argc++] = strsep(&rest, "|");
	memset(config, 0, sizeof(*config));
	cr_assert_eq(config_parse(config, argc, argv, &err), 0, "%s", err.text);
}

static void start(const char *cmdline, const char *args)
{
	static struct machine_setup setup = { .config = &t.config,
					      .hotplug = true,
					      .events = { .state = on_state,
							  .ejected = on_ejected } };
	char words[600];

	snprintf(words, sizeof(words), "--kernel|%s|--memory|32M|--cmdline|%s|--serial|file=%s%s",
		 GUEST, cmdline, in_dir("log"), args);
	unlink(in_dir("log"));
	parse(&t.config, words);
	snprintf(
		words, sizeof(words),
		"--kernel|x|--disk|path=%s|--vsock|cid=5,socket=%s|--rng|--disk|path=%s|--fs|tag=x,socket=%s",
		in_dir("hot.raw"), in_dir("vsock"), in_dir("none"), in_dir("none"));
	parse(&t.more, words);
	t.ngone = 0;
	sem_init(&t.running, 0, 0);
	sem_init(&t.ejected, 0, 0);
	cr_assert_eq(loop_create(&t.loop, &t.err), 0);
	setup.loop = t.loop;
	cr_assert_eq(thread_start(&t.thread, THREAD_VCPU, "vcpu0", 1u << 20, run_main, &setup), 0);
	sem_wait(&t.running);
	cr_assert_eq(t.rc, 0, "%s", t.err.text);
}

enum { HOT_DISK, HOT_VSOCK, HOT_RNG, NO_DISK, HOT_FS };

static void stop(void)
{
	machine_stop(t.m, KILLED, "killed by SIGTERM");
	pthread_join(t.thread, NULL);
	cr_expect_eq(t.rc, 0, "%s", t.err.text);
	cr_expect_eq(t.end.outcome, KILLED, "%s", t.end.why.text);
}

static void clear(void)
{
	machine_destroy(t.m);
	errands_end(t.errands);
	loop_destroy(t.loop);
	config_clear(&t.config);
	config_clear(&t.more);
	sem_destroy(&t.running);
	sem_destroy(&t.ejected);
}

/* How often the guest has said so. */
static unsigned said(const char *text)
{
	static char log[1 << 17];
	int fd = open(in_dir("log"), O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, log, sizeof(log) - 1);
	unsigned times = 0;

	if (fd >= 0)
		close(fd);
	log[n < 0 ? 0 : n] = 0;
	for (const char *p = log; (p = strstr(p, text)); p++)
		times++;
	return times;
}

static bool says(const char *text, unsigned times)
{
	for (unsigned ms = 0; ms < 20000; ms++) {
		if (said(text) >= times)
			return true;
		usleep(1000);
	}
	return false;
}

static void on_gone(void *opaque, const char *id, unsigned slot)
{
	snprintf(t.gone, sizeof(t.gone), "%s", id);
	t.ngone++;
}

/* The guest is asked for the device, and gives it up. */
static void lose(const char *id)
{
	struct timespec until;
	struct err err;
	unsigned before = t.ngone;

	cr_assert_eq(machine_ask_removal(t.m, id, &err), 0, "%s", err.text);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	cr_assert_eq(sem_timedwait(&t.ejected, &until), 0, "%s is not ejected", id);
	machine_finish_removals(t.m, on_gone, NULL);
	cr_assert_eq(t.ngone, before + 1);
	cr_assert_str_eq(t.gone, id);
}

static unsigned gain(unsigned which, const char *id)
{
	unsigned slot = 0;
	struct err err;

	cr_assert_eq(machine_add_device(t.m, &t.more.device[which], id, &slot, &err), 0, "%s",
		     err.text);
	return slot;
}

static void add_id(void *opaque, const struct machine_device_info *info)
{
	char *ids = opaque;

	snprintf(ids + strlen(ids), 200 - strlen(ids), "%s ", info->id);
}

static const char *devices(void)
{
	static char ids[200];

	ids[0] = 0;
	machine_walk_devices(t.m, add_id, ids);
	return ids;
}

/* Devices of several kinds, those that the machine began with too, again and again. */
Test(hotplug, devices_come_and_go)
{
	char words[300];
	unsigned fds = 0;

	snprintf(words, sizeof(words), "|--disk|path=%s|--rng|--balloon|1M", in_dir("first.raw"));
	start("", words);
	cr_assert(says("hotplug: ready", 1));
	cr_assert_str_eq(devices(), "serial0 disk0 rng0 balloon0 ");
	for (unsigned i = 1; i <= 8; i++) {
		cr_assert_eq(gain(HOT_DISK, "hot"), 4);
		cr_assert(says("slot 4 begins with HOT!", i), "round %u", i);
		cr_assert_eq(gain(HOT_VSOCK, "socket"), 5);
		cr_assert(says("slot 5 came, virtio 19", i));
		lose("hot");
		lose("socket");
		cr_assert(says("slot 5 is empty", i));
		cr_expect_eq(access(in_dir("vsock"), F_OK), -1, "its socket is gone");
		if (i == 1)
			fds = proc_fds(0);
		cr_expect_eq(proc_fds(0), fds, "round %u", i);
	}
	lose("disk0");
	cr_assert(says("slot 1 is empty", 1));
	cr_assert_str_eq(devices(), "serial0 rng0 balloon0 ");
	cr_assert_eq(gain(HOT_DISK, "disk0"), 1, "its slot is free");
	cr_assert(says("slot 1 begins with HOT!", 1));
	cr_assert_str_eq(devices(), "serial0 rng0 balloon0 disk0 ");
	stop();
	cr_assert_str_eq(devices(), "");
	clear();
}

/* What cannot be leaves no device, no descriptor and no thread. */
Test(hotplug, refusals)
{
	unsigned fds, threads, slot;
	struct err err;

	start("", "");
	cr_assert(says("hotplug: ready", 1));
	gain(HOT_DISK, "hot");
	cr_assert(says("begins with HOT!", 1));
	fds = proc_fds(0);
	threads = proc_threads();
	cr_expect_eq(machine_add_device(t.m, &t.more.device[HOT_RNG], "hot", &slot, &err), -EEXIST);
	cr_expect_str_eq(err.text, "the id \"hot\" is that of another device");
	cr_expect_eq(machine_add_device(t.m, &t.more.device[NO_DISK], "none", &slot, &err),
		     -ENOENT);
	cr_expect_eq(machine_add_device(t.m, &t.more.device[HOT_FS], "fs", &slot, &err), -EINVAL);
	cr_expect_str_eq(err.text,
			 "--fs: needs guest memory that another process can map: start the VM "
			 "with memory.shared true");
	t.more.device[HOT_RNG].slot = 1;
	cr_expect_eq(machine_add_device(t.m, &t.more.device[HOT_RNG], "rng", &slot, &err), -EEXIST);
	t.more.device[HOT_RNG].slot = 0;
	cr_expect_eq(machine_ask_removal(t.m, "none", &err), -ENODEV);
	cr_expect_eq(machine_ask_removal(t.m, "serial0", &err), -ENODEV, "it is not on the bus");
	machine_finish_removals(t.m, on_gone, NULL);
	cr_expect_eq(t.ngone, 0, "nothing was ejected");
	cr_expect_eq(proc_fds(0), fds);
	cr_expect(proc_threads_are(threads));
	/* All slots. */
	for (unsigned i = 2; i < 32; i++) {
		char id[16];

		snprintf(id, sizeof(id), "rng%u", i);
		cr_assert_eq(gain(HOT_RNG, id), i);
	}
	cr_expect_eq(machine_add_device(t.m, &t.more.device[HOT_RNG], "rng", &slot, &err), -ENOSPC);
	stop();
	cr_expect_eq(machine_add_device(t.m, &t.more.device[HOT_RNG], "rng", &slot, &err), -EBUSY);
	cr_expect_eq(machine_ask_removal(t.m, "hot", &err), -EBUSY);
	clear();
	start("", "|--transport|mmio");
	cr_expect_eq(machine_add_device(t.m, &t.more.device[HOT_RNG], "rng", &slot, &err),
		     -ENOTSUP);
	cr_expect_eq(machine_ask_removal(t.m, "rng", &err), -ENOTSUP);
	stop();
	clear();
}

/* A guest that ejects what it likes loses only what it was asked for; one that never answers keeps all. */
Test(hotplug, bad_guests)
{
	struct err err;

	start("hostile", "|--rng");
	cr_assert(says("hotplug: ready", 1));
	gain(HOT_DISK, "hot");
	cr_assert(says("slot 2 begins with HOT!", 1));
	machine_finish_removals(t.m, on_gone, NULL);
	cr_assert_str_eq(devices(), "serial0 rng0 hot ");
	lose("rng0");
	cr_assert_str_eq(devices(), "serial0 hot ");
	stop();
	clear();
	start("deaf", "|--rng");
	cr_assert(says("hotplug: ready", 1));
	for (unsigned i = 1; i <= 3; i++) {
		cr_assert_eq(machine_ask_removal(t.m, "rng0", &err), 0);
		cr_assert(says("slot 1 is wanted", i), "it is asked again");
	}
	machine_finish_removals(t.m, on_gone, NULL);
	cr_assert_str_eq(devices(), "serial0 rng0 ");
	stop();
	clear();
}

static int listen_at(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	cr_assert(fd >= 0 && !bind(fd, (struct sockaddr *)&addr, sizeof(addr)) && !listen(fd, 1));
	return fd;
}

/*
 * A device whose end takes a turn of the loop goes, and the loop serves the other devices afterwards: the machine is not at
 * its end.
 */
Test(hotplug, a_device_that_is_not_done)
{
	char words[300];

	for (unsigned i = 0; i < 3; i++) {
		int server = listen_at(in_dir("vsock_77")), peer;
		char byte;

		snprintf(words, sizeof(words), "|--vsock|cid=5,socket=%s|--disk|path=%s",
			 in_dir("vsock"), in_dir("first.raw"));
		start("vsock", words);
		cr_assert(says("hotplug: ready", 1));
		peer = accept(server, NULL, NULL);
		cr_assert(peer >= 0);
		lose("vsock0");
		cr_assert_eq(read(peer, &byte, 1), 0, "its connection ends");
		cr_assert_eq(machine_state(t.m), MACHINE_RUNNING);
		cr_assert(says("slot 1 is empty", 1));
		lose("disk0");
		gain(HOT_DISK, "hot");
		cr_assert(says("begins with HOT!", 1));
		stop();
		clear();
		close(peer);
		close(server);
		unlink(in_dir("vsock_77"));
	}
}

/* While the VM is paused, the guest learns nothing; then all of it. */
Test(hotplug, paused)
{
	struct err err;

	start("", "|--rng");
	cr_assert(says("hotplug: ready", 1));
	cr_assert_eq(machine_pause(t.m, &err), 0, "%s", err.text);
	cr_assert_eq(gain(HOT_DISK, "hot"), 2);
	cr_assert_eq(machine_ask_removal(t.m, "rng0", &err), 0);
	usleep(50000);
	cr_assert_eq(said("slot 2 came") + said("is wanted"), 0);
	cr_assert_eq(machine_resume(t.m, &err), 0, "%s", err.text);
	cr_assert(says("slot 2 begins with HOT!", 1));
	cr_assert(says("slot 1 is wanted", 1));
	stop();
	clear();
}

static void *stop_main(void *opaque)
{
	usleep(*(const useconds_t *)opaque);
	machine_stop(t.m, KILLED, "killed by SIGTERM");
	return NULL;
}

/* The machine ends while devices come and go: nothing is left, and nobody waits. */
Test(hotplug, ends_at_any_time)
{
	unsigned fds = 0;

	for (unsigned i = 0; i < 24; i++) {
		useconds_t after = 3000 * i;
		pthread_t stopper;
		struct err err;
		unsigned slot;

		start("", "|--rng|--balloon|1M");
		cr_assert_eq(thread_start(&stopper, THREAD_HELPER, "stop", 1u << 20, stop_main,
					  &after),
			     0);
		for (unsigned k = 0; machine_state(t.m) != MACHINE_SHUTDOWN; k++) {
			char id[16];

			snprintf(id, sizeof(id), "hot%u", k);
			if (!machine_add_device(t.m, &t.more.device[k & 1 ? HOT_RNG : HOT_DISK], id,
						&slot, &err))
				machine_ask_removal(t.m, id, &err);
			machine_ask_removal(t.m, "rng0", &err);
			machine_finish_removals(t.m, on_gone, NULL);
		}
		pthread_join(stopper, NULL);
		stop();
		clear();
		if (!i)
			fds = proc_fds(0);
		cr_expect_eq(proc_fds(0), fds, "round %u", i);
	}
}
