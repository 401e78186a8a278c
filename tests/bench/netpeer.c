/*
 * netpeer: the far end of the cable in benchmarks of network cards: it sends each frame of
 * EtherType 0x88b5 back as many times as the frame's byte 14 says.
 *   netpeer tap NAME       on a tap, when it exists
 *   netpeer stream PATH    listens; each frame follows its 4-byte length
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define TYPE 0x88b5

static uint8_t buf[1 << 20];

static void answer_header(uint8_t *f)
{
	uint8_t mac[6];

	memcpy(mac, f + 6, 6);
	memcpy(f + 6, "\2\0\0\0\0\x99", 6);
	memcpy(f, mac, 6);
}

/* Sends many frames per call, so that the benchmark measures the monitor and not this program. */
static void send_many(int fd, unsigned times, size_t len)
{
	struct iovec iov = { buf, len };
	static struct mmsghdr msg[256];

	for (unsigned i = 0; i < times; i++)
		msg[i].msg_hdr = (struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1 };
	for (unsigned done = 0; done < times;) {
		int n = sendmmsg(fd, msg + done, times - done, 0);

		if (n < 0 && errno != ENOBUFS)
			return;
		done += n > 0 ? (unsigned)n : 0;
	}
}

static int tap(const char *name)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(TYPE) };
	int fd = socket(AF_PACKET, SOCK_RAW, 0), one = 1;

	while (!(at.sll_ifindex = (int)if_nametoindex(name)))
		usleep(1000);
	setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one));
	setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)))
		return perror("netpeer"), 1;
	for (;;) {
		ssize_t n = recv(fd, buf, sizeof(buf), 0);

		if (n < 15 && errno != ENETDOWN)
			return 0;
		if (n < 15 || !buf[14])
			continue;
		answer_header(buf);
		send_many(fd, buf[14], (size_t)n);
	}
}

static int stream(const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	size_t have = 0, pos;

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	unlink(path);
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 1))
		return perror("netpeer"), 1;
	fd = accept(fd, NULL, NULL);
	for (;;) {
		ssize_t n = recv(fd, buf + have, sizeof(buf) - have, 0);
		uint32_t len;

		if (n <= 0)
			return 0;
		have += (size_t)n;
		for (pos = 0; have - pos >= 4; pos += 4 + len) {
			static uint8_t many[64 * 1600];
			uint8_t *f = buf + pos + 4;
			size_t fill = 0;

			memcpy(&len, buf + pos, 4);
			len = ntohl(len);
			if (have - pos - 4 < len)
				break;
			if (len < 15 || len > 1514 || f[12] != TYPE >> 8 || f[13] != (TYPE & 255))
				continue;
			answer_header(f);
			for (unsigned i = 0; i < f[14] && i < 64; i++, fill += 4 + len)
				memcpy(many + fill, buf + pos, 4 + len);
			for (size_t off = 0; off < fill;) {
				n = send(fd, many + off, fill - off, MSG_NOSIGNAL);
				if (n <= 0)
					return 0;
				off += (size_t)n;
			}
		}
		memmove(buf, buf + pos, have - pos);
		have -= pos;
	}
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "tap"))
		return tap(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "stream"))
		return stream(argv[2]);
	fprintf(stderr, "usage: netpeer tap NAME | stream PATH\n");
	return 2;
}
