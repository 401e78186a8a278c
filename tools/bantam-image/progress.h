/* progress: one line of a terminal that tells how far a command is. One thread. */
#ifndef BANTAM_IMAGE_PROGRESS_H
#define BANTAM_IMAGE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	bool on;
	bool shown;
	uint64_t total_bytes;
	double began_s; /* clock_now_s() */
};

/* how: "on", "off", NULL or "auto": if standard error is a terminal. -EINVAL: none of them. */
int progress_start(struct progress *p, const char *how, uint64_t total_bytes);
/* position: of total_bytes; bytes: what was really copied, for the speed. */
void progress_show(struct progress *p, uint64_t position, uint64_t bytes);
/* Removes the line. */
void progress_end(struct progress *p);

#endif
