/*
 * qcow2_image/refcount_entry: one entry of a refcount block, 2^order bits, big-endian (entries
 * below a byte: the least significant bits come first). For the engine and this folder.
 */
#ifndef BANTAM_QCOW2_IMAGE_REFCOUNT_ENTRY_H
#define BANTAM_QCOW2_IMAGE_REFCOUNT_ENTRY_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

/* Entry i of block. order: 0 to 6. */
static inline uint64_t qcow2_refcount_get(const uint8_t *block, unsigned order, uint64_t i)
{
	unsigned bits = 1u << order;
	uint16_t v16;
	uint32_t v32;
	uint64_t v64;

	switch (order) {
	case 3:
		return block[i];
	case 4:
		memcpy(&v16, block + i * 2, 2);
		return be16toh(v16);
	case 5:
		memcpy(&v32, block + i * 4, 4);
		return be32toh(v32);
	case 6:
		memcpy(&v64, block + i * 8, 8);
		return be64toh(v64);
	default:
		return block[i * bits / 8] >> (i * bits % 8) & ((1u << bits) - 1);
	}
}

/* value fits into 2^order bits. */
static inline void qcow2_refcount_put(uint8_t *block, unsigned order, uint64_t i, uint64_t value)
{
	unsigned bits = 1u << order, shift = (unsigned)(i * bits % 8);
	uint16_t v16 = htobe16((uint16_t)value);
	uint32_t v32 = htobe32((uint32_t)value);
	uint64_t v64 = htobe64(value);
	uint8_t *byte = block + i * bits / 8;

	switch (order) {
	case 3:
		block[i] = (uint8_t)value;
		break;
	case 4:
		memcpy(block + i * 2, &v16, 2);
		break;
	case 5:
		memcpy(block + i * 4, &v32, 4);
		break;
	case 6:
		memcpy(block + i * 8, &v64, 8);
		break;
	default:
		*byte = (uint8_t)((*byte & ~(((1u << bits) - 1) << shift)) | value << shift);
		break;
	}
}

#endif
