/* sha256: FIPS 180-4, for guests without a libc. */
#ifndef GUEST_SHA256_H
#define GUEST_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256 {
	uint32_t h[8];
	uint8_t block[64];
	uint64_t len_bytes;
};

static const uint32_t sha256_k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
	0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
	0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
	0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
	0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
	0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
	0xc67178f2,
};

static inline uint32_t sha256_ror(uint32_t v, unsigned n)
{
	return v >> n | v << (32 - n);
}

static inline uint32_t sha256_word0(uint32_t v)
{
	return sha256_ror(v, 7) ^ sha256_ror(v, 18) ^ v >> 3;
}

static inline uint32_t sha256_word1(uint32_t v)
{
	return sha256_ror(v, 17) ^ sha256_ror(v, 19) ^ v >> 10;
}

/* Round n + i. The next round takes a as its b, and so on: the names rotate, not the values. */
#define SHA256_ROUND(a, b, c, d, e, f, g, h, i)                                                    \
	do {                                                                                       \
		uint32_t t_ = h + (sha256_ror(e, 6) ^ sha256_ror(e, 11) ^ sha256_ror(e, 25)) +     \
			      (g ^ (e & (f ^ g))) + sha256_k[n + i] + w[i];                        \
		d += t_;                                                                           \
		h = t_ + (sha256_ror(a, 2) ^ sha256_ror(a, 13) ^ sha256_ror(a, 22)) +              \
		    ((a & b) | (c & (a | b)));                                                     \
		/* The word for 16 rounds later. */                                                \
		w[i] += w[(i + 9) & 15] + sha256_word0(w[(i + 1) & 15]) +                          \
			sha256_word1(w[(i + 14) & 15]);                                            \
	} while (0)
#define SHA256_8_ROUNDS(i)                                                                         \
	do {                                                                                       \
		SHA256_ROUND(a, b, c, d, e, f, g, h, i);                                           \
		SHA256_ROUND(h, a, b, c, d, e, f, g, i + 1);                                       \
		SHA256_ROUND(g, h, a, b, c, d, e, f, i + 2);                                       \
		SHA256_ROUND(f, g, h, a, b, c, d, e, i + 3);                                       \
		SHA256_ROUND(e, f, g, h, a, b, c, d, i + 4);                                       \
		SHA256_ROUND(d, e, f, g, h, a, b, c, i + 5);                                       \
		SHA256_ROUND(c, d, e, f, g, h, a, b, i + 6);                                       \
		SHA256_ROUND(b, c, d, e, f, g, h, a, i + 7);                                       \
	} while (0)

static void sha256_block(struct sha256 *s, const uint8_t *p)
{
	uint32_t a = s->h[0], b = s->h[1], c = s->h[2], d = s->h[3];
	uint32_t e = s->h[4], f = s->h[5], g = s->h[6], h = s->h[7];
	uint32_t w[16];

	for (unsigned i = 0; i < 16; i++)
		w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
		       (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
	for (unsigned n = 0; n < 64; n += 16) {
		SHA256_8_ROUNDS(0);
		SHA256_8_ROUNDS(8);
	}
	s->h[0] += a;
	s->h[1] += b;
	s->h[2] += c;
	s->h[3] += d;
	s->h[4] += e;
	s->h[5] += f;
	s->h[6] += g;
	s->h[7] += h;
}

static void sha256_init(struct sha256 *s)
{
	static const uint32_t h[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
				       0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

	for (unsigned i = 0; i < 8; i++)
		s->h[i] = h[i];
	s->len_bytes = 0;
}

static void sha256_add(struct sha256 *s, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len) {
		size_t at = s->len_bytes % 64;

		if (at == 0 && len >= 64) {
			sha256_block(s, p);
			p += 64;
			len -= 64;
			s->len_bytes += 64;
			continue;
		}
		s->block[at] = *p++;
		len--;
		if (++s->len_bytes % 64 == 0)
			sha256_block(s, s->block);
	}
}

/* 64 digits and a terminator */
static void sha256_hex(struct sha256 *s, char hex[65])
{
	uint64_t bits = s->len_bytes * 8;
	uint8_t tail[8];

	sha256_add(s, "\x80", 1);
	while (s->len_bytes % 64 != 56)
		sha256_add(s, "", 1);
	for (unsigned i = 0; i < 8; i++)
		tail[i] = (uint8_t)(bits >> (56 - 8 * i));
	sha256_add(s, tail, 8);
	for (unsigned i = 0; i < 64; i++)
		hex[i] = "0123456789abcdef"[s->h[i / 8] >> (28 - 4 * (i % 8)) & 15];
	hex[64] = 0;
}

#endif
