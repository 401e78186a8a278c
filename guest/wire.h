/*
 * wire: what the agent in a guest (guest/agent.c) and the host (vmm/agent) send each other.
 *
 * One stream of bytes in each direction: a virtio-console port with the name WIRE_PORT, or the second
 * serial port of a kernel that has no virtio-console. It carries frames; all numbers are
 * little-endian:
 *
 *	bytes  0..1  WIRE_MAGIC
 *	       2     type
 *	       3     stream, 0 for types that have none
 *	       4..7  bytes of payload, at most WIRE_PAYLOAD_MAX
 *	       8..   payload
 *
 * The agent sends HELLO first, when its end is open and raw; the host sends nothing before. Then the
 * host sends either START, with what START names in the stream WIRE_SPEC, or BYE. The agent answers START
 * with STARTED or REFUSED, later EXIT. It powers the machine off only after the host's ACK of EXIT or
 * REFUSED, or after the host's BYE; its own BYE is its last frame.
 *
 * Credit. A sender may have WIRE_WINDOW bytes of DATA of one stream on the way, and as many more as
 * WINDOW frames of the receiver grant: a receiver that is stuck with one stream holds up neither the
 * others nor EXIT. EOF ends a stream. EXIT may come while streams still carry data: the
 * command's children may hold its pipes. The agent waits a moment for them and then sends each EOF, at
 * the latest before its BYE.
 *
 * What an agent of a newer version adds at the end of a payload is ignored. Needs no libc.
 */
#ifndef GUEST_WIRE_H
#define GUEST_WIRE_H

#include <stdint.h>

#define WIRE_VERSION 1u
#define WIRE_PORT "org.bantam.agent"

#define WIRE_MAGIC 0x4d42u /* "BM" */
#define WIRE_HEADER_BYTES 8u
#define WIRE_PAYLOAD_MAX (16u << 10)
#define WIRE_WINDOW (64u << 10)

enum wire_stream {
	WIRE_STDIN,  /* to the guest */
	WIRE_STDOUT, /* to the host; with WIRE_START_TTY all output of the terminal */
	WIRE_STDERR, /* to the host */
	WIRE_KMSG,   /* to the host: records as /dev/kmsg gives them, each with its newline */
	WIRE_SPEC,   /* to the guest: what START says */
	WIRE_STREAMS,
};

enum wire_type {
	WIRE_HELLO = 1, /* to the host: see WIRE_HELLO_* */
	WIRE_START,	/* to the guest: see WIRE_START_* */
	WIRE_STARTED,	/* to the host: u32 pid */
	WIRE_REFUSED,	/* to the host: u32 step (enum wire_step), u32 errno */
	WIRE_EXIT,	/* to the host: see WIRE_EXIT_* */
	WIRE_ACK,	/* to the guest: EXIT or REFUSED has arrived */
	WIRE_DATA,	/* both: bytes of a stream, at least one */
	WIRE_EOF,	/* both: the end of a stream */
	WIRE_GRANT, /* both: u32 bytes more of this stream, the sender of which is the other side */
	WIRE_SIGNAL,  /* to the guest: u32 number, for the command's process group */
	WIRE_WINSIZE, /* to the guest: u16 rows, u16 columns */
	WIRE_PING,    /* to the guest: u64 */
	WIRE_PONG,    /* to the host: the same u64 */
	WIRE_NOTE,    /* to the host: text of something that the agent could not do, and went on */
	WIRE_BYE,     /* to the guest: power off, no command comes. To the host: the last frame */
	WIRE_TYPES,
};

/* Offsets in HELLO. The kernel's release follows, without a NUL, at most WIRE_RELEASE_MAX bytes. */
#define WIRE_HELLO_VERSION 0	/* u32 */
#define WIRE_HELLO_REALTIME 8	/* u64, ns: CLOCK_REALTIME */
#define WIRE_HELLO_MONOTONIC 16 /* u64, ns: CLOCK_MONOTONIC, that of the log */
#define WIRE_HELLO_COREINFO 24	/* u64: address of vmcoreinfo (/sys/kernel/vmcoreinfo), 0: none */
#define WIRE_HELLO_COREINFO_LEN 32 /* u64, bytes */
#define WIRE_HELLO_TAINT 40	   /* u64: /proc/sys/kernel/tainted */
#define WIRE_HELLO_BYTES 48
#define WIRE_RELEASE_MAX 64u

/*
 * Offsets in START. WIRE_SPEC then carries NUL-terminated strings: argc arguments, envc variables, the
 * working directory, the user's name or number, the host name.
 */
#define WIRE_START_FLAGS 0 /* u32: WIRE_START_TTY */
#define WIRE_START_ARGC 4  /* u32, at least 1 */
#define WIRE_START_ENVC 8  /* u32 */
#define WIRE_START_LEN 12  /* u32: bytes in WIRE_SPEC, at most WIRE_SPEC_MAX */
#define WIRE_START_ROWS 16 /* u16, of the terminal */
#define WIRE_START_COLS 18 /* u16 */
#define WIRE_START_BYTES 20
#define WIRE_START_TTY 1u
#define WIRE_SPEC_MAX (4u << 20)

/* What the agent was at when the command could not be started. */
enum wire_step {
	WIRE_STEP_SPEC = 1, /* START is wrong or too large */
	WIRE_STEP_USER,
	WIRE_STEP_CWD,
	WIRE_STEP_TTY,
	WIRE_STEP_FORK,
	WIRE_STEP_EXEC, /* ENOENT: not found; EACCES, ENOEXEC: not executable */
};

/* Offsets in EXIT. */
#define WIRE_EXIT_STATUS 0     /* u32, as wait(2) gives it */
#define WIRE_EXIT_UTIME 8      /* u64, us, of the command and its children */
#define WIRE_EXIT_STIME 16     /* u64, us */
#define WIRE_EXIT_MAXRSS 24    /* u64, KiB */
#define WIRE_EXIT_MINFLT 32    /* u64 */
#define WIRE_EXIT_MAJFLT 40    /* u64 */
#define WIRE_EXIT_TAINT 48     /* u64 */
#define WIRE_EXIT_OOM_KILLS 56 /* u64: /proc/vmstat's oom_kill */
#define WIRE_EXIT_BYTES 64

#endif
