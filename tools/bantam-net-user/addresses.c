/*
 * addresses: see addresses.h. The tables are RFC 6890's (special-purpose addresses) as far as a packet
 * there does not leave the host or its link, and the forms in which IPv6 carries an IPv4 address.
 */
#include "tools/bantam-net-user/addresses.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

#include "vmm/core/bytes.h"

#define CLOSED -1

static const struct {
	uint32_t net, bits;
} closed4[] = {
	{ 0x00000000, 8 },  /* 0.0.0.0/8: this host; Linux connects 0.0.0.0 to itself */
	{ 0x7f000000, 8 },  /* 127.0.0.0/8: loopback */
	{ 0xa9fe0000, 16 }, /* 169.254.0.0/16: link-local, with a cloud's metadata */
	{ 0xe0000000, 24 }, /* 224.0.0.0/24: multicast on the link, which the host receives too */
	{ 0xffffffff, 32 }, /* 255.255.255.255: broadcast on the link */
};

static const struct {
	uint8_t net[16];
	uint8_t bits;
	int8_t v4_at; /* an IPv4 address at this byte decides; or CLOSED */
} special6[] = {
	{ { 0 }, 127, CLOSED },			/* ::, ::1 */
	{ { 0 }, 96, 12 },			/* IPv4-compatible */
	{ { [10] = 0xff, 0xff }, 96, 12 },	/* IPv4-mapped: Linux sends it as IPv4 */
	{ { [8] = 0xff, 0xff }, 96, 12 },	/* IPv4-translated (SIIT) */
	{ { 0x00, 0x64, 0xff, 0x9b }, 96, 12 }, /* NAT64, well-known prefix */
	{ { 0x20, 0x02 }, 16, 2 },		/* 6to4 */
	{ { 0xfe, 0x80 }, 10, CLOSED },		/* link-local */
	{ { 0xff, 0x01 }, 16, CLOSED },		/* multicast on the interface */
	{ { 0xff, 0x02 }, 16, CLOSED },		/* multicast on the link */
};

static bool is_closed4(uint32_t addr)
{
	for (size_t i = 0; i < sizeof(closed4) / sizeof(closed4[0]); i++)
		if (!((addr ^ closed4[i].net) >> (32 - closed4[i].bits)))
			return true;
	return false;
}

static bool begins(const uint8_t addr[16], const uint8_t net[16], unsigned bits)
{
	unsigned bytes = bits / 8, rest = bits % 8;

	return !memcmp(addr, net, bytes) && (!rest || !((addr[bytes] ^ net[bytes]) >> (8 - rest)));
}

static bool is_closed6(const uint8_t addr[16])
{
	for (size_t i = 0; i < sizeof(special6) / sizeof(special6[0]); i++) {
		if (!begins(addr, special6[i].net, special6[i].bits))
			continue;
		if (special6[i].v4_at == CLOSED || is_closed4(get_be32(addr + special6[i].v4_at)))
			return true;
	}
	return false;
}

bool addresses_closed(const struct sockaddr *to)
{
	if (to->sa_family == AF_INET)
		return is_closed4(ntohl(((const struct sockaddr_in *)to)->sin_addr.s_addr));
	if (to->sa_family == AF_INET6)
		return is_closed6(((const struct sockaddr_in6 *)to)->sin6_addr.s6_addr);
	return false;
}
