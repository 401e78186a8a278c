/*
 * hole: the registers of a device that a test build has (tests/attack/hole): a mistake of a device as an attacker would
 * like to find it. All ports are of 4 bytes.
 */
#ifndef GUEST_HOLE_H
#define GUEST_HOLE_H

#include <stdint.h>

#define HOLE_PORT 0x5a0
#define HOLE_PORTS 32

/* An address of the monitor's memory, and the 4 bytes there: the guest reads what it likes, and writes. */
#define HOLE_ADDRESS 0
#define HOLE_ADDRESS_HIGH 4
#define HOLE_DATA 8
/* Read: where struct hole is. */
#define HOLE_WHERE 12
#define HOLE_WHERE_HIGH 16
/* Written: a thread calls hole.fn with the arguments. Read: how many calls have come back. */
#define HOLE_CALL 20

enum hole_thread { HOLE_VCPU, HOLE_LOOP, HOLE_WORKER, HOLE_THREADS };

struct hole {
	uint64_t fn;	 /* a pointer to a function, which the guest overwrites ... */
	uint64_t gadget; /* ... for instance with this one: syscall(2) */
	uint64_t arg[7];
	int64_t result;
	uint8_t page[4096] __attribute__((aligned(4096)));
};

#endif
