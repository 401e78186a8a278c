/*
 * qcow2_image/refcount_entry: one entry of a refcount block, 2^order bits, big-endian (entries
 * below a byte: the least significant bits come first). For the engine and this folder.
 */
#ifndef BANTAM_QCOW2_IMAGE_REFCOUNT_ENTRY_H
#define BANTAM_QCOW2_IMAGE_REFCOUNT_ENTRY_H

#include <stdint.h>

#include "vmm/core/bytes.h"

/* Entry i of block. order: 0 to 6. */
static inline uint64_t qcow2_refcount_get(const uint8_t *block, unsigned order, uint64_t i)
{
	unsigned bits = 1u << order;

	switch (order) {
	case 3:
		return block[i];
	case 4:
		return get_be16(block + i * 2);
	case 5:
		return get_be32(block + i * 4);
	case 6:
		return get_be64(block + i * 8);
	default:
		return block[i * bits / 8] >> (i * bits % 8) & ((1u << bits) - 1);
	}
}

/* value must fit into 2^order bits. */
static inline void qcow2_refcount_put(uint8_t *block, unsigned order, uint64_t i, uint64_t value)
{
	unsigned bits = 1u << order, shift = (unsigned)(i * bits % 8);
	uint8_t *byte = block + i * bits / 8;

	switch (order) {
	case 3:
		block[i] = (uint8_t)value;
		break;
	case 4:
		put_be16(block + i * 2, (uint16_t)value);
		break;
	case 5:
		put_be32(block + i * 4, (uint32_t)value);
		break;
	case 6:
		put_be64(block + i * 8, value);
		break;
	default:
		*byte = (uint8_t)((*byte & ~(((1u << bits) - 1) << shift)) | value << shift);
		break;
	}
}

#endif
