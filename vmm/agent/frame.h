/*
 * agent/frame: frames of the agent's channel (guest/wire.h), from bytes and to bytes.
 *
 * The guest is hostile: the decoder holds one frame at most, checks every length before it is used, and
 * after the first mistake gives nothing more. Pure; any thread, one at a time.
 */
#ifndef BANTAM_AGENT_FRAME_H
#define BANTAM_AGENT_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "guest/wire.h"

struct agent_frame {
	uint8_t type;	/* 1 to WIRE_TYPES - 1 */
	uint8_t stream; /* less than WIRE_STREAMS */
	uint32_t len;	/* bytes of payload */
	const uint8_t *payload;
};

/* All zero is a decoder at the beginning. */
struct agent_decoder {
	const char *why; /* the mistake; NULL: none yet */
	uint32_t have;	 /* bytes in buf */
	uint8_t buf[WIRE_HEADER_BYTES + WIRE_PAYLOAD_MAX];
};

/*
 * Takes bytes until a frame is whole. *used: how many it has taken, at most len. Returns 1 and *frame,
 * which lasts until the next call; 0 if more bytes are needed; or -EPROTO, now and ever after, with
 * why.
 */
int agent_decode(struct agent_decoder *d, const uint8_t *bytes, size_t len, size_t *used,
		 struct agent_frame *frame);

/* Writes the header of a frame with len bytes of payload; type and stream as in agent_frame. */
void agent_encode(uint8_t header[WIRE_HEADER_BYTES], uint8_t type, uint8_t stream, uint32_t len);

#endif
