/*
 * frame: frames of the agent's channel (wire.h), from bytes and to bytes, for both ends.
 *
 * The other end is not trusted: the decoder holds one frame at most, checks every length before it is
 * used, and after the first mistake gives nothing more. It looks at no payload. Needs no libc. Pure; any
 * thread, one at a time.
 */
#ifndef GUEST_FRAME_H
#define GUEST_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "guest/wire.h"
#include "vmm/core/bytes.h"

struct wire_frame {
	uint8_t type;	/* 1 to WIRE_TYPES - 1 */
	uint8_t stream; /* less than WIRE_STREAMS */
	uint32_t len;	/* bytes of payload */
	const uint8_t *payload;
};

/* All zero is a decoder at the beginning. */
struct wire_decoder {
	const char *why; /* the mistake; NULL: none yet */
	uint32_t have;	 /* bytes in buf */
	uint8_t buf[WIRE_HEADER_BYTES + WIRE_PAYLOAD_MAX];
};

static inline const char *wire_header_mistake(const uint8_t *header)
{
	if (get_le16(header) != WIRE_MAGIC)
		return "its channel carries something else than frames";
	if (!header[2] || header[2] >= WIRE_TYPES)
		return "it sent a frame of a type that does not exist";
	if (header[3] >= WIRE_STREAMS)
		return "it sent a frame of a stream that does not exist";
	if (get_le32(header + 4) > WIRE_PAYLOAD_MAX)
		return "it sent a frame that is too long";
	return NULL;
}

/* Copies bytes until the buffer holds want. Returns how many it took. */
static inline size_t wire_gather(struct wire_decoder *d, uint32_t want, const uint8_t *bytes,
				 size_t len)
{
	size_t n = want - d->have;

	if (n > len)
		n = len;
	__builtin_memcpy(d->buf + d->have, bytes, n);
	d->have += (uint32_t)n;
	return n;
}

/*
 * Takes bytes until a frame is whole. *used: how many it has taken, at most len. Returns 1 and *frame,
 * which lasts until the next call; 0 if more bytes are needed; or -1, now and ever after, with why.
 */
static inline int wire_decode(struct wire_decoder *d, const uint8_t *bytes, size_t len,
			      size_t *used, struct wire_frame *frame)
{
	uint32_t whole;

	*used = 0;
	if (!d->why && d->have < WIRE_HEADER_BYTES) {
		*used = wire_gather(d, WIRE_HEADER_BYTES, bytes, len);
		if (d->have < WIRE_HEADER_BYTES)
			return 0;
		d->why = wire_header_mistake(d->buf);
	}
	if (d->why)
		return -1;
	whole = WIRE_HEADER_BYTES + get_le32(d->buf + 4);
	*used += wire_gather(d, whole, bytes + *used, len - *used);
	if (d->have < whole)
		return 0;
	d->have = 0;
	*frame = (struct wire_frame){ .type = d->buf[2],
				      .stream = d->buf[3],
				      .len = whole - WIRE_HEADER_BYTES,
				      .payload = d->buf + WIRE_HEADER_BYTES };
	return 1;
}

/* Writes the header of a frame with len bytes of payload; type, stream and len as in wire_frame. */
static inline void wire_encode(uint8_t header[WIRE_HEADER_BYTES], uint8_t type, uint8_t stream,
			       uint32_t len)
{
	put_le16(header, WIRE_MAGIC);
	header[2] = type;
	header[3] = stream;
	put_le32(header + 4, len);
}

#endif
