/* progress: one line of a terminal that shows how far a command has come. One thread. */
#ifndef BANTAM_PROGRESS_H
#define BANTAM_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	bool on;
	bool shown;
	uint64_t total_bytes;
	double began_s, shown_s; /* clock_now_s() */
};

/* how: "on", "off", or NULL or "auto": on if standard error is a terminal. Else -EINVAL. */
int progress_start(struct progress *p, const char *how, uint64_t total_bytes);
/* position: of total_bytes; bytes: those copied without the holes, for the speed. */
void progress_show(struct progress *p, uint64_t position, uint64_t bytes);
/* The same for a caller that calls often: shows it ten times a second, and nothing of what ends before. */
void progress_tick(struct progress *p, uint64_t position, uint64_t bytes);
/* Removes the line. */
void progress_end(struct progress *p);

#endif
