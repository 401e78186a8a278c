/*
 * bytes: little-endian numbers at any alignment, in files and guest tables.
 *
 * The caller has checked that the bytes are there. Pure; any thread.
 */
#ifndef BANTAM_CORE_BYTES_H
#define BANTAM_CORE_BYTES_H

#include <stdint.h>

static inline uint16_t get16(const void *at)
{
	const uint8_t *p = at;

	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t get32(const void *at)
{
	const uint8_t *p = at;

	return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static inline uint64_t get64(const void *at)
{
	const uint8_t *p = at;

	return get32(p) | (uint64_t)get32(p + 4) << 32;
}

static inline void put16(void *at, uint16_t val)
{
	uint8_t *p = at;

	p[0] = (uint8_t)val;
	p[1] = (uint8_t)(val >> 8);
}

static inline void put32(void *at, uint32_t val)
{
	put16(at, (uint16_t)val);
	put16((uint8_t *)at + 2, (uint16_t)(val >> 16));
}

static inline void put64(void *at, uint64_t val)
{
	put32(at, (uint32_t)val);
	put32((uint8_t *)at + 4, (uint32_t)(val >> 32));
}

#endif
