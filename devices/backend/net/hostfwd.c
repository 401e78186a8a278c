/* net/hostfwd: see net/hostfwd.h. */
#include "devices/backend/net/hostfwd.h"

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

/* Changes text. Returns NULL, or what is wrong with it. */
static const char *address(char *text, struct net_hostfwd *out)
{
	size_t len = strlen(text);

	out->any_addr = !len;
	out->v6 = *text == '[';
	if (!out->v6 && strchr(text, ':'))
		return "an IPv6 address is written in brackets, like tcp:[::1]:8080-80";
	if (!out->v6)
		return inet_pton(AF_INET, len ? text : "127.0.0.1", &out->addr) == 1 ?
			       NULL :
			       "not an IPv4 address before the ports";
	if (text[len - 1] != ']')
		return "the bracket after the IPv6 address is missing";
	text[len - 1] = 0;
	return inet_pton(AF_INET6, text + 1, &out->addr6) == 1 ?
		       NULL :
		       "not an IPv6 address in the brackets";
}

const char *net_hostfwd_parse(const char *text, unsigned len, struct net_hostfwd *out)
{
	char buf[64], *addr, *ports, *dash;
	const char *why;

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
		return "the colon before the ports is missing";
	*ports++ = 0;
	why = address(addr, out);
	if (why)
		return why;
	dash = strchr(ports, '-');
	if (!dash)
		return "the guest's port is missing";
	*dash++ = 0;
	if (!port(ports, &out->host_port))
		return "the host's port must be from 0 to 65535";
	if (!port(dash, &out->guest_port) || !out->guest_port)
		return "the guest's port must be from 1 to 65535";
	return NULL;
}
