/* idle: prints that it runs, then sleeps forever. The memory benchmark measures its monitor. */
#include "guest/bare/lib/blk.h"
#include "guest/bare/lib/rt.h"

static struct blk b;
static uint8_t sector[512];

void main(void)
{
	/* Uses the disk once, if there is one, so that the monitor has its queues and buffers. */
	if (blk_find(&b, 0) && blk_start(&b, b.offered, 64, NO_VECTOR))
		for (unsigned i = 0; i < 16; i++)
			blk_io(&b, BLK_IN, i, sector, sizeof(sector));
	rt_print("idle\n");
	rt_halt();
}
