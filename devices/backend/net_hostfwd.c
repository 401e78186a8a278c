/* net_hostfwd: see net_hostfwd.h. */
#include "devices/backend/net_hostfwd.h"

#include <arpa/inet.h>
#include <string.h>

#include "vmm/core/parse.h"

static bool port(const char *text, uint16_t *out)
{
	uint64_t num;

	if (strncmp(text, "0x", 2) == 0 || parse_u64(text, &num) || num > UINT16_MAX)
		return false;
	*out = (uint16_t)num;
	return true;
}

const char *net_hostfwd_parse(const char *text, unsigned len, struct net_hostfwd *out)
{
	char buf[64], *addr, *ports, *dash;

	memset(out, 0, sizeof(*out));
	if (len >= sizeof(buf))
		return "too long";
	memcpy(buf, text, len);
	buf[len] = 0;
	out->udp = !strncmp(buf, "udp:", 4);
	if (!out->udp && strncmp(buf, "tcp:", 4))
		return "must begin with tcp: or udp:";
	addr = buf + 4;
	ports = strrchr(addr, ':');
	if (!ports)
		return "write it like tcp:127.0.0.1:8080-80 or tcp::0-22";
	*ports++ = 0;
	out->any_addr = !*addr;
	if (strchr(addr, ':'))
		return "only IPv4 addresses can be forwarded";
	if (inet_pton(AF_INET, *addr ? addr : "127.0.0.1", &out->addr) != 1)
		return "not an IPv4 address before the ports";
	dash = strchr(ports, '-');
	if (!dash)
		return "the guest's port is missing: HOSTPORT-GUESTPORT";
	*dash++ = 0;
	if (!port(ports, &out->host_port))
		return "the host's port must be from 0 to 65535";
	if (!port(dash, &out->guest_port) || !out->guest_port)
		return "the guest's port must be from 1 to 65535";
	return NULL;
}
