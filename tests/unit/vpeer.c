/* vpeer: see vpeer.h. */
#include "tests/unit/vpeer.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/vsock/vsock.h"

struct vpeer vp;

int vpeer_create(const char *keys, struct err *err)
{
	struct keyvals kv;
	int rc = keys_parse(&kv, "--vsock", virtio_vsock_type.keys, keys, err);

	if (!rc)
		rc = virtio_vsock_type.create(&vp.f.env, &kv, &vp.dev, err);
	keys_clear(&kv);
	return rc;
}

void vpeer_give(unsigned i)
{
	struct fake_buf b = { vp.rx_at.v + i * VPEER_RX_BYTES, VPEER_RX_BYTES };

	fake_ring_add(&vp.d.ring[VSOCK_RX], NULL, 0, &b, 1);
}

void vpeer_start(void)
{
	fake_driver_start(&vp.d, 0, 3, 64);
	vp.fwd = 0;
	for (unsigned i = 0; i < VPEER_NRX; i++)
		vpeer_give(i);
	fake_driver_kick(&vp.d, VSOCK_RX);
}

void vpeer_begin(enum fake_transport transport)
{
	struct err err = { "" };
	char keys[128];

	strcpy(vp.dir, "/tmp/vsock-test.XXXXXX");
	cr_assert(mkdtemp(vp.dir));
	snprintf(vp.path, sizeof(vp.path), "%s/v", vp.dir);
	snprintf(keys, sizeof(keys), "cid=%u,socket=%s", VPEER_CID, vp.path);
	fake_env_init(&vp.f, transport);
	cr_assert_eq(vpeer_create(keys, &err), 0, "%s", err.text);
	fake_driver_find(&vp.d, &vp.f, 0, true);
	vp.rx_at = fake_alloc(&vp.f, VPEER_NRX * VPEER_RX_BYTES);
	vp.rx_host = fake_at(&vp.f, vp.rx_at, VPEER_NRX * VPEER_RX_BYTES);
	vp.tx_at = fake_alloc(&vp.f, 1 << 17);
	vp.tx_host = fake_at(&vp.f, vp.tx_at, 1 << 17);
	vpeer_start();
}

void vpeer_end(void)
{
	char command[64];

	device_destroy(vp.dev);
	cr_assert_neq(access(vp.path, F_OK), 0, "the socket is gone");
	fake_env_destroy(&vp.f);
	snprintf(command, sizeof(command), "rm -r %s", vp.dir);
	cr_assert_eq(system(command), 0);
}

void vpeer_both(void (*test)(void))
{
	vpeer_begin(FAKE_PCI);
	test();
	vpeer_end();
	vpeer_begin(FAKE_MMIO);
	test();
	vpeer_end();
}

/* --- the host's side ----------------------------------------------------------- */

static void vpeer_address(struct sockaddr_un *addr, int port)
{
	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (port < 0)
		snprintf(addr->sun_path, sizeof(addr->sun_path), "%s", vp.path);
	else
		snprintf(addr->sun_path, sizeof(addr->sun_path), "%s_%d", vp.path, port);
}

int vpeer_serve(int port, int backlog)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr;

	vpeer_address(&addr, port);
	cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	cr_assert_eq(listen(fd, backlog), 0);
	return fd;
}

int vpeer_host_connect(const char *line)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr;

	vpeer_address(&addr, -1);
	cr_assert_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	cr_assert_eq(write(fd, line, strlen(line)), (ssize_t)strlen(line));
	fake_run(&vp.f);
	fake_run(&vp.f);
	return fd;
}

/* --- the guest's side ---------------------------------------------------------- */

bool vpeer_used(void *arg)
{
	struct fake_used_elem e;
	struct fake_ring *r = &vp.d.ring[VSOCK_RX];

	if (*(bool *)arg)
		return true;
	if (!fake_ring_take(r, &e))
		return false;
	vp.got_data = fake_at(&vp.f, gpa(r->desc[e.id].addr), VPEER_RX_BYTES);
	memcpy(&vp.got, vp.got_data, sizeof(vp.got));
	vp.got_data += sizeof(vp.got);
	cr_assert_eq(e.len, sizeof(vp.got) + vp.got.len_bytes);
	cr_assert_eq(vp.got.dst_cid, VPEER_CID);
	fake_ring_offer(r, (uint16_t)e.id);
	return *(bool *)arg = true;
}

