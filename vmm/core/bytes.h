/*
 * bytes: reads and writes numbers of files, guest tables and packets byte by byte, at any
 * alignment.
 *
 * get_le32(at) reads 4 bytes, the least significant first; put_be16(at, val) writes 2, the most
 * significant first; and so on. The results are the same on every host. The caller has checked that
 * the bytes are there. Pure; any thread.
 */
#ifndef BANTAM_CORE_BYTES_H
#define BANTAM_CORE_BYTES_H

#include <stdint.h>

/* --- little-endian ------------------------------------------------------------------ */

static inline uint16_t get_le16(const void *at)
{
	const uint8_t *p = at;

	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t get_le32(const void *at)
{
	const uint8_t *p = at;

	return get_le16(p) | (uint32_t)get_le16(p + 2) << 16;
}

static inline uint64_t get_le64(const void *at)
{
	const uint8_t *p = at;

	return get_le32(p) | (uint64_t)get_le32(p + 4) << 32;
}

static inline void put_le16(void *at, uint16_t val)
{
	uint8_t *p = at;

	p[0] = (uint8_t)val;
	p[1] = (uint8_t)(val >> 8);
}

static inline void put_le32(void *at, uint32_t val)
{
	put_le16(at, (uint16_t)val);
	put_le16((uint8_t *)at + 2, (uint16_t)(val >> 16));
}

static inline void put_le64(void *at, uint64_t val)
{
	put_le32(at, (uint32_t)val);
	put_le32((uint8_t *)at + 4, (uint32_t)(val >> 32));
}

/* --- big-endian --------------------------------------------------------------------- */

static inline uint16_t get_be16(const void *at)
{
	const uint8_t *p = at;

	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t get_be32(const void *at)
{
	const uint8_t *p = at;

	return (uint32_t)get_be16(p) << 16 | get_be16(p + 2);
}

static inline uint64_t get_be64(const void *at)
{
	const uint8_t *p = at;

	return (uint64_t)get_be32(p) << 32 | get_be32(p + 4);
}

static inline void put_be16(void *at, uint16_t val)
{
	uint8_t *p = at;

	p[0] = (uint8_t)(val >> 8);
	p[1] = (uint8_t)val;
}

static inline void put_be32(void *at, uint32_t val)
{
	put_be16(at, (uint16_t)(val >> 16));
	put_be16((uint8_t *)at + 2, (uint16_t)val);
}

static inline void put_be64(void *at, uint64_t val)
{
	put_be32(at, (uint32_t)(val >> 32));
	put_be32((uint8_t *)at + 4, (uint32_t)val);
}

#endif
