/* rights: dumps, privileges and capabilities of the process. See confine_impl.h, capabilities(7), prctl(2). */
#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/confine/confine_impl.h"

#define CAP(name) (1ull << CAP_##name)
/*
 * DAC_…, FOWNER, CHOWN: files of other users. KILL, SETUID, SETGID: helpers, which take another user, and our own
 * user. SETPCAP: to empty the bounding set. NET_BIND_SERVICE: a port below 1024 that is forwarded. IPC_LOCK:
 * io_uring and vhost before Linux 5.12 lock memory.
 */
#define UNTIL_FINISH                                                                               \
	(CAP(DAC_OVERRIDE) | CAP(DAC_READ_SEARCH) | CAP(FOWNER) | CAP(CHOWN) | CAP(KILL) |         \
	 CAP(SETUID) | CAP(SETGID) | CAP(SETPCAP) | CAP(NET_BIND_SERVICE) | CAP(IPC_LOCK))

static int get(struct __user_cap_data_struct data[2])
{
	struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };

	return syscall(SYS_capget, &hdr, data) ? -errno : 0;
}

static int set(struct __user_cap_data_struct data[2])
{
	struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };

	return syscall(SYS_capset, &hdr, data) ? -errno : 0;
}

/*
 * Takes all capabilities from all sets but those in mask. Without CAP_SETPCAP the bounding set stays: it gives
 * nothing to a process that has no_new_privs and permits nothing itself.
 */
static int keep_capabilities(uint64_t mask)
{
	struct __user_cap_data_struct data[2];
	int rc = get(data);

	if (rc)
		return rc;
	if (data[0].effective & CAP(SETPCAP))
		for (unsigned cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
			if (!(mask >> cap & 1))
				prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	/* Linux before 4.3 has no ambient set. */
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) && errno != EINVAL)
		return -errno;
	for (unsigned i = 0; i < 2; i++) {
		data[i].permitted &= (uint32_t)(mask >> (32 * i));
		data[i].effective &= data[i].permitted;
		data[i].inheritable = 0;
	}
	return set(data);
}

int confine_cut_capabilities(bool interfaces)
{
	return keep_capabilities(UNTIL_FINISH | (interfaces ? CAP(NET_ADMIN) : 0));
}

int confine_no_capabilities(void)
{
	return keep_capabilities(0);
}

int confine_no_new_privileges(void)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -errno : 0;
}

/* From then on /proc/PID belongs to root, and no other process of the same user may trace this one. */
int confine_no_dumps(void)
{
	static const struct rlimit none;

	if (setrlimit(RLIMIT_CORE, &none))
		return -errno;
	return !CONFINE_SANITIZED && prctl(PR_SET_DUMPABLE, 0) ? -errno : 0;
}
