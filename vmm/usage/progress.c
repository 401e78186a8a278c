/* progress: see progress.h. */
#include "vmm/usage/progress.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/core/clock.h"

#define BAR 30
#define TICK_S 0.1

int progress_start(struct progress *p, const char *how, uint64_t total_bytes)
{
	*p = (struct progress){ .total_bytes = total_bytes };
	if (!how || !strcmp(how, "auto"))
		p->on = isatty(STDERR_FILENO);
	else if (!strcmp(how, "on"))
		p->on = true;
	else if (strcmp(how, "off"))
		return -EINVAL;
	p->began_s = p->shown_s = clock_now_s();
	return 0;
}

void progress_show(struct progress *p, uint64_t position, uint64_t bytes)
{
	double part = p->total_bytes ? (double)position / (double)p->total_bytes : 1;
	double seconds, left;
	char bar[BAR + 1];

	if (!p->on)
		return;
	seconds = clock_now_s() - p->began_s;
	if (seconds <= 0)
		seconds = 1e-9;
	for (int i = 0; i < BAR; i++)
		bar[i] = (i + 1) <= (int)(part * BAR) ? '#' : '.';
	bar[BAR] = '\0';
	left = part > 0 ? seconds / part - seconds : 0;
	fprintf(stderr, "\r[%s] %3d %%  %.0f MiB/s  %u:%02u left \033[K", bar, (int)(part * 100),
		(double)bytes / 1048576 / seconds, (unsigned)left / 60, (unsigned)left % 60);
	fflush(stderr);
	p->shown = true;
}

void progress_tick(struct progress *p, uint64_t position, uint64_t bytes)
{
	double now = p->on ? clock_now_s() : 0;

	if (!p->on || now - p->shown_s < TICK_S)
		return;
	p->shown_s = now;
	progress_show(p, position, bytes);
}

void progress_end(struct progress *p)
{
	if (p->shown)
		fprintf(stderr, "\r\033[K");
	p->shown = false;
}
