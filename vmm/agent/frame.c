/*
 * agent/frame: see frame.h.
 *
 * Theory of operation. The decoder copies what belongs to the frame at hand into its buffer: first the
 * header, which it checks, then as much as the header says. It looks at no type's payload: session.c
 * does.
 */
#include "vmm/agent/frame.h"

#include <errno.h>
#include <string.h>

#include "vmm/core/bytes.h"
#include "vmm/core/err.h"

/* Copies bytes until the buffer holds want. Returns how many it took. */
static size_t gather(struct agent_decoder *d, uint32_t want, const uint8_t *bytes, size_t len)
{
	size_t n = want - d->have;

	if (n > len)
		n = len;
	memcpy(d->buf + d->have, bytes, n);
	d->have += (uint32_t)n;
	return n;
}

static const char *header_mistake(const uint8_t *header)
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

int agent_decode(struct agent_decoder *d, const uint8_t *bytes, size_t len, size_t *used,
		 struct agent_frame *frame)
{
	uint32_t whole;

	*used = 0;
	if (!d->why && d->have < WIRE_HEADER_BYTES) {
		*used = gather(d, WIRE_HEADER_BYTES, bytes, len);
		if (d->have < WIRE_HEADER_BYTES)
			return 0;
		d->why = header_mistake(d->buf);
	}
	if (d->why)
		return -EPROTO;
	whole = WIRE_HEADER_BYTES + get_le32(d->buf + 4);
	*used += gather(d, whole, bytes + *used, len - *used);
	if (d->have < whole)
		return 0;
	d->have = 0;
	*frame = (struct agent_frame){ .type = d->buf[2],
				       .stream = d->buf[3],
				       .len = whole - WIRE_HEADER_BYTES,
				       .payload = d->buf + WIRE_HEADER_BYTES };
	return 1;
}

void agent_encode(uint8_t header[WIRE_HEADER_BYTES], uint8_t type, uint8_t stream, uint32_t len)
{
	BUG_ON(!type || type >= WIRE_TYPES || stream >= WIRE_STREAMS || len > WIRE_PAYLOAD_MAX);
	put_le16(header, WIRE_MAGIC);
	header[2] = type;
	header[3] = stream;
	put_le32(header + 4, len);
}
