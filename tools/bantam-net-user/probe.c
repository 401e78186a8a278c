/* probe: see probe.h. Frames: RFC 826, 791 and 9293. */
#include "tools/bantam-net-user/probe.h"

#include <string.h>

#include "vmm/core/bytes.h"

#define ETH_BYTES 14u
#define IP_BYTES 20u
#define TCP_BYTES 20u
#define FRAME_BYTES (ETH_BYTES + IP_BYTES + TCP_BYTES)
#define ARP_BYTES 28u

#define TYPE_IP 0x0800u
#define TYPE_ARP 0x0806u
#define IP_TCP 6u
#define TCP_SYN 2u
#define TCP_RST 4u
#define TCP_ACK 16u

/* The host's end of a probe: no program of the host has this port, so no connection of its has it. */
#define OUR_PORT 1u

static const uint8_t gateway[4] = { 10, 0, 2, 2 };
static const uint8_t guest[4] = { 10, 0, 2, 15 }; /* by DHCP; forwards lead there */
static const uint8_t gateway_mac[6] = { 0x52, 0x55, 10, 0, 2, 2 };

static struct {
	probe_send_fn send;
	probe_answered_fn answered;
	struct {
		uint16_t port;
		unsigned index;
	} port[PROBE_PORTS]; /* those that have not answered */
	unsigned nports;
	bool known; /* the guest's Ethernet address */
	uint8_t mac[6];
	uint64_t due_ms, until_ms;
} me;

void probe_open(probe_send_fn send, probe_answered_fn answered)
{
	memset(&me, 0, sizeof(me));
	me.send = send;
	me.answered = answered;
}

void probe_add(uint16_t port, unsigned index)
{
	if (!me.send || me.nports == PROBE_PORTS)
		return;
	me.port[me.nports].port = port;
	me.port[me.nports++].index = index;
}

/* Of RFC 1071, over an even number of bytes. */
static uint32_t add_up(const uint8_t *at, unsigned len_bytes, uint32_t sum)
{
	for (unsigned i = 0; i < len_bytes; i += 2)
		sum += get_be16(at + i);
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void send_segment(uint16_t port, uint32_t seq, unsigned flags)
{
	uint8_t frame[FRAME_BYTES] = { 0 }, *ip = frame + ETH_BYTES, *tcp = ip + IP_BYTES;

	memcpy(frame, me.mac, 6);
	memcpy(frame + 6, gateway_mac, 6);
	put_be16(frame + 12, TYPE_IP);
	ip[0] = 0x45;
	put_be16(ip + 2, IP_BYTES + TCP_BYTES);
	ip[8] = 64;
	ip[9] = IP_TCP;
	memcpy(ip + 12, gateway, 4);
	memcpy(ip + 16, guest, 4);
	put_be16(ip + 10, fold(add_up(ip, IP_BYTES, 0)));
	put_be16(tcp, OUR_PORT);
	put_be16(tcp + 2, port);
	put_be32(tcp + 4, seq);
	tcp[12] = TCP_BYTES / 4 << 4;
	tcp[13] = (uint8_t)flags;
	put_be16(tcp + 14, 1024);
	/* With the pseudo header: addresses, protocol, length. */
	put_be16(tcp + 16, fold(add_up(ip + 12, 8 + TCP_BYTES, IP_TCP + TCP_BYTES)));
	me.send(frame, sizeof(frame));
}

static void answered(uint16_t port)
{
	for (unsigned i = 0; i < me.nports;) {
		unsigned index = me.port[i].index;

		if (me.port[i].port != port) {
			i++;
			continue;
		}
		me.port[i] = me.port[--me.nports];
		me.answered(index);
	}
}

static bool is_waiting(uint16_t port)
{
	for (unsigned i = 0; i < me.nports; i++)
		if (me.port[i].port == port)
			return true;
	return false;
}

/* A TCP segment of the guest, ip_bytes of header and TCP's own. */
static bool on_segment(const uint8_t *ip, const uint8_t *tcp)
{
	uint16_t port = get_be16(tcp), to = get_be16(tcp + 2);
	bool ours = to == OUR_PORT && !memcmp(ip + 16, gateway, 4);
	bool accepts = (tcp[13] & (TCP_SYN | TCP_ACK | TCP_RST)) == (TCP_SYN | TCP_ACK);

	if (!is_waiting(port))
		return false;
	if (ours && accepts)
		send_segment(port, get_be32(tcp + 8), TCP_RST);
	if (accepts)
		answered(port);
	return ours;
}

/* The guest uses its address: it may be asked now. */
static void meet(const uint8_t mac[6], uint64_t now_ms)
{
	if (!me.known) {
		me.known = true;
		me.due_ms = now_ms;
		me.until_ms = now_ms + PROBE_PATIENCE_MS;
	}
	memcpy(me.mac, mac, 6);
}

bool probe_waits(void)
{
	return me.nports;
}

bool probe_takes(const uint8_t *frame, size_t len_bytes, uint64_t now_ms)
{
	/* A copy: the guest may change its own. The longest IP header is 60 bytes. */
	uint8_t f[ETH_BYTES + 60 + TCP_BYTES] = { 0 }, *ip = f + ETH_BYTES;
	size_t n = len_bytes < sizeof(f) ? len_bytes : sizeof(f);
	unsigned ip_bytes, type;

	if (!me.nports)
		return false;
	memcpy(f, frame, n);
	type = get_be16(f + 12);
	if (type == TYPE_ARP && n >= ETH_BYTES + ARP_BYTES && !memcmp(f + ETH_BYTES + 14, guest, 4))
		meet(f + 6, now_ms);
	if (type != TYPE_IP || n < ETH_BYTES + IP_BYTES || ip[0] >> 4 != 4 ||
	    memcmp(ip + 12, guest, 4))
		return false;
	meet(f + 6, now_ms);
	ip_bytes = (ip[0] & 15u) * 4;
	if (ip_bytes < IP_BYTES || n < ETH_BYTES + ip_bytes + TCP_BYTES || ip[9] != IP_TCP ||
	    get_be16(ip + 6) & 0x3fff)
		return false; /* also fragments */
	return on_segment(ip, ip + ip_bytes);
}

uint32_t probe_tick(uint64_t now_ms)
{
	if (!me.nports || !me.known || now_ms >= me.until_ms)
		return UINT32_MAX;
	if (now_ms < me.due_ms)
		return (uint32_t)(me.due_ms - now_ms);
	me.due_ms = now_ms + PROBE_EVERY_MS;
	for (unsigned i = 0; i < me.nports; i++)
		send_segment(me.port[i].port, (uint32_t)now_ms << 16, TCP_SYN);
	return PROBE_EVERY_MS;
}
