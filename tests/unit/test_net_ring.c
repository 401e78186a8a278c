/*
 * test_net_ring: frames through shared memory: order and content across many turns of the
 * ring, full and empty rings, and a peer that writes invalid values.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/backend/net/ring.h"

static struct net_ring_pair *pair;
static struct net_ring in, out;

static void setup(void)
{
	int fd;

	cr_assert_eq(net_ring_create(&fd, &pair), 0);
	/* The peer cannot shrink the memory. */
	cr_expect_eq(ftruncate(fd, 0), -1);
	cr_expect_eq(errno, EPERM);
	close(fd);
	in = out = (struct net_ring){ .mem = &pair->to_helper };
}

static void teardown(void)
{
	munmap(pair, sizeof(*pair));
}

TestSuite(net_ring, .init = setup, .fini = teardown);

static uint32_t length_of(uint32_t i)
{
	return 1 + i * 2654435761u % NET_RING_FRAME_MAX;
}

static bool put(uint32_t i)
{
	uint32_t len = length_of(i);
	uint8_t *to;
	int rc = net_ring_room(&out, len, &to);

	cr_assert_geq(rc, 0);
	if (!rc)
		return false;
	memset(to, (int)(i & 255), len);
	net_ring_put(&out, len);
	return true;
}

static void expect(uint32_t i)
{
	const uint8_t *from;
	int len = net_ring_peek(&in, &from);

	cr_assert_eq(len, (int)length_of(i), "frame %u", i);
	for (int k = 0; k < len; k++)
		cr_assert_eq(from[k], i & 255);
	net_ring_take(&in, (uint32_t)len);
}

Test(net_ring, turns)
{
	uint32_t put_n = 0, taken = 0;
	const uint8_t *from;

	/* Start the indices so that they pass 2^32. */
	in.pos = in.seen = out.pos = out.seen = 0u - 8 * 1000;
	atomic_store(&out.mem->head, out.pos);
	atomic_store(&out.mem->tail, out.pos);
	for (unsigned turn = 0; turn < 40; turn++) {
		while (put(put_n))
			put_n++;
		cr_expect_eq(net_ring_peek(&in, &from), 0, "nothing is seen before publish");
		net_ring_publish(&out);
		while (taken < put_n)
			expect(taken++);
		cr_expect_eq(net_ring_peek(&in, &from), 0);
		cr_expect(!put(put_n), "there is no room before release");
		net_ring_release(&in);
	}
	cr_expect_gt(put_n, 40 * 4);
}

Test(net_ring, bells)
{
	uint32_t n = 0;

	cr_expect(net_ring_await_frames(&in));
	cr_assert(put(n++));
	cr_expect(net_ring_publish(&out), "the consumer waits");
	cr_expect(net_ring_has_frames(&in));
	cr_assert(put(n++));
	cr_expect(!net_ring_publish(&out), "the consumer is awake");
	expect(0);
	expect(1);
	cr_assert(put(n++));
	net_ring_publish(&out);
	cr_expect(!net_ring_await_frames(&in), "there is one");
	while (put(n))
		n++;
	net_ring_publish(&out);
	net_ring_release(&in);
	cr_expect(!net_ring_await_room(&out), "two were taken meanwhile");
	while (put(n))
		n++;
	cr_expect(net_ring_await_room(&out));
	expect(2);
	cr_expect(net_ring_release(&in), "the producer waits");
	cr_expect(!net_ring_release(&in));
}

Test(net_ring, nonsense_for_the_consumer)
{
	static const struct {
		const char *what;
		uint32_t pos, head; /* head relative to pos */
		uint32_t len, next; /* at pos, and at the ring's start */
	} table[] = {
		{ "more than the ring", 0, NET_RING_BYTES + 8, 60, 0 },
		{ "backwards", 64, -8u, 60, 0 },
		{ "not aligned", 0, 65, 60, 0 },
		{ "no length", 0, 64, 0, 0 },
		{ "longer than what there is", 0, 64, 61, 0 },
		{ "longer than a frame", 0, NET_RING_BYTES, NET_RING_FRAME_MAX + 1, 0 },
		{ "a length that overflows", 0, NET_RING_BYTES, 0xfffffffe, 0 },
		{ "past the end", NET_RING_BYTES - 64, 1024, 61, 0 },
		{ "a skip past what there is", NET_RING_BYTES - 64, 8, UINT32_MAX, 0 },
		{ "skip after skip", NET_RING_BYTES - 64, NET_RING_BYTES, UINT32_MAX, UINT32_MAX },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const uint8_t *from;

		memcpy(out.mem->data, &table[i].next, 4);
		memcpy(out.mem->data + table[i].pos, &table[i].len, 4);
		in.pos = in.seen = table[i].pos;
		atomic_store(&in.mem->head, table[i].pos + table[i].head);
		cr_expect_eq(net_ring_peek(&in, &from), -EPROTO, "%s", table[i].what);
	}
}

Test(net_ring, nonsense_for_the_producer)
{
	uint8_t *to;

	while (put(0))
		;
	atomic_store(&out.mem->tail, out.pos + 8);
	cr_expect_eq(net_ring_room(&out, 60, &to), -EPROTO);
	atomic_store(&out.mem->tail, out.pos - NET_RING_BYTES - 8);
	cr_expect_eq(net_ring_room(&out, 60, &to), -EPROTO);
}

#define FRAMES 20000u

static void *produce(void *opaque)
{
	for (uint32_t i = 0; i < FRAMES; i++) {
		uint8_t *to;

		while (!net_ring_room(&out, 60 + i % 1000, &to))
			if (net_ring_await_room(&out))
				usleep(50);
		memcpy(to, &i, sizeof(i));
		net_ring_put(&out, 60 + i % 1000);
		net_ring_publish(&out);
	}
	return NULL;
}

Test(net_ring, two_threads)
{
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, produce, NULL), 0);
	for (uint32_t i = 0; i < FRAMES; i++) {
		const uint8_t *from;
		uint32_t got;
		int len;

		while (!(len = net_ring_peek(&in, &from)))
			if (net_ring_await_frames(&in))
				usleep(50);
		memcpy(&got, from, sizeof(got));
		cr_assert(len == (int)(60 + i % 1000) && got == i, "frame %u: %u", i, got);
		net_ring_take(&in, (uint32_t)len);
		net_ring_release(&in);
	}
	pthread_join(thread, NULL);
}
