/*
 * test_test: the command `bantam test` from its options to its exit status, with a script in place of the
 * machine (fake_machine.h), and with the real agent of the guest as a process of this host.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/fake_machine.h"
#include "vmm/core/clock.h"
#include "vmm/test/test_impl.h"
#include "vmm/test/test.h"

#define KERNEL "build/guest/hello.elf"
#define WORDS_MAX 40

static char dir[] = "/tmp/bantam-test-XXXXXX";

static void clean(void)
{
	char command[sizeof(dir) + 10];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	cr_expect_eq(system(command), 0);
}

TestSuite(test, .timeout = 60, .fini = clean);

static char report[8192]; /* the JSON of the last run */

static const char *path_of(const char *name)
{
	static char path[4][80];
	static unsigned at;
	char *p = path[at++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

/* Reads a file of dir. Returns how many bytes it has, at most max - 1. */
static size_t slurp(const char *name, char *buf, size_t max)
{
	FILE *f = fopen(path_of(name), "re");
	size_t n = f ? fread(buf, 1, max - 1, f) : 0;

	cr_assert(f, "%s", name);
	buf[n] = 0;
	fclose(f);
	return n;
}

/*
 * Runs bantam test with these words, separated by blanks, and then the command's, ended by NULL. Unconfined: Criterion's
 * descriptors are strays.
 */
static int run_test(enum verdict_end (*script)(void), const char *words, const char *const *command)
{
	char text[2000], *argv[WORDS_MAX], *save = NULL;
	int argc = 0, status;

	fake.script = script;
	test_lost_ns = 300000000;
	if (!fake.option) {
		fake.option = "--port";
		cr_assert(mkdtemp(dir));
	}
	snprintf(text, sizeof(text),
		 "--confine off --kernel " KERNEL " --verdict %s %s%s --stderr %s %s",
		 path_of("verdict"), strstr(words, "--stdout") ? "" : "--stdout ",
		 strstr(words, "--stdout") ? "" : path_of("out"), path_of("err"), words);
	for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	if (command)
		argv[argc++] = (char *)"--";
	for (; command && *command; command++)
		argv[argc++] = (char *)*command;
	argv[argc] = NULL;
	status = test_command(argc, argv);
	slurp("verdict", report, sizeof(report));
	return status;
}

static bool reports(const char *text)
{
	return strstr(report, text);
}

#define check_verdict(name)                                                                        \
	cr_expect(reports("\"verdict\":\"" name "\"") || reports("\"verdict\": \"" name "\""),     \
		  "%s", report)

/* --- the real agent ------------------------------------------------------------------------ */

static enum verdict_end agent_powers_off(void)
{
	fake_run_agent();
	return VERDICT_END_POWER_OFF;
}

static const char *const sh_exit[] = { "sh", "-c", "exit $0", "0", NULL };

Test(test, statuses_of_a_command)
{
	static const int statuses[] = { 0, 1, 2, 42, 124, 125, 126, 127, 128, 137, 240, 255 };

	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		char number[8];
		const char *const command[] = { sh_exit[0], sh_exit[1], sh_exit[2], number, NULL };

		snprintf(number, sizeof(number), "%d", statuses[i]);
		cr_expect_eq(run_test(agent_powers_off, "", command), statuses[i]);
		if (statuses[i])
			check_verdict("failed");
		else
			check_verdict("passed");
	}
}

Test(test, signals_and_what_cannot_run)
{
	static const struct {
		const char *command[4];
		int status;
		const char *verdict;
	} cases[] = {
		{ { "sh", "-c", "kill -9 $$" }, 137, "signalled" },
		{ { "sh", "-c", "kill -TERM $$" }, 143, "signalled" },
		{ { "/no/such/program" }, 127, "not-found" },
		{ { "/etc/passwd" }, 126, "not-executable" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_expect_eq(run_test(agent_powers_off, "", cases[i].command), cases[i].status,
			     "%zu", i);
		cr_expect(reports(cases[i].verdict), "%zu: %s", i, report);
	}
}

Test(test, streams_are_apart_and_whole)
{
	static const char *const command[] = {
		"sh", "-c",
		"printf 'a\\000b\\377'; printf 'err\\r\\n' >&2; echo via >/dev/stdout; pwd; echo $X $HOME",
		NULL
	};
	static const char out[] = "a\0b\377via\n/tmp\n1 /root\n";
	char buf[200];

	cr_expect_eq(run_test(agent_powers_off, "--cwd /tmp --env X=1", command), 0);
	cr_expect_eq(slurp("out", buf, sizeof(buf)), sizeof(out) - 1);
	cr_expect_arr_eq(buf, out, sizeof(out) - 1);
	cr_expect_eq(slurp("err", buf, sizeof(buf)), 5);
	cr_expect_str_eq(buf, "err\r\n");
}

Test(test, much_output_of_two_streams)
{
	static const char *const command[] = {
		"sh", "-c", "yes stdout | head -c 3000000 & yes stderr | head -c 3000000 >&2; wait",
		NULL
	};
	struct stat st;

	cr_expect_eq(run_test(agent_powers_off, "", command), 0);
	cr_expect(!stat(path_of("out"), &st) && st.st_size == 3000000);
	cr_expect(!stat(path_of("err"), &st) && st.st_size == 3000000);
}

/* --- readers ------------------------------------------------------------------------------- */

struct reader {
	int fd[2];
	unsigned delay_ms;
	uint64_t bytes;
	pthread_t thread;
};

static void *reader_main(void *opaque)
{
	struct reader *r = opaque;
	char buf[65536];
	ssize_t n;

	usleep(r->delay_ms * 1000);
	while ((n = read(r->fd[0], buf, sizeof(buf))) > 0)
		r->bytes += (uint64_t)n;
	return NULL;
}

/* The reader of stdout begins when the command has long written all to stderr. */
Test(test, a_reader_that_stops_holds_up_no_other_stream)
{
	static const char *const command[] = {
		"sh", "-c",
		"yes err | head -c 1000000 >&2; touch $0/err-done & yes | head -c 1000000; wait",
		dir, NULL
	};
	struct reader r = { .delay_ms = 600 };
	char words[40];
	struct stat st, done;

	cr_assert_eq(pipe(r.fd), 0);
	snprintf(words, sizeof(words), "--stdout /dev/fd/%d", r.fd[1]);
	pthread_create(&r.thread, NULL, reader_main, &r);
	cr_expect_eq(run_test(agent_powers_off, words, command), 0);
	close(r.fd[1]);
	pthread_join(r.thread, NULL);
	cr_expect_eq(r.bytes, 1000000);
	cr_expect(!stat(path_of("err"), &st) && st.st_size == 1000000);
	cr_expect_eq(stat(path_of("err-done"), &done), 0);
}

/* As in a shell: "yes | head -n 1" ends. */
Test(test, a_command_whose_reader_has_gone_gets_sigpipe)
{
	static const char *const command[] = { "yes", NULL };
	char words[40];
	int fd[2];

	cr_assert_eq(pipe(fd), 0);
	snprintf(words, sizeof(words), "--stdout /dev/fd/%d", fd[1]);
	close(fd[0]);
	cr_expect_eq(run_test(agent_powers_off, words, command), 128 + SIGPIPE);
	check_verdict("signalled");
}

static int stdin_of(const char *text)
{
	int fd[2];

	cr_assert_eq(pipe(fd), 0);
	cr_assert_eq(write(fd[1], text, strlen(text)), (ssize_t)strlen(text));
	close(fd[1]);
	dup2(fd[0], STDIN_FILENO);
	close(fd[0]);
	return 0;
}

Test(test, stdin_is_the_commands)
{
	static const char *const command[] = { "sh", "-c", "cat; echo end", NULL };
	char buf[100];

	stdin_of("one\ntwo");
	cr_expect_eq(run_test(agent_powers_off, "", command), 0);
	slurp("out", buf, sizeof(buf));
	cr_expect_str_eq(buf, "one\ntwoend\n");
	stdin_of("");
	cr_expect_eq(run_test(agent_powers_off, "", command), 0);
	slurp("out", buf, sizeof(buf));
	cr_expect_str_eq(buf, "end\n");
}

/* Without a terminal here the guest has one of the usual size, with both outputs in one stream. */
Test(test, a_terminal_of_the_guest)
{
	static const char *const command[] = { "sh", "-c",
					       "stty size; echo err >&2; [ -t 0 ] && exit 5",
					       NULL };
	char buf[100];

	cr_expect_eq(run_test(agent_powers_off, "--tty", command), 5);
	slurp("out", buf, sizeof(buf));
	cr_expect_str_eq(buf, "24 80\r\nerr\r\n");
}

Test(test, without_a_command_the_boot_is_the_test)
{
	cr_expect_eq(run_test(agent_powers_off, "", NULL), 0);
	check_verdict("passed");
}

/* --- what a machine does ------------------------------------------------------------------- */

/* Returns when the host has taken the command's first output. */
static bool start_command(void)
{
	static const char output[WIRE_PAYLOAD_MAX];

	fake_hello(0);
	if (!fake_hear(WIRE_START))
		return false;
	fake_say(WIRE_STARTED, 0, "\7\0\0\0", 4);
	fake_say(WIRE_DATA, WIRE_STDOUT, output, sizeof(output));
	return fake_hear(WIRE_GRANT);
}

static enum verdict_end powers_off(void)
{
	return VERDICT_END_POWER_OFF;
}

static enum verdict_end triple_fault(void)
{
	start_command();
	return VERDICT_END_TRIPLE_FAULT;
}

static enum verdict_end kvm_fails(void)
{
	return VERDICT_END_ERROR;
}

static enum verdict_end panics(void)
{
	start_command();
	fake_console("[    1.000000] Kernel panic - not syncing: sysrq triggered crash\n");
	return VERDICT_END_RESET;
}

/* The text comes after the reset, as seen by the sink: all of it counts. */
static enum verdict_end panics_late(void)
{
	fake_panicked(false);
	for (int i = 0; i < 2000; i++)
		fake_console(
			"[    1.000000] a line before the end, of the usual length for a log\n");
	fake_console("[    1.000000] Kernel panic - not syncing: the last words");
	return VERDICT_END_PANIC;
}

static enum verdict_end panics_by_pvpanic(void)
{
	fake_panicked(false);
	usleep(300000);
	return VERDICT_END_PANIC;
}

static enum verdict_end panics_and_stays(void)
{
	fake_console("[    1.000000] Kernel panic - not syncing: no init\n");
	fake_wait_stop();
	return VERDICT_END_STOPPED;
}

static enum verdict_end crash_kernel_reboots(void)
{
	fake_panicked(true);
	fake_console("[    1.000000] Kernel panic - not syncing: kdump\n");
	usleep(900000);
	return fake_stopped() ? VERDICT_END_STOPPED : VERDICT_END_RESET;
}

static enum verdict_end warns(void)
{
	start_command();
	fake_console("[    1.000000] WARNING: CPU: 0 PID: 1 at kernel/foo.c:10 bar+0x1/0x2\n");
	fake_exit(0, 1 << 9, 0);
	fake_hear(WIRE_ACK);
	fake_say(WIRE_BYE, 0, NULL, 0);
	return VERDICT_END_POWER_OFF;
}

static enum verdict_end ends_without_exit(void)
{
	start_command();
	return VERDICT_END_POWER_OFF;
}

/* The status is there before the power goes, and nothing more. */
static enum verdict_end exits_and_is_gone(void)
{
	start_command();
	fake_exit(7 << 8, 0, 0);
	return VERDICT_END_POWER_OFF;
}

static enum verdict_end never_powers_off(void)
{
	start_command();
	fake_exit(3 << 8, 0, 0);
	fake_hear(WIRE_ACK);
	fake_say(WIRE_BYE, 0, NULL, 0);
	fake_wait_stop();
	return VERDICT_END_STOPPED;
}

static enum verdict_end oom(void)
{
	start_command();
	fake_console("[    1.000000] Out of memory: Killed process 7 (x) total-vm:1kB\n");
	fake_exit(9, 0, 1);
	fake_hear(WIRE_ACK);
	fake_say(WIRE_BYE, 0, NULL, 0);
	return VERDICT_END_POWER_OFF;
}

static enum verdict_end sends_nonsense(void)
{
	start_command();
	fake_say(WIRE_EXIT, 0, "x", 1);
	fake_wait_stop();
	return VERDICT_END_STOPPED;
}

static enum verdict_end no_hello(void)
{
	fake_say(WIRE_STARTED, 0, "\7\0\0\0", 4);
	fake_wait_stop();
	return VERDICT_END_STOPPED;
}

static enum verdict_end silent(void)
{
	fake_wait_stop();
	return VERDICT_END_STOPPED;
}

static enum verdict_end command_is_silent(void)
{
	start_command();
	for (int i = 0; !fake_stopped(); i++) {
		fake_console("[    1.000000] the kernel prints now and then\n");
		usleep(20000);
	}
	return VERDICT_END_STOPPED;
}

static const char *const true_command[] = { "true", NULL };

Test(test, ends_of_a_machine)
{
	static const struct {
		enum verdict_end (*script)(void);
		const char *words;
		int status;
		const char *verdict, *text;
	} cases[] = {
		{ powers_off, "", 242, "died-before-init", "" },
		{ triple_fault, "", 243, "triple-fault", "" },
		{ kvm_fails, "", 125, "error", "KVM cannot run this guest" },
		{ panics, "", 240, "panicked", "sysrq triggered crash" },
		{ panics_late, "", 240, "panicked", "the last words" },
		{ panics_by_pvpanic, "--timeout-boot 100ms", 240, "panicked", "pvpanic" },
		{ panics_and_stays, "", 240, "panicked", "no init" },
		{ crash_kernel_reboots, "", 240, "panicked", "kdump" },
		{ warns, "", 241, "splat", "foo.c:10" },
		{ warns, "--on-splat warn", 0, "passed", "" },
		{ ends_without_exit, "", 245, "powered-off", "" },
		{ exits_and_is_gone, "", 7, "failed", "" },
		{ oom, "", 244, "out-of-memory", "" },
		{ sends_nonsense, "", 246, "agent-lost", "" },
		{ no_hello, "", 246, "agent-lost", "" },
		{ silent, "--timeout-boot 200ms", 124, "boot-timeout", "" },
		{ silent, "--timeout 200ms", 124, "timeout", "" },
		{ command_is_silent, "--timeout-idle 200ms", 124, "hung", "interrupts off" },
		{ command_is_silent, "--timeout-idle 200ms --idle-counts all --timeout 900ms", 124,
		  "timeout", "" },
		{ panics, "--exit strict", 1, "panicked", "" },
		{ panics, "--exit bisect --skip panicked", 125, "panicked", "" },
	};

	fake.sample = (struct verdict_sample){ .rip = 0xffffffff81000000, .interrupts = false };
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_expect_eq(run_test(cases[i].script, cases[i].words, true_command),
			     cases[i].status, "%zu: %s", i, report);
		cr_expect(reports(cases[i].verdict) && reports(cases[i].text), "%zu: %s", i,
			  report);
	}
}

Test(test, a_guest_that_does_not_power_off)
{
	test_off_ns = 300000000;
	cr_expect_eq(run_test(never_powers_off, "", true_command), 3);
	check_verdict("failed");
}

/* A vCPU that does not answer delays the verdict no longer than one that does. */
Test(test, a_hang_without_samples)
{
	uint64_t begin = clock_now_ms();

	fake.late_samples = UINT32_MAX;
	cr_expect_eq(run_test(silent, "--cpus 8 --timeout-boot 100ms", true_command), 124);
	cr_expect_lt(clock_now_ms() - begin, 20000);
}

/* A busy host has not run the vCPU in time, once. */
Test(test, a_hang_with_a_late_sample)
{
	fake.late_samples = 1;
	fake.sample.rip = 0x1234;
	cr_expect_eq(run_test(command_is_silent, "--timeout-idle 200ms", true_command), 124);
	cr_expect(reports("vCPU 0 spins with interrupts off (RIP 0x1234)"), "%s", report);
}

static enum verdict_end agent_on_serial(void)
{
	static const char noise[] = "Welcome!\r\nlogin: BBMBM";
	int fd = fake_channel();

	cr_assert_eq(write(fd, noise, sizeof(noise) - 1), sizeof(noise) - 1);
	fake_run_agent();
	return VERDICT_END_POWER_OFF;
}

Test(test, the_agent_on_a_serial_port_that_others_use)
{
	const char *const command[] = { sh_exit[0], sh_exit[1], sh_exit[2], "9", NULL };

	fake.option = "--serial";
	fake.n = 1;
	cr_assert(mkdtemp(dir));
	cr_expect_eq(run_test(agent_on_serial, "", command), 9);
}

/* What looks like a HELLO makes the session anew; the end of stdin came before. */
static enum verdict_end agent_after_a_false_hello(void)
{
	static const char noise[] = "BM\1\0\377\377\377\377";
	struct timespec nap = { .tv_nsec = 100000000 };
	int fd = fake_channel();

	nanosleep(&nap, NULL);
	cr_assert_eq(write(fd, noise, sizeof(noise) - 1), sizeof(noise) - 1);
	nanosleep(&nap, NULL);
	fake_run_agent();
	return VERDICT_END_POWER_OFF;
}

Test(test, the_end_of_stdin_before_the_agent)
{
	const char *const command[] = { "sh", "-c", "cat; exit 9", NULL };

	/* It cannot be read, which shows at once. */
	cr_assert_eq(dup2(open("/dev/null", O_WRONLY), STDIN_FILENO), STDIN_FILENO);
	fake.option = "--serial";
	fake.n = 1;
	cr_assert(mkdtemp(dir));
	cr_expect_eq(run_test(agent_after_a_false_hello, "--timeout 20s", command), 9);
}

/* --- before the machine -------------------------------------------------------------------- */

Test(test, no_kvm)
{
	fake.no_host = "/dev/kvm: not there";
	cr_expect_eq(run_test(powers_off, "", NULL), 125);
	check_verdict("error");
	cr_expect(reports("not there"));
	cr_expect_eq(run_test(powers_off, "--no-kvm skip", NULL), 0);
	check_verdict("skipped");
}

Test(test, what_cannot_be)
{
	static const struct {
		const char *words;
		int status;
		const char *text;
	} cases[] = {
		{ "--rules /no/such/file", 125, "/no/such/file" },
		{ "--rules /etc/passwd", 125, "/etc/passwd" },
		{ "--rules /dev/zero", 125, "/dev/zero: more than" },
		{ "--rules /tmp", 125, "/tmp: Is a directory" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_expect_eq(run_test(powers_off, cases[i].words, NULL), cases[i].status, "%zu", i);
		cr_expect(reports(cases[i].text), "%zu: %s", i, report);
	}
}

/* --- signals ------------------------------------------------------------------------------- */

/* As timeout(1) sends it. */
static enum verdict_end kill_by_term(void)
{
	start_command();
	for (int i = 0; i < 3; i++) {
		kill(getpid(), SIGTERM);
		usleep(5000);
	}
	fake_wait_stop();
	return VERDICT_END_STOPPED;
}

/* As timeout(1) sends it on a host that has other work: the second one comes when the machine has ended. */
static void *term_for_a_while(void *opaque)
{
	uint64_t end_ms = clock_now_ms() + 80;

	while (clock_now_ms() < end_ms) {
		kill(getpid(), SIGTERM);
		usleep(100);
	}
	return NULL;
}

static pthread_t terms;

static enum verdict_end killed_all_the_time(void)
{
	start_command();
	pthread_create(&terms, NULL, term_for_a_while, NULL);
	fake_wait_stop();
	return VERDICT_END_STOPPED;
}

Test(test, a_signal_that_comes_again_at_the_end)
{
	cr_expect_eq(run_test(killed_all_the_time, "", true_command), 143);
	pthread_join(terms, NULL);
	check_verdict("interrupted");
}

static enum verdict_end ctrl_c_twice(void)
{
	start_command();
	kill(getpid(), SIGINT);
	if (!fake_hear(WIRE_SIGNAL))
		return VERDICT_END_ERROR;
	usleep(200000);
	kill(getpid(), SIGINT);
	fake_wait_stop();
	return VERDICT_END_STOPPED;
}

static enum verdict_end ctrl_c_ends_the_command(void)
{
	start_command();
	kill(getpid(), SIGINT);
	if (!fake_hear(WIRE_SIGNAL))
		return VERDICT_END_ERROR;
	fake_exit(SIGINT, 0, 0);
	fake_hear(WIRE_ACK);
	fake_say(WIRE_BYE, 0, NULL, 0);
	return VERDICT_END_POWER_OFF;
}

static enum verdict_end ctrl_c_in_boot(void)
{
	kill(getpid(), SIGINT);
	fake_wait_stop();
	return VERDICT_END_STOPPED;
}

Test(test, signals_to_the_process)
{
	static const struct {
		enum verdict_end (*script)(void);
		int status;
		const char *verdict;
	} cases[] = {
		{ kill_by_term, 143, "interrupted" },
		{ ctrl_c_twice, 130, "interrupted" },
		{ ctrl_c_ends_the_command, 130, "signalled" },
		{ ctrl_c_in_boot, 130, "interrupted" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		usleep(150000); /* not the last one's repetition */
		cr_expect_eq(run_test(cases[i].script, "", true_command), cases[i].status, "%zu",
			     i);
		cr_expect(reports(cases[i].verdict), "%zu: %s", i, report);
	}
}

/* The first signal stops the machine; a machine that does not end delays the verdict no longer than this. */
static enum verdict_end never_ends(void)
{
	start_command();
	kill(getpid(), SIGTERM);
	sleep(40);
	return VERDICT_END_STOPPED;
}

static enum verdict_end stops_slowly(void)
{
	fake_wait_stop();
	usleep(300000);
	fake_console("[    2.000000] the last words\n");
	return VERDICT_END_STOPPED;
}

/* Only a reader that is slow misses something. */
Test(test, a_machine_that_ends_slowly_and_speaks)
{
	char words[150], got[100];

	cr_assert(mkdtemp(dir));
	fake.option = "--port";
	test_hurry_ns = 50000000;
	snprintf(words, sizeof(words), "--timeout 100ms --console %s", path_of("console"));
	cr_expect_eq(run_test(stops_slowly, words, true_command), 124);
	slurp("console", got, sizeof(got));
	cr_expect_str_eq(got, "[    2.000000] the last words\n");
}

/* The process is to end by itself, without a return of the command. */
static int status_of_process(enum verdict_end (*script)(void))
{
	pid_t pid;
	int status;

	cr_assert(mkdtemp(dir));
	fake.option = "--port";
	pid = fork();
	if (!pid) {
		run_test(script, "", true_command);
		_exit(99);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Test(test, a_machine_that_does_not_end)
{
	test_stop_ns = 300000000;
	cr_expect_eq(status_of_process(never_ends), 143);
	slurp("verdict", report, sizeof(report));
	check_verdict("interrupted");
}

static enum verdict_end does_not_stop(void)
{
	kill(getpid(), SIGTERM);
	fake_wait_stop();
	usleep(200000);
	kill(getpid(), SIGTERM);
	sleep(30);
	return VERDICT_END_STOPPED;
}

Test(test, the_second_signal_ends_the_process)
{
	cr_expect_eq(status_of_process(does_not_stop), 143);
}