/* Takes the next packet for the guest; returns its buffer to the ring without a kick. */
bool vpeer_take(void)
{
	bool have = false;

	return fake_run_until(&vp.f, vpeer_used, &have);
}

bool vpeer_silent(void)
{
	bool have = false;

	for (unsigned i = 0; i < 5; i++) {
		fake_run(&vp.f);
		usleep(1000);
	}
	return !vpeer_used(&have);
}

struct vsock_hdr vpeer_make(unsigned op, uint32_t guest_port, uint32_t host_port, uint32_t len)
{
	return (struct vsock_hdr){ .src_cid = VPEER_CID,
				   .dst_cid = 2,
				   .src_port = guest_port,
				   .dst_port = host_port,
				   .len_bytes = len,
				   .type = 1,
				   .op = (uint16_t)op,
				   .buf_alloc = VPEER_ROOM,
				   .fwd_cnt = vp.fwd };
}

/* Sends hdr and have bytes of data, in two descriptors. */
void vpeer_send_raw(const struct vsock_hdr *hdr, const void *data, uint32_t have)
{
	struct fake_buf b[2] = { { vp.tx_at.v, sizeof(*hdr) }, { vp.tx_at.v + 64, have } };
	struct fake_used_elem e;

	memcpy(vp.tx_host, hdr, sizeof(*hdr));
	if (have)
		memcpy(vp.tx_host + 64, data, have);
	fake_ring_add(&vp.d.ring[VSOCK_TX], b, have ? 2 : 1, NULL, 0);
	fake_driver_kick(&vp.d, VSOCK_TX);
	fake_run(&vp.f);
	cr_assert(fake_ring_take(&vp.d.ring[VSOCK_TX], &e), "the packet is given back");
}

void vpeer_send_packet(unsigned op, uint32_t guest_port, uint32_t host_port, const void *data,
		       uint32_t len)
{
	struct vsock_hdr hdr = vpeer_make(op, guest_port, host_port, len);

	vpeer_send_raw(&hdr, data, len);
}

void vpeer_send_shutdown(uint32_t guest_port, uint32_t host_port, uint32_t flags)
{
	struct vsock_hdr hdr = vpeer_make(VSOCK_OP_SHUTDOWN, guest_port, host_port, 0);

	hdr.flags = flags;
	vpeer_send_raw(&hdr, NULL, 0);
}

void vpeer_expect(unsigned op, uint32_t guest_port, uint32_t host_port)
{
	cr_assert(vpeer_take(), "a packet %u comes", op);
	cr_assert_eq(vp.got.op, op, "%u, not %u", vp.got.op, op);
	cr_assert_eq(vp.got.src_cid, 2);
	cr_assert_eq(vp.got.type, 1);
	cr_assert_eq(vp.got.src_port, host_port);
	cr_assert_eq(vp.got.dst_port, guest_port);
}

/* The guest connects to a server of the host. Returns the server's end. */
int vpeer_open_out(int server, uint32_t guest_port, uint32_t host_port)
{
	int fd;

	vpeer_send_packet(VSOCK_OP_REQUEST, guest_port, host_port, NULL, 0);
	vpeer_expect(VSOCK_OP_RESPONSE, guest_port, host_port);
	cr_assert(vp.got.buf_alloc >= VSOCK_ROOM_LEAST);
	fd = accept4(server, NULL, NULL, SOCK_NONBLOCK);
	cr_assert(fd >= 0);
	return fd;
}

void vpeer_drain(void)
{
	bool have = false;

	for (unsigned i = 0; i < 5; i++) {
		fake_driver_kick(&vp.d, VSOCK_RX);
		while (vpeer_used(&have))
			have = false;
	}
}

static _Atomic bool was_reset;

static void *reset_main(void *arg)
{
	fake_driver_set_status(&vp.d, 0);
	was_reset = true;
	return NULL;
}

static bool is_reset(void *arg)
{
	return was_reset;
}

/* Resets as a vCPU does, while the loop runs. */
void vpeer_reset(void)
{
	pthread_t thread;

	was_reset = false;
	cr_assert_eq(pthread_create(&thread, NULL, reset_main, NULL), 0);
	cr_assert(fake_run_until(&vp.f, is_reset, NULL));
	pthread_join(thread, NULL);
}

bool vpeer_at_end(int fd)
{
	return read(fd, vp.text, 1) == 0;
}
