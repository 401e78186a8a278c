/*
 * attacks: what code of an attacker tries. One table; each row is refused in each thread of a VM, and in each helper but
 * those that the row names.
 */
#ifndef ATTACK_ATTACKS_H
#define ATTACK_ATTACKS_H

#include <linux/filter.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "tests/attack/inject.h"

/* Who makes the call; bits, since a row names those that may. */
enum target {
	VCPU = 1 << 0,
	LOOP = 1 << 1,
	IO = 1 << 2,
	WORKER = 1 << 3,
	SIGNALS = 1 << 4,
	NET = 1 << 5,	 /* bantam-net-user */
	READER = 1 << 6, /* its reader of resolv.conf */
	FS = 1 << 7,	 /* bantam-fs */
	IMAGE = 1 << 8,
	SEED = 1 << 9,
	TEST = 1 << 10,	    /* the first thread of bantam test */
	MACHINE = 1 << 11,  /* does errands of vCPUs, and ends the machine */
	API = 1 << 12,	    /* the first thread of a process with the API */
	EXECUTOR = 1 << 13, /* its thread that makes machines, and those that read files for it */
	CONTROL = 1 << 14,  /* a process that has given up nothing */
};
const char *attack_target_name(unsigned target);

/* What is in the attacker's memory; each attack has it anew. */
struct block {
	char marker[160], program[16], empty[8], root[8], proc[32], link[32], through[200],
		folder[160], unborn[160], name[8], passwd[16];
	uint64_t argv[2];
	struct sockaddr_in tcp, udp, wildcard;
	struct sockaddr_un abstract, path;
	socklen_t abstract_len;
	struct iovec here, there;
	struct msghdr msg;
	struct sock_filter allow[1];
	struct sock_fprog filter;
	uint64_t clone_args[8], how[3];
	uint32_t cap_header[2], cap_data[6];
	uint32_t perf[32], uring[30], bpf[32];
	uint64_t action[4];
	char ifreq[40], handle[24];
	uint64_t cpus[16], limits[2];
	uint32_t one, zero;
	char out[640];
};

/* Arguments that are known only then. A call's pointer is B(field). */
#define SPECIAL (1l << 60)
#define B(field) (2 * SPECIAL + (long)offsetof(struct block, field))
enum special {
	RES = SPECIAL, /* what the step before has returned */
	OTHER,	       /* a process of the same user on the host */
	SELF,	       /* the process itself */
	FD_ANY,	       /* any descriptor of it */
	FD_SOCKET,
	FD_VM, /* KVM's */
	FD_VCPU,
	FD_TUN,
	FD_EVENT,
	FD_PROC, /* a folder of /proc */
	PAGE,	 /* a page of its memory */
};

#define STEPS 3

struct attack {
	const char *what;
	struct {
		long nr; /* -1: none */
		long arg[6];
	} step[STEPS];
	unsigned may; /* targets in which the last step may succeed; the reason stands beside it */
	unsigned flags;
	unsigned without; /* targets in which it may succeed where there are no namespaces */
	unsigned old;	  /* the same, where there is no Landlock */
};
enum {
	WORKS = 1, /* an unconfined process of root can */
	FATAL = 2, /* the process is killed without a handler */
	X32 = 4,
	I386 = 8,
};

extern const struct attack attacks[];
extern const unsigned nattacks;

/* These, and those of sweep.c. build: the folder of mkfilters. Returns false if it does not say what is listed. */
bool attacks_begin(const char *build);
unsigned attacks_count(void);
const struct attack *attacks_at(unsigned i);

/* What the special values mean for one target. */
struct facts {
	pid_t self, other;
	int any, socket, vm, vcpu, tun, event, proc;
	struct block block; /* as it is written; pointers in it are offsets of the block */
};

/* Makes the attack's calls, to the first that does not succeed. */
struct outcome attack_make(const struct attack *a, const struct victim *v, const struct facts *f);

/* Whether it has come to nothing: SIGSYS, or an error that says no. */
bool attack_refused(const struct outcome *o);
/* "-EPERM", "SIGSYS", "3" … into text. */
const char *attack_text(const struct outcome *o, char text[40]);

#endif
