/* list_words: the words of the lists of system calls (*.calls), for tools/mkfilters and the test of its filters. */
#ifndef BANTAM_CONFINE_LIST_WORDS_H
#define BANTAM_CONFINE_LIST_WORDS_H

/* What conditions name. */
#include <asm/termbits.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/vhost.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "vmm/core/calls.h"
#include "vmm/core/thread.h"

/* Kinds of threads, in the low half. */
#define VCPU (1u << THREAD_VCPU)
#define LOOP (1u << THREAD_LOOP)
#define IO (1u << THREAD_IO)
#define WORKER (1u << THREAD_WORKER)
#define SIGNALS (1u << THREAD_PROCESS)
#define TEST (1u << THREAD_TEST)
#define MACHINE (1u << THREAD_MACHINE)
#define API (1u << THREAD_API)
#define EXECUTOR (1u << THREAD_EXECUTOR)
#define ALL (VCPU | LOOP | IO | WORKER | SIGNALS | TEST | MACHINE | API)

/* Of LOOP and IO only in a VM with one of these parts, in the high half; none: in each VM. */
#define DISK ((unsigned)CALLS_DISK << 16)
#define NET ((unsigned)CALLS_NET << 16)
#define VSOCK ((unsigned)CALLS_VSOCK << 16)
#define DAEMON ((unsigned)CALLS_DAEMON << 16)
/* Of WORKER only. */
#define BLOCK ((unsigned)CALLS_BLOCK << 16)
#define STDIO ((unsigned)CALLS_STDIO << 16)

/* Returns whether a line with these words is in the filter of a thread of this kind, in a VM of these CALLS_… */
static inline int list_has(unsigned words, unsigned kind, unsigned parts)
{
	unsigned of = words >> 16;

	return words >> kind & 1 && (!of || of & parts);
}

/* Returns the parts that the filter of this kind has in a VM of these: all but those by which the kind varies. */
static inline unsigned list_parts(unsigned kind, unsigned parts)
{
	unsigned by = 0;

	if (1u << kind & (LOOP | IO))
		by = CALLS_DISK | CALLS_NET | CALLS_VSOCK | CALLS_DAEMON;
	if (1u << kind & WORKER)
		by = CALLS_BLOCK | CALLS_STDIO;
	return parts | (CALLS_ALL & ~by);
}

#endif
