/*
 * peers: what the start of a VM by the API costs, of several programs that take turns.
 *
 *   peers DIR ROUNDS GUESTS LABEL PROGRAM [LABEL PROGRAM…]
 *
 * GUESTS is the folder of hello.elf, whose first instruction writes "!" to the serial port, and idle.elf.
 * Prints for each program: label, medians of the times in ms from exec to the first answered vmm.ping and from
 * sending vm.create to the first byte in the serial port's file (vm.create, vm.boot, the guest), and MiB: PSS of
 * the process without guest RAM, while an idle guest of 128 MiB runs.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/api/client.h"

#define CALL_MS 5000
#define RAM_KIB (128ul << 10)
#define ROUNDS_MAX 1000
#define PEERS_MAX 4
#define MAPPINGS_MAX 4096

static struct {
	const char *label, *program;
	double ping[ROUNDS_MAX], boot[ROUNDS_MAX], pss_mib;
} peer[PEERS_MAX];

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* PSS of all mappings but guest RAM: the neighbouring ones that add up to exactly its size. */
static double pss_without_ram(pid_t pid)
{
	static struct {
		unsigned long from, to, pss_kib;
	} map[MAPPINGS_MAX];
	char path[64], line[4096];
	unsigned n = 0;
	unsigned long sum = 0;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	FILE *f = fopen(path, "r");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		unsigned long from, to;
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2 && n < MAPPINGS_MAX) {
			map[n].from = from;
			map[n].to = to;
			map[n++].pss_kib = 0;
		} else if (n) {
			sscanf(line, "Pss: %lu kB", &map[n - 1].pss_kib);
		}
	}
	fclose(f);
	for (unsigned i = 0; i < n; i++) {
		unsigned long size = 0;
		unsigned j = i;
		while (j < n && (j == i || map[j].from == map[j - 1].to) && size < RAM_KIB)
			size += (map[j].to - map[j].from) >> 10, j++;
		if (size == RAM_KIB) {
			for (; i < j; i++)
				map[i].pss_kib = 0;
			break;
		}
		if (i == n - 1)
			note("no guest RAM of %lu KiB in /proc/%d/smaps", RAM_KIB, (int)pid);
	}
	for (unsigned i = 0; i < n; i++)
		sum += map[i].pss_kib;
	return (double)sum / 1024;
}

static bool has_bytes(const char *path)
{
	struct stat st;

	return !stat(path, &st) && st.st_size > 0;
}

/* Starts a process and a VM in it. Returns false if an answer is not what it must be. */
static bool start_vm(struct process *p, const char *program, const char *dir, const char *guests,
		     const char *kernel, double *ping_ms, double *boot_ms)
{
	char path[4096], log[4096], serial[4096], body[16384];
	struct conn c = { .fd = -1 };
	struct answer a = { 0 };

	snprintf(path, sizeof(path), "%s/peer.sock", dir);
	snprintf(log, sizeof(log), "%s/peer.log", dir);
	snprintf(serial, sizeof(serial), "%s/peer.serial", dir);
	snprintf(body, sizeof(body),
		 "{\"payload\":{\"kernel\":\"%s/%s\"},\"memory\":{\"size\":%lu},"
		 "\"serial\":{\"mode\":\"File\",\"file\":\"%s\"},\"console\":{\"mode\":\"Off\"}}",
		 guests, kernel, RAM_KIB << 10, serial);
	unlink(serial);
	unlink(path);
	process_start(p, program, path, log, NULL);
	for (double until = now_ms() + CALL_MS; now_ms() < until && a.status != 200;
	     sleep_ms(0.05)) {
		conn_close(&c);
		call_once(path, "GET", "vmm.ping", NULL, CALL_MS, &c, &a);
	}
	*ping_ms = now_ms() - p->exec_ms;
	double began = now_ms();
	if (a.status == 200)
		conn_call(&c, "PUT", "vm.create", body, CALL_MS, &a);
	if (a.status == 204)
		conn_call(&c, "PUT", "vm.boot", NULL, CALL_MS, &a);
	for (double until = now_ms() + CALL_MS; now_ms() < until && !has_bytes(serial);)
		sleep_ms(0.02);
	*boot_ms = now_ms() - began;
	conn_close(&c);
	return a.status == 204 && has_bytes(serial);
}

static void end(struct process *p)
{
	double at;

	kill(p->pid, SIGKILL);
	process_wait(p, CALL_MS, &at);
}

int cmd_peers(int argc, char **argv)
{
	unsigned rounds = argc > 5 ? (unsigned)atoi(argv[2]) : 0, n = 0;
	double ping, boot;
	struct process p;

	if (!rounds || rounds > ROUNDS_MAX || argc % 2 || argc > 4 + 2 * PEERS_MAX)
		die("peers DIR ROUNDS GUESTS LABEL PROGRAM…");
	for (int i = 4; i < argc; i += 2, n++) {
		peer[n].label = argv[i];
		peer[n].program = argv[i + 1];
	}
	/* If allowed: other work on the host disturbs less. The children inherit it. */
	setpriority(PRIO_PROCESS, 0, -15);
	for (unsigned r = 0; r < rounds; r++)
		for (unsigned i = 0; i < n; i++) {
			unsigned k = (i + r) % n; /* a new order in each round */
			if (!start_vm(&p, peer[k].program, argv[1], argv[3], "hello.elf",
				      &peer[k].ping[r], &peer[k].boot[r]))
				die("%s: no VM", peer[k].label);
			end(&p);
		}
	for (unsigned i = 0; i < n; i++) {
		if (!start_vm(&p, peer[i].program, argv[1], argv[3], "idle.elf", &ping, &boot))
			die("%s: no VM", peer[i].label);
		sleep_ms(500);
		peer[i].pss_mib = pss_without_ram(p.pid);
		end(&p);
		qsort(peer[i].ping, rounds, sizeof(double), compare);
		qsort(peer[i].boot, rounds, sizeof(double), compare);
		printf("%s %.2f %.2f %.2f\n", peer[i].label, peer[i].ping[rounds / 2],
		       peer[i].boot[rounds / 2], peer[i].pss_mib);
	}
	return 0;
}
