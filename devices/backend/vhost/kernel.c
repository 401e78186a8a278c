/* vhost/kernel: see vhost/kernel.h. */
#include "devices/backend/vhost/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int call(struct vhost_kernel *v, unsigned long op, void *arg)
{
	return ioctl(v->fd, op, arg) < 0 ? -errno : 0;
}

static int set_memory(struct vhost_kernel *v, const struct mem *mem)
{
	struct vhost_memory *m = calloc(1, sizeof(*m) + mem->nregions * sizeof(m->regions[0]));
	int rc;

	if (!m)
		return -ENOMEM;
	m->nregions = mem->nregions;
	for (unsigned i = 0; i < mem->nregions; i++)
		m->regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = mem->region[i].base.v,
			.memory_size = mem->region[i].len_bytes,
			.userspace_addr = (uintptr_t)mem->region[i].host,
		};
	rc = call(v, VHOST_SET_MEM_TABLE, m);
	free(m);
	return rc;
}

int vhost_kernel_open(struct vhost_kernel *v, const char *path, const struct mem *mem)
{
	int rc;

	v->fd = open(path, O_RDWR | O_CLOEXEC);
	if (v->fd < 0)
		return -errno;
	rc = call(v, VHOST_SET_OWNER, NULL);
	if (!rc)
		rc = call(v, VHOST_GET_FEATURES, &v->features);
	if (!rc)
		rc = set_memory(v, mem);
	if (rc)
		vhost_kernel_close(v);
	return rc;
}

int vhost_kernel_refused(const char *option, const char *path, int rc, struct err *err)
{
	const char *module = strrchr(path, '/') + 1; /* modprobe takes - for _ */

	if (rc == -ENOENT || rc == -ENODEV || rc == -ENXIO)
		return err_set(err, -rc, "%s: vhost=on: %s is missing; load the module %s", option,
			       path, module);
	return err_sys(err, -rc, "%s: vhost=on: %s%s", option, path,
		       rc == -EACCES ? " (grant read and write on it)" : "");
}

void vhost_kernel_close(struct vhost_kernel *v)
{
	if (v->fd >= 0)
		close(v->fd);
	v->fd = -1;
}

int vhost_kernel_set_features(struct vhost_kernel *v, uint64_t features)
{
	features &= v->features;
	return call(v, VHOST_SET_FEATURES, &features);
}

int vhost_kernel_set_ring(struct vhost_kernel *v, unsigned queue,
			  const struct vhost_kernel_ring *ring)
{
	struct vhost_vring_state size = { queue, ring->size }, base = { queue, 0 };
	struct vhost_vring_addr addr = { .index = queue,
					 .desc_user_addr = (uintptr_t)ring->desc,
					 .avail_user_addr = (uintptr_t)ring->avail,
					 .used_user_addr = (uintptr_t)ring->used };
	struct vhost_vring_file kick = { queue, ring->kick_fd }, err = { queue, ring->err_fd };
	int rc = call(v, VHOST_SET_VRING_NUM, &size);

	if (!rc)
		rc = call(v, VHOST_SET_VRING_BASE, &base);
	if (!rc)
		rc = call(v, VHOST_SET_VRING_ADDR, &addr);
	if (!rc)
		rc = call(v, VHOST_SET_VRING_ERR, &err);
	if (!rc)
		rc = vhost_kernel_set_call(v, queue, ring->call_fd);
	return rc ? rc : call(v, VHOST_SET_VRING_KICK, &kick);
}

int vhost_kernel_set_call(struct vhost_kernel *v, unsigned queue, int call_fd)
{
	struct vhost_vring_file file = { queue, call_fd };

	return call(v, VHOST_SET_VRING_CALL, &file);
}

int vhost_kernel_net_serve(struct vhost_kernel *v, unsigned queue, int fd)
{
	struct vhost_vring_file file = { queue, fd };

	return call(v, VHOST_NET_SET_BACKEND, &file);
}

void vhost_kernel_net_poll(struct vhost_kernel *v, unsigned queue, unsigned us)
{
	struct vhost_vring_state state = { queue, us };

	call(v, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &state);
}

int vhost_kernel_vsock_set_cid(struct vhost_kernel *v, uint32_t cid)
{
	uint64_t arg = cid;

	return call(v, VHOST_VSOCK_SET_GUEST_CID, &arg);
}

int vhost_kernel_vsock_serve(struct vhost_kernel *v, bool on)
{
	int arg = on;

	return call(v, VHOST_VSOCK_SET_RUNNING, &arg);
}
