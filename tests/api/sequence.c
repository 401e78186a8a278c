/*
 * The known orchestrator, from the start of the process to its end (the contract, section 7 A): every
 * request, value, wait and connection as it does them, and the ends in which it goes wrong.
 *
 * Theory of operation: the client starts the process, makes its disks (a command), pings once, and
 * creates and boots the VM, each on a connection of its own. When the guest's console shows --ready,
 * it stops the VM. All of this stands on one connection: ping, power-button, vm.info every 500 ms until 404;
 * then it removes the socket file and sends vmm.shutdown. --end names what it does instead:
 *   full     all of that; the process ends within 50 ms of vmm.shutdown
 *   stops    polls once, then keeps the connection open and does nothing
 *   no-end   polls until 404, then never sends vmm.shutdown
 *   dies     polls once, then its connection ends
 *   none     presses the button on a connection of its own, and never polls
 * In each of them the process ends with status 0: within 2 s of the power-off while a client may still
 * ask, after 1 s of silence behind the 404, and at once when none can. On an emulated host these bounds
 * are --slow times as long. The power-off's time is that of the console's text --off.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <ifaddrs.h>
#include <jansson.h>
#include <limits.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/api/client.h"

#define DISKS_MAX 8
#define CALL_MS 30000
#define POLL_MS 500 /* the orchestrator's; --poll */
#define POLL_LIMIT_MS 30000
#define END_MS 50	/* from vmm.shutdown to the end */
#define HELD_MS 2000	/* from the power-off to the end, while a client may still ask */
#define SILENCE_MS 1200 /* from the 404 to the end, if nothing more is asked: 1 s and a little */
#define AT_ONCE_MS 250	/* the same, when none can */
#define CONSOLE_MAX (1u << 20)
#define FILES_MAX 64

static struct {
	const char *monitor, *dir, *socket, *make_disks;
	const char *kernel, *initramfs, *cmdline;
	const char *disk[DISKS_MAX];
	unsigned ndisks;
	const char *serial; /* "pty", or a file */
	const char *tap, *ip, *vsock;
	unsigned long cid, memory;
	const char *ready, *off, *end, *run, *shows;
	double ready_limit_ms, poll_limit_ms, poll_ms, slow;
} opt;

static struct {
	char text[CONSOLE_MAX + 1];
	size_t fill;
	int fd;
} console = { .fd = -1 };

static const char *const words[] = {
	"monitor", "dir", "socket",	 "make-disks", "kernel", "initramfs", "cmdline", "disk",
	"serial",  "tap", "ip",		 "vsock",      "cid",	 "memory",    "ready",	 "off",
	"end",	   "run", "ready-limit", "poll-limit", "shows",	 "slow",      "poll",
};

static void set_option(const char *word, const char *value)
{
	struct {
		const char *word;
		const char **to;
	} text[] = {
		{ "monitor", &opt.monitor }, { "dir", &opt.dir },
		{ "socket", &opt.socket },   { "make-disks", &opt.make_disks },
		{ "kernel", &opt.kernel },   { "initramfs", &opt.initramfs },
		{ "cmdline", &opt.cmdline }, { "serial", &opt.serial },
		{ "tap", &opt.tap },	     { "ip", &opt.ip },
		{ "vsock", &opt.vsock },     { "ready", &opt.ready },
		{ "off", &opt.off },	     { "end", &opt.end },
		{ "run", &opt.run },	     { "shows", &opt.shows },
	};

	for (unsigned i = 0; i < sizeof(text) / sizeof(text[0]); i++)
		if (!strcmp(word, text[i].word)) {
			*text[i].to = value;
			return;
		}
	if (!strcmp(word, "disk")) {
		if (opt.ndisks == DISKS_MAX)
			die("too many disks");
		opt.disk[opt.ndisks++] = value;
	} else if (!strcmp(word, "cid")) {
		opt.cid = strtoul(value, NULL, 10);
	} else if (!strcmp(word, "memory")) {
		opt.memory = strtoul(value, NULL, 10);
	} else if (!strcmp(word, "ready-limit")) {
		opt.ready_limit_ms = 1e3 * strtod(value, NULL);
	} else if (!strcmp(word, "slow")) {
		opt.slow = strtod(value, NULL);
	} else if (!strcmp(word, "poll")) {
		opt.poll_ms = strtod(value, NULL);
	} else {
		opt.poll_limit_ms = 1e3 * strtod(value, NULL);
	}
}

