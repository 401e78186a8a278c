/*
 * ping, blocked and crowd: times from exec, a KVM device that does not answer, and many processes that
 * end at once.
 *
 *   ping PROGRAM DIR ROUNDS                 exec to the first answered vmm.ping: prints the median
 *   blocked PROGRAM DIR KERNEL              the API while an open of /dev/kvm does not return
 *   crowd PROGRAM DIR N [KERNEL]            N processes get vmm.shutdown, every other one with a VM
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/api/client.h"

#define PING_MS 20    /* from exec to the answer, on an idle machine */
#define PROMPT_MS 100 /* vmm.ping, vm.info and vm.counters, at any time */
#define CALL_MS 5000
#define CROWD_MAX 256

static void stop(struct process *p, const char *path)
{
	struct conn c;
	struct answer a;
	double end;

	call_once(path, "PUT", "vmm.shutdown", NULL, CALL_MS, &c, &a);
	conn_close(&c);
	if (p->pid > 0 && process_wait(p, CALL_MS, &end) < 0) {
		kill(p->pid, SIGKILL);
		process_wait(p, CALL_MS, &end);
	}
}

/* Tries to connect until the process accepts. Returns the time of the answered ping, or 0. */
static double first_ping(const char *path, double limit_ms)
{
	struct conn c;
	struct answer a;

	for (double until = now_ms() + limit_ms; now_ms() < until; sleep_ms(0.1)) {
		if (call_once(path, "GET", "vmm.ping", NULL, CALL_MS, &c, &a))
			continue;
		double at = now_ms();
		conn_close(&c);
		return a.status == 200 ? at : 0;
	}
	return 0;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int cmd_ping(int argc, char **argv)
{
	unsigned rounds = argc == 4 ? (unsigned)atoi(argv[3]) : 0;
	char path[4096], log[4096];
	double *took = calloc(rounds + 1, sizeof(*took));

	if (!rounds || !took)
		die("ping PROGRAM DIR ROUNDS");
	snprintf(path, sizeof(path), "%s/ping.sock", argv[2]);
	snprintf(log, sizeof(log), "%s/ping.log", argv[2]);
	for (unsigned i = 0; i < rounds; i++) {
		struct process p;
		process_start(&p, argv[1], path, log, NULL);
		double at = first_ping(path, CALL_MS);
		took[i] = at ? at - p.exec_ms : CALL_MS;
		stop(&p, path);
	}
	qsort(took, rounds, sizeof(*took), compare);
	note("exec to ping: least %.2f ms, median %.2f ms, most %.2f ms of %u", took[0],
	     took[rounds / 2], took[rounds - 1], rounds);
	check(took[rounds / 2] <= PING_MS, "time: a ping is answered within %d ms of exec",
	      PING_MS);
	return check_failures() ? 1 : 0;
}

/* The answer must come while the vm.boot of another connection waits for KVM. */
static void prompt(const char *path, const char *endpoint, int status)
{
	struct conn c;
	struct answer a;
	double began = now_ms();

	call_once(path, "GET", endpoint, NULL, CALL_MS, &c, &a);
	double took = now_ms() - began;
	if (!check(a.status == status, "%s while KVM blocks: %d", endpoint, status))
		note("status %d", a.status);
	check(took <= PROMPT_MS, "time: %s while KVM blocks, within %d ms", endpoint, PROMPT_MS);
	conn_close(&c);
}

int cmd_blocked(int argc, char **argv)
{
	static struct process p;
	char path[4096], log[4096], body[8192];
	struct conn c, boot;
	struct answer a;
	double end;

	if (argc != 4)
		die("blocked PROGRAM DIR KERNEL");
	snprintf(path, sizeof(path), "%s/blocked.sock", argv[2]);
	snprintf(log, sizeof(log), "%s/blocked.log", argv[2]);
	snprintf(body, sizeof(body),
		 "{\"payload\":{\"kernel\":\"%s\"},\"memory\":{\"size\":67108864},"
		 "\"console\":{\"mode\":\"Off\"}}",
		 argv[3]);
	process_start_watched(&p, argv[1], path, log);
	double at = first_ping(path, CALL_MS);
	if (!check(at > 0, "a ping is answered while KVM blocks")) {
		kill(p.pid, SIGKILL);
		return 1;
	}
	note("KVM is %s before the first ping, %.1f ms after exec",
	     atomic_load(&p.kvm_held) ? "opened" : "not opened", at - p.exec_ms);
	call_once(path, "PUT", "vm.create", body, CALL_MS, &c, &a);
	check(a.status == 204, "vm.create while KVM blocks: 204");
	conn_close(&c);
	if (!check(!conn_open(&boot, path), "the socket accepts")) {
		kill(p.pid, SIGKILL);
		return 1;
	}
	static const char request[] = "PUT /api/v1/vm.boot HTTP/1.1\r\nHost: localhost\r\n\r\n";
	conn_send(&boot, request, sizeof(request) - 1, NULL, 0);
	for (double until = now_ms() + CALL_MS; !atomic_load(&p.kvm_held) && now_ms() < until;)
		sleep_ms(1);
	check(atomic_load(&p.kvm_held), "vm.boot opens KVM, which blocks");
	prompt(path, "vmm.ping", 200);
	prompt(path, "vm.info", 200);
	prompt(path, "vm.counters", 409);
	double began = now_ms();
	call_once(path, "PUT", "vmm.shutdown", NULL, CALL_MS, &c, &a);
	check(a.status == 200, "vmm.shutdown while vm.boot runs: 200");
	int status = process_wait(&p, CALL_MS, &end);
	check(status == 0, "the process ends with status 0");
	check(end - began < 2000, "time: within 2 s");
	if (status == -1)
		kill(p.pid, SIGKILL);
	else
		note("%.1f ms from vmm.shutdown to the end", end - began);
	conn_receive(&boot, PARSER_HYPER, 100, &a);
	check(a.status != 0, "the client that waits for vm.boot gets an answer");
	conn_close(&boot);
	conn_close(&c);
	return check_failures() ? 1 : 0;
}

int cmd_crowd(int argc, char **argv)
{
	static struct process p[CROWD_MAX];
	static struct conn c[CROWD_MAX];
	unsigned n = argc >= 4 ? (unsigned)atoi(argv[3]) : 0, answers = 0, ends = 0, booted = 0;
	char path[4096], log[4096], body[8192];
	struct answer a;

	if (!n || n > CROWD_MAX)
		die("crowd PROGRAM DIR N [KERNEL]");
	snprintf(log, sizeof(log), "%s/crowd.log", argv[2]);
	for (unsigned i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/crowd%u.sock", argv[2], i);
		process_start(&p[i], argv[1], path, log, NULL);
	}
	snprintf(body, sizeof(body),
		 "{\"payload\":{\"kernel\":\"%s\"},\"memory\":{\"size\":33554432},"
		 "\"console\":{\"mode\":\"Off\"}}",
		 argc > 4 ? argv[4] : "");
	for (unsigned i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/crowd%u.sock", argv[2], i);
		if (!first_ping(path, 30000) || conn_open(&c[i], path))
			die("crowd: process %u does not answer", i);
		if (argc < 5 || i % 2)
			continue;
		conn_call(&c[i], "PUT", "vm.create", body, 30000, &a);
		if (a.status == 204)
			conn_call(&c[i], "PUT", "vm.boot", NULL, 30000, &a);
		booted += a.status == 204;
	}
	if (argc > 4)
		check(booted == (n + 1) / 2, "every other one of %u processes runs a VM", n);
	static const char request[] =
		"PUT /api/v1/vmm.shutdown HTTP/1.1\r\nHost: localhost\r\n\r\n";
	for (unsigned i = 0; i < n; i++)
		conn_send(&c[i], request, sizeof(request) - 1, NULL, 0);
	double began = now_ms(), end;
	for (unsigned i = 0; i < n; i++) {
		conn_receive(&c[i], PARSER_HYPER, 30000, &a);
		answers += a.status == 200;
	}
	for (unsigned i = 0; i < n; i++) {
		int status = process_wait(&p[i], 30000, &end);
		ends += status == 0;
		if (status == -1)
			kill(p[i].pid, SIGKILL);
		conn_close(&c[i]);
	}
	note("%.0f ms for %u processes", now_ms() - began, n);
	check(answers == n, "%u of %u processes answer 200", answers, n);
	check(ends == n, "%u of %u processes end with status 0", ends, n);
	return check_failures() ? 1 : 0;
}
