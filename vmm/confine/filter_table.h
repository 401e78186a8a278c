/* filter_table: what tools/mkfilters writes and filter.c reads. */
#ifndef BANTAM_CONFINE_FILTER_TABLE_H
#define BANTAM_CONFINE_FILTER_TABLE_H

#include <stdint.h>

/* In a filter, in place of the process's own number: no process has this one (PID_MAX_LIMIT is 4 million). */
#define FILTER_PID 0x7e57c0de

/* A part of filter_insn. */
struct filter {
	uint16_t first, len;
};

#endif
