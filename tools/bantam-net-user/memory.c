/*
 * memory: see memory.h.
 *
 * Theory of operation. What is allocated is looked at once in LOOK_FRAMES frames, since a look walks
 * through malloc's free lists. Between two looks libslirp can keep LOOK_FRAMES packets of 64 KiB, or
 * 4 MiB, and the reserve below the limit is larger. It is also for what malloc has and cannot use.
 */
#include "tools/bantam-net-user/memory.h"

#include <malloc.h>
#include <stdint.h>
#include <sys/resource.h>

#include "vmm/core/clock.h"
#include "vmm/core/log.h"

#define LOOK_FRAMES 64u
#define LOOK_MS 100u		  /* while frames are dropped */
#define RESERVE_BYTES (64u << 20) /* or a quarter of the limit */
#define TELL_MS 60000u		  /* between two lines of the log */

static struct {
	uint64_t most;	  /* above: drop; 0: no limit */
	unsigned nframes; /* since the last look */
	bool full;
	uint64_t looked_ms, told_ms;
} me;

void memory_begin(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_DATA, &r) || r.rlim_cur == RLIM_INFINITY)
		return;
	me.most = r.rlim_cur - (r.rlim_cur / 4 < RESERVE_BYTES ? r.rlim_cur / 4 : RESERVE_BYTES);
}

static void look(void)
{
	struct mallinfo2 m = mallinfo2();
	uint64_t now = clock_now_ms();

	me.nframes = 0;
	me.looked_ms = now;
	me.full = m.uordblks + m.hblkhd > me.most;
	if (!me.full || (me.told_ms && now - me.told_ms < TELL_MS))
		return;
	me.told_ms = now;
	log_put(LOG_WARN,
		"user network: incomplete packets and connections of the guest take %llu bytes: its "
		"packets are dropped until there are fewer",
		(unsigned long long)me.most);
}

bool memory_takes_frame(void)
{
	if (!me.most)
		return true;
	if (++me.nframes >= LOOK_FRAMES || (me.full && clock_now_ms() - me.looked_ms >= LOOK_MS))
		look();
	return !me.full;
}
