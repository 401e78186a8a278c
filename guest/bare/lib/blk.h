/* blk: a small polling virtio-blk driver (virtio 1.2, section 5.2). */
#ifndef GUEST_BLK_H
#define GUEST_BLK_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/bare/lib/virtio.h"

#define BLK_F_RO (1ull << 5)
#define BLK_F_FLUSH (1ull << 9)
#define BLK_F_MQ (1ull << 12)
#define BLK_F_DISCARD (1ull << 13)
#define BLK_F_WRITE_ZEROES (1ull << 14)

#define BLK_IN 0
#define BLK_OUT 1
#define BLK_FLUSH 4
#define BLK_GET_ID 8
#define BLK_DISCARD 11
#define BLK_WRITE_ZEROES 13

#define BLK_S_OK 0
#define BLK_S_IOERR 1
#define BLK_S_UNSUPP 2
#define BLK_NO_ANSWER -1

struct blk_header {
	uint32_t type, reserved;
	uint64_t sector;
};
struct blk_range {
	uint64_t sector;
	uint32_t nsectors, flags;
};

struct blk {
	struct vio v;
	struct ring r;
	uint64_t offered;
	uint64_t nsectors;
	struct blk_header header;
	volatile uint8_t status;
};

/* Finds the nth disk. Returns false if there is none. */
bool blk_find(struct blk *b, unsigned nth);
/* (Re)starts the disk: reset, features, queue 0 with size entries, DRIVER_OK. */
bool blk_start(struct blk *b, uint64_t features, unsigned size, unsigned vector);
/* Makes one request and waits. Returns its status byte, or BLK_NO_ANSWER. */
int blk_io(struct blk *b, uint32_t type, uint64_t sector, void *data, uint32_t len_bytes);

#endif