static void parse(int argc, char **argv)
{
	struct option table[sizeof(words) / sizeof(words[0]) + 1] = { 0 };
	int c, index;

	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		table[i] = (struct option){ words[i], required_argument, NULL, 0 };
	opt.memory = 128ul << 20;
	opt.end = "full";
	opt.slow = 1;
	opt.poll_ms = POLL_MS;
	opt.ready_limit_ms = 10000;
	opt.poll_limit_ms = POLL_LIMIT_MS;
	while ((c = getopt_long(argc, argv, "", table, &index)) != -1) {
		if (c)
			die("sequence: unknown option");
		set_option(words[index], optarg);
	}
	if (!opt.monitor || !opt.dir || !opt.socket || !opt.kernel || !opt.serial || !opt.ready)
		die("sequence: --monitor, --dir, --socket, --kernel, --serial and --ready are needed");
}

static json_t *parse_body(const struct answer *a)
{
	json_error_t error;
	json_t *v = json_loadb(a->body ? a->body : "", a->body_bytes, 0, &error);

	if (!v)
		note("no JSON: %.*s", (int)a->body_bytes, a->body ? a->body : "");
	return v;
}

/* Prints the status line and the body. */
static void note_answer(const char *what, const struct answer *a)
{
	int line = a->raw ? (int)strcspn(a->raw, "\r\n") : 0;

	note("%s: %.*s %.*s", what, line, a->raw ? a->raw : "", (int)a->body_bytes,
	     a->body ? a->body : "");
}

static bool answered(const char *what, const struct answer *a, int status)
{
	bool good = check(a->status == status, "%s: answer %d", what, status);

	if (!good)
		note_answer(what, a);
	return good;
}

/* The VmConfig as the orchestrator writes it: no cpus, no mask, no mac. */
static char *vm_config(void)
{
	json_t *vm, *disks = json_array(), *payload = json_pack("{ss}", "kernel", opt.kernel);

	if (opt.initramfs)
		json_object_set_new(payload, "initramfs", json_string(opt.initramfs));
	json_object_set_new(payload, "cmdline", json_string(opt.cmdline ? opt.cmdline : ""));
	for (unsigned i = 0; i < opt.ndisks; i++) {
		size_t n = strlen(opt.disk[i]);
		bool ro = n > 3 && !strcmp(opt.disk[i] + n - 3, ",ro");
		json_array_append_new(disks, json_pack("{ss#sbsb}", "path", opt.disk[i],
						       (int)(ro ? n - 3 : n), "readonly", ro,
						       "direct", true));
	}
	vm = json_pack("{s{sIsb}sososo}", "memory", "size", (json_int_t)opt.memory, "shared", true,
		       "payload", payload, "disks", disks, "serial",
		       strcmp(opt.serial, "pty") ?
			       json_pack("{ssss}", "mode", "File", "file", opt.serial) :
			       json_pack("{ss}", "mode", "Pty"));
	json_object_set_new(vm, "console", json_pack("{ss}", "mode", "Off"));
	if (opt.vsock)
		json_object_set_new(vm, "vsock",
				    json_pack("{sIss}", "cid", (json_int_t)opt.cid, "socket",
					      opt.vsock));
	if (opt.tap)
		json_object_set_new(vm, "net", json_pack("[{ssss}]", "tap", opt.tap, "ip", opt.ip));
	char *text = json_dumps(vm, JSON_COMPACT);
	json_decref(vm);
	if (!text)
		die("no memory");
	return text;
}

/* Reads what the console has printed since. Returns true if it contains text. */
static bool console_shows(const char *text)
{
	ssize_t n;

	if (console.fd < 0 && strcmp(opt.serial, "pty"))
		console.fd = open(opt.serial, O_RDONLY | O_CLOEXEC);
	while (console.fd >= 0 && console.fill < CONSOLE_MAX &&
	       (n = read(console.fd, console.text + console.fill, CONSOLE_MAX - console.fill)) > 0)
		console.fill += (size_t)n;
	return memmem(console.text, console.fill, text, strlen(text)) != NULL;
}

static bool wait_console(const char *text, double limit_ms)
{
	for (double until = now_ms() + limit_ms; now_ms() < until; sleep_ms(2))
		if (console_shows(text))
			return true;
	return false;
}

static bool tap_has_address(void)
{
	struct ifaddrs *all, *a;
	bool found = false;

	if (getifaddrs(&all))
		die("getifaddrs: %s", strerror(errno));
	for (a = all; a; a = a->ifa_next) {
		struct sockaddr_in *addr = (void *)a->ifa_addr, *mask = (void *)a->ifa_netmask;
		if (strcmp(a->ifa_name, opt.tap) || !addr || addr->sin_family != AF_INET)
			continue;
		found = a->ifa_flags & IFF_UP && addr->sin_addr.s_addr == inet_addr(opt.ip) &&
			mask->sin_addr.s_addr == inet_addr("255.255.255.0");
	}
	freeifaddrs(all);
	return found;
}

