/*
 * fuzz_hostfwd: a port forward as a user writes it. The parser refuses it with a reason, or gives
 * parts that, written as text again, give the same result.
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "devices/backend/net/hostfwd.h"
#include "vmm/core/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[256], addr[INET6_ADDRSTRLEN], again[128];
	struct net_hostfwd a, b;

	if (size >= sizeof(text))
		return 0;
	memcpy(text, data, size);
	/* The parser must not read past the length, where another forward may follow. */
	memset(text + size, '9', sizeof(text) - size);
	if (net_hostfwd_parse(text, (unsigned)size, &a))
		return 0;
	BUG_ON(!a.guest_port || (a.any_addr && a.v6));
	inet_ntop(a.v6 ? AF_INET6 : AF_INET, a.v6 ? (void *)&a.addr6 : (void *)&a.addr, addr,
		  sizeof(addr));
	snprintf(again, sizeof(again), "%s:%s%s%s:%u-%u", a.udp ? "udp" : "tcp", a.v6 ? "[" : "",
		 addr, a.v6 ? "]" : "", a.host_port, a.guest_port);
	BUG_ON(net_hostfwd_parse(again, (unsigned)strlen(again), &b));
	b.any_addr = a.any_addr;
	BUG_ON(memcmp(&a, &b, sizeof(a)));
	return 0;
}
