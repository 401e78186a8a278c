/* rights: dumps, privileges and capabilities of the process. See confine_impl.h, capabilities(7), prctl(2). */
#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/confine/confine_impl.h"
#include "vmm/core/helper.h"

#define CAP(name) (1ull << CAP_##name)
/*
 * DAC_…, FOWNER, CHOWN: files of other users. KILL, SETUID, SETGID: helpers, which take another user, and our own
 * user. SETPCAP: to empty the bounding set. NET_BIND_SERVICE: a port below 1024 that is forwarded. IPC_LOCK:
 * io_uring and vhost before Linux 5.12 lock memory. SYS_CHROOT: confine_enter_root. SETFCAP: without it no child of root
 * has root in a user namespace, in which huge_file.c makes shared memory with huge pages.
 */
#define UNTIL_FINISH                                                                               \
	(CAP(DAC_OVERRIDE) | CAP(DAC_READ_SEARCH) | CAP(FOWNER) | CAP(CHOWN) | CAP(KILL) |         \
	 CAP(SETUID) | CAP(SETGID) | CAP(SETPCAP) | CAP(NET_BIND_SERVICE) | CAP(IPC_LOCK) |        \
	 CAP(SYS_CHROOT) | CAP(SETFCAP))
/* What a user that root has named keeps of these: nothing by which it would be more to a file than that user. */
#define OF_A_USER (CAP(SETPCAP) | CAP(NET_BIND_SERVICE) | CAP(IPC_LOCK) | CAP(SYS_CHROOT))

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

/* What the bounding set of a thread may still have: all threads inherit what the first one has dropped. */
static uint64_t bounding_left = ~0ull;

/*
 * Without CAP_SETPCAP the bounding set stays: it gives nothing to a process that has no_new_privs and permits nothing
 * itself. The first capability that the kernel does not know ends the loop, too.
 */
static void bound_capabilities(uint64_t mask)
{
	for (unsigned cap = 0; cap < 64; cap++)
		if (bounding_left & ~mask & 1ull << cap && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			return;
}

/* Takes all but those in mask from the sets of the thread itself. raise: what stays permitted is in effect again. */
static int reduce_capabilities(uint64_t mask, bool raise)
{
	struct __user_cap_data_struct data[2];
	int rc = get(data);

	for (unsigned i = 0; !rc && i < 2; i++) {
		data[i].permitted &= (uint32_t)(mask >> (32 * i));
		data[i].effective = (raise ? ~0u : data[i].effective) & data[i].permitted;
		data[i].inheritable = 0;
	}
	return rc ? rc : set(data);
}

/* Takes all capabilities from all sets but those in mask. */
static int keep_capabilities(uint64_t mask)
{
	bound_capabilities(mask);
	/* Linux before 4.3 has no ambient set. */
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) && errno != EINVAL)
		return -errno;
	return reduce_capabilities(mask, false);
}

/* In the only thread that there is. */
int confine_cut_capabilities(bool interfaces, bool own_namespace)
{
	uint64_t mask = UNTIL_FINISH | (interfaces ? CAP(NET_ADMIN) : 0) |
			(own_namespace ? CAP(SYS_ADMIN) : 0);
	int rc;

	/* A user namespace that was made in between has given all again. */
	bounding_left = ~0ull;
	rc = keep_capabilities(mask);
	bounding_left = mask;
	return rc;
}

int confine_no_capabilities(bool but_files)
{
	return keep_capabilities(but_files ? CAP(DAC_OVERRIDE) : 0);
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

void confine_permit_dumps(void)
{
	prctl(PR_SET_DUMPABLE, 1);
}

bool confine_has_capabilities(void)
{
	struct __user_cap_data_struct data[2];

	return !get(data) && (data[0].permitted | data[1].permitted);
}

/*
 * By the system calls themselves: glibc's functions change all threads, and end the process if one of them has given up
 * the right to that before. The kernel then forgets that the process is not dumpable, and to which signal the end of its
 * parent leads.
 */
static int change_user(uid_t uid, gid_t gid, const gid_t *further, size_t nfurther)
{
	pid_t parent = getppid();
	int at_end = 0;

	prctl(PR_GET_PDEATHSIG, &at_end);
	if (syscall(SYS_setgroups, nfurther, further) || syscall(SYS_setresgid, gid, gid, gid) ||
	    syscall(SYS_setresuid, uid, uid, uid))
		return -errno;
	prctl(PR_SET_DUMPABLE, CONFINE_SANITIZED);
	if (!at_end)
		return 0;
	prctl(PR_SET_PDEATHSIG, at_end);
	/* It has ended meanwhile. */
	if (getppid() != parent)
		kill(getpid(), at_end);
	return 0;
}

int confine_own_user(void)
{
	const uid_t users[] = { helper_user(getpid()), HELPER_NOBODY };
	int rc = -EPERM;

	bound_capabilities(0);
	for (unsigned i = 0; rc && i < 2; i++)
		rc = change_user(users[i], users[i], NULL, 0);
	return rc;
}

int confine_take_user(uid_t uid, gid_t gid, const gid_t *further, size_t nfurther, bool keep,
		      bool interfaces)
{
	uint64_t mask = !keep ? 0 : OF_A_USER | (interfaces ? CAP(NET_ADMIN) : 0);
	int rc;

	/* For its helpers, too. */
	bound_capabilities(0);
	bounding_left = 0;
	/* Without it the kernel takes all of them. */
	if (prctl(PR_SET_KEEPCAPS, keep, 0, 0, 0))
		return -errno;
	rc = change_user(uid, gid, further, nfurther);
	prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
	/* The change has taken all out of effect. */
	return rc ? rc : reduce_capabilities(mask, true);
}

/*
 * What the process never needs: message queues, signals that queue up for others, real-time priorities. Not the number of
 * processes: since Linux 6.15 KVM makes one when the guest begins, of which the filters, which refuse clone, know nothing.
 */
int confine_limits(void)
{
	static const struct rlimit none;
	static const __rlimit_resource_t what[] = { RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_RTPRIO };

	for (unsigned i = 0; i < sizeof(what) / sizeof(what[0]); i++)
		if (setrlimit(what[i], &none))
			return -errno;
	return 0;
}