static bool tap_exists(void)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/class/net/%s", opt.tap);
	return access(path, F_OK) == 0;
}

static void ping(struct conn *c, pid_t pid)
{
	struct answer a;

	conn_call(c, "GET", "vmm.ping", NULL, CALL_MS, &a);
	if (!answered("vmm.ping", &a, 200))
		return;
	json_t *v = parse_body(&a);
	const char *version = json_string_value(json_object_get(v, "version"));
	const char *build = json_string_value(json_object_get(v, "build_version"));
	check(version && !strcmp(version, "53.0.0") && build &&
		      !strncmp(build, "v53.0.0-bantam-", 15) &&
		      json_integer_value(json_object_get(v, "pid")) == pid &&
		      json_is_array(json_object_get(v, "features")),
	      "vmm.ping: version, build_version, pid and features");
	json_decref(v);
}

/* Opens the pty that vm.info names. */
static void open_pty(json_t *info)
{
	json_t *serial = json_object_get(json_object_get(info, "config"), "serial");
	const char *path = json_string_value(json_object_get(serial, "file"));

	if (!check(path && !strncmp(path, "/dev/pts/", 9), "vm.info: config.serial.file is a pty"))
		return;
	console.fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	check(console.fd >= 0, "the pty can be opened");
}

static void info_running(void)
{
	struct conn c;
	struct answer a;

	call_once(opt.socket, "GET", "vm.info", NULL, CALL_MS, &c, &a);
	if (answered("vm.info", &a, 200)) {
		json_t *v = parse_body(&a);
		const char *state = json_string_value(json_object_get(v, "state"));
		check(state && !strcmp(state, "Running"), "vm.info: state is Running");
		if (!strcmp(opt.serial, "pty"))
			open_pty(v);
		json_decref(v);
	}
	conn_close(&c);
}

/* Returns false if there is no VM to go on with. */
static bool create_and_boot(void)
{
	char *body = vm_config();
	struct conn c;
	struct answer a;
	double began = now_ms();
	bool good;

	call_once(opt.socket, "PUT", "vm.create", body, CALL_MS, &c, &a);
	free(body);
	good = answered("vm.create", &a, 204);
	conn_close(&c);
	if (!good)
		return false;
	double created = now_ms();
	call_once(opt.socket, "PUT", "vm.boot", NULL, CALL_MS, &c, &a);
	good = answered("vm.boot", &a, 204);
	conn_close(&c);
	note("vm.create %.1f ms, vm.boot %.1f ms", created - began, now_ms() - created);
	if (opt.tap)
		check(tap_exists() && tap_has_address(),
		      "%s is up with %s/24 when vm.boot has answered", opt.tap, opt.ip);
	return good;
}

static void list_files(char *names[FILES_MAX], const char *dir)
{
	struct dirent **entry;
	int n = scandir(dir, &entry, NULL, alphasort);

	memset(names, 0, FILES_MAX * sizeof(*names));
	for (int i = 0; i < n; i++) {
		if (i < FILES_MAX - 1)
			names[i] = strdup(entry[i]->d_name);
		free(entry[i]);
	}
	free(entry);
}

/* What the process must not leave: sockets and lock files in the directory, a tap, processes. */
static void check_leftovers(char *before[FILES_MAX])
{
	char *after[FILES_MAX];
	unsigned extra = 0;

	list_files(after, opt.dir);
	for (unsigned i = 0, k; after[i]; free(after[i]), i++) {
		const char *serial = strrchr(opt.serial, '/');
		for (k = 0; before[k] && strcmp(before[k], after[i]); k++)
			;
		if (!before[k] && (!serial || strcmp(after[i], serial + 1))) {
			note("left: %s", after[i]);
			extra++;
		}
	}
	check(!extra, "no socket and no lock file is left");
	if (opt.tap)
		check(!tap_exists(), "%s is gone", opt.tap);
	check(process_orphans() == 0, "no process is left");
}

/* Polls vm.info as the orchestrator does. Returns the last status: 404, or what ended the wait. */
static int poll_info(struct conn *c, unsigned most)
{
	struct answer a = { 0 };
	double until = now_ms() + opt.poll_limit_ms;

	for (unsigned i = 0; i < most && now_ms() < until; i++) {
		if (i)
			sleep_ms(opt.poll_ms);
		conn_call(c, "GET", "vm.info", NULL, CALL_MS, &a);
		if (a.status != 200)
			break;
	}
	if (a.status != 200)
		note_answer("the last vm.info", &a);
	return a.status;
}

/* The process must end with status 0, at most limit_ms after since_ms. */
static void must_end(struct process *p, const char *since, double since_ms, double limit_ms)
{
	double end;

	limit_ms *= opt.slow;
	int status = process_wait(p, limit_ms + 5000, &end);

	if (!check(status == 0, "the process ends with status 0"))
		note("status %x", (unsigned)status);
	else if (!check(end - since_ms <= limit_ms, "time: it ends within %.0f ms of %s", limit_ms,
			since))
		note("%.1f ms", end - since_ms);
	else
		note("%.1f ms from %s to the end", end - since_ms, since);
}

static double power_off_ms(void)
{
	if (!opt.off || !check(wait_console(opt.off, opt.poll_limit_ms), "the guest powers off"))
		return now_ms();
	return now_ms();
}

/* Everything that the orchestrator does to stop the VM, on one connection. */
static void stop(struct process *p)
{
	struct conn c;
	struct answer a;
	double since;

	if (conn_open(&c, opt.socket)) {
		check(false, "the socket accepts");
		return;
	}
	ping(&c, p->pid);
	conn_call(&c, "PUT", "vm.power-button", NULL, CALL_MS, &a);
	answered("vm.power-button", &a, 204);
	if (!strcmp(opt.end, "full") || !strcmp(opt.end, "no-end")) {
		check(poll_info(&c, UINT_MAX) == 404, "vm.info answers 404 when the guest is off");
		if (!strcmp(opt.end, "full")) {
			check(!unlink(opt.socket), "the socket file is there to be removed");
			since = now_ms();
			conn_call(&c, "PUT", "vmm.shutdown", NULL, CALL_MS, &a);
			answered("vmm.shutdown on the same connection", &a, 200);
			check(a.body_bytes == 0 && a.keep, "vmm.shutdown: no body, keep-alive");
			must_end(p, "vmm.shutdown", since, END_MS);
		} else {
			must_end(p, "the 404", now_ms(), SILENCE_MS);
		}
	} else if (!strcmp(opt.end, "stops")) {
		check(poll_info(&c, 1) == 200, "vm.info answers 200");
		since = power_off_ms();
		must_end(p, "the power-off", since, HELD_MS);
	} else { /* dies, none */
		if (!strcmp(opt.end, "dies"))
			check(poll_info(&c, 1) == 200, "vm.info answers 200");
		conn_close(&c);
		since = power_off_ms();
		must_end(p, "the power-off", since, AT_ONCE_MS);
	}
	conn_close(&c);
}

int cmd_sequence(int argc, char **argv)
{
	struct process p;
	struct conn c;
	char log[4096], *before[FILES_MAX];
	bool early;

	parse(argc, argv);
	snprintf(log, sizeof(log), "%s/log", opt.dir);
	close(open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
	process_start(&p, opt.monitor, opt.socket, log, NULL);
	if (opt.make_disks && system(opt.make_disks))
		die("the disks cannot be made");
	list_files(before, opt.dir);
	for (unsigned i = 0; before[i]; i++)
		if (!strcmp(before[i], strrchr(opt.socket, '/') + 1))
			before[i][0] = 0; /* the socket is no file that may stay */
	/* Once, and never again. */
	early = conn_open(&c, opt.socket) != 0;
	if (!check(!early, "time: the socket accepts at the first try"))
		goto out;
	ping(&c, p.pid);
	conn_close(&c);
	if (!create_and_boot())
		goto out;
	info_running();
	if (!check(wait_console(opt.ready, opt.ready_limit_ms), "the console shows \"%s\"",
		   opt.ready)) {
		note("%.*s", (int)(console.fill > 2000 ? 2000 : console.fill),
		     console.text + (console.fill > 2000 ? console.fill - 2000 : 0));
		goto out;
	}
	note("ready %.1f s after the start", (now_ms() - p.exec_ms) / 1e3);
	if (opt.shows)
		check(console_shows(opt.shows), "the console shows \"%s\"", opt.shows);
	/* What the script wants to do with a running VM. */
	if (opt.run)
		check(system(opt.run) == 0, "%s", opt.run);
	if (opt.off && console_shows(opt.off))
		note("the guest is off too early");
	stop(&p);
out:
	if (p.pid > 0) {
		double end;
		kill(p.pid, SIGTERM);
		if (process_wait(&p, 3000, &end) < 0) {
			kill(p.pid, SIGKILL);
			process_wait(&p, 3000, &end);
		}
		if (!early)
			check(false, "the sequence comes to its end");
	}
	if (!early)
		check_leftovers(before);
	return check_failures() ? 1 : 0;
}
