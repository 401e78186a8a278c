/* doctor: looks at the host; see doctor.h. */
#include "vmm/doctor_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/arch/arch.h"
#include "vmm/arch/probe.h"
#include "vmm/confine/confine.h"
#include "vmm/core/huge_file.h"
#include "vmm/kvm.h"

#define NX_PARAM "/sys/module/kvm/parameters/nx_huge_pages"
#define NX_BUG "/sys/devices/system/cpu/vulnerabilities/itlb_multihit"
/* Usual is 0.2 ms; the host settings that check_creation describes cost 10 to 30 ms. */
#define SLOW_CREATE_US 5000

/* Reads the first line of a small file, or "" if the file cannot be read. */
static void read_line(const char *path, char *buf, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, len - 1);

	buf[n > 0 ? n : 0] = 0;
	buf[strcspn(buf, "\n")] = 0;
	if (fd >= 0)
		close(fd);
}

/* --- KVM ------------------------------------------------------------------- */
static void check_needs(struct doctor_report *r, const struct kvm *kvm, const struct kvm_need *need)
{
	for (; need->name; need++) {
		if (kvm_check(kvm, need->cap) > 0)
			doctor_report_add(&r->checks, need->name, OK, NULL, "%s", need->why);
		else
			doctor_report_add(
				&r->checks, need->name, need->required ? MISSING : ABSENT,
				need->required ?
					"bantam cannot run on this kernel: use a newer one" :
					"not needed by every guest",
				"%s", need->why);
	}
}

static void check_caps(struct doctor_report *r, const struct kvm *kvm)
{
	int max, recommended;

	check_needs(r, kvm, kvm_needs);
	check_needs(r, kvm, arch_needs);
	kvm_vcpu_limits(kvm, &max, &recommended);
	doctor_report_add(&r->checks, "vcpus", OK, NULL, "at most %d for one VM, %d recommended",
			  max, recommended);
}

static void check_stock(struct doctor_report *r, const struct kvm *kvm, struct probe *p)
{
	struct err err = { "" };
	char advice[160];

	if (probe_run(kvm, p, &err)) {
		snprintf(r->reason, sizeof(r->reason), "the probe failed: %.280s", err.text);
		doctor_report_add(&r->checks, "stock kernels", MISSING, NULL, "%s", err.text);
		return;
	}
	r->mips = p->mips;
	r->stock_kernels = p->stock_kernels;
	if (p->stock_kernels) {
		doctor_report_add(&r->checks, "stock kernels", OK, NULL, "run here");
		return;
	}
	if (p->interpreted)
		snprintf(r->reason, sizeof(r->reason),
			 "kernel mode is interpreted (%.1f million instructions/s)", p->mips);
	if (p->refused[0]) {
		size_t n = strlen(r->reason);
		snprintf(r->reason + n, sizeof(r->reason) - n, "%srefused in kernel mode: %s",
			 n ? "; " : "", p->refused);
	}
	snprintf(advice, sizeof(advice),
		 "this is a software KVM: bare-metal guests run, for others use a host with %s, "
		 "or tools/testbed",
		 arch_traits.virtualisation);
	doctor_report_add(&r->checks, "stock kernels", ABSENT, advice, "%s", r->reason);
}

/*
 * With the iTLB multihit mitigation on, Linux before 6.13 starts a worker for
 * each VM inside KVM_CREATE_VM and moves the worker into the caller's cgroups. The
 * move waits for an RCU grace period: 10 to 30 ms per VM in any cgroup but the root.
 * It does not if the hierarchy favours such moves (favordynmods, Linux 6.0), or if
 * the kernel starts no worker (nx_huge_pages=never, 6.1).
 */
static void check_creation(struct doctor_report *r, const struct probe *p)
{
	char nx[16], bug[64], mounts[8192];
	int fd = open("/proc/mounts", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, mounts, sizeof(mounts) - 1);
	bool on, favour, slow = p->create_us > SLOW_CREATE_US;

	if (fd >= 0)
		close(fd);
	mounts[n > 0 ? n : 0] = 0;
	read_line(NX_PARAM, nx, sizeof(nx));
	read_line(NX_BUG, bug, sizeof(bug));
	on = nx[0] == 'Y' || nx[0] == 'y' || nx[0] == '1' || !strcmp(nx, "auto");
	favour = strstr(mounts, "favordynmods");
	doctor_report_add(&r->checks, "VM creation", slow ? SLOW : OK,
			  on ? "see nx_huge_pages and cgroups" :
			       "the host is busy, or has very many VMs",
			  "KVM_CREATE_VM took %.1f ms", (double)p->create_us / 1e3);
	if (!nx[0])
		doctor_report_add(&r->checks, "nx_huge_pages", OK, NULL,
				  "this KVM does not have it");
	else
		doctor_report_add(
			&r->checks, "nx_huge_pages", on && slow ? SLOW : OK,
			!strncmp(bug, "Not affected", 12) ?
				"this CPU does not need it: load kvm with nx_huge_pages=never" :
				"needed on this CPU; it also splits the guests' huge pages",
			"%s%s", nx, on ? " (splits huge pages, one worker for each VM)" : "");
	doctor_report_add(&r->checks, "cgroups", on && slow && !favour ? SLOW : OK,
			  "mount -o remount,favordynmods /sys/fs/cgroup", "%s",
			  favour ? "moves are fast (favordynmods)" :
			  on	 ? "moves wait for RCU; new VMs too, on Linux before 6.13" :
				   "no worker to move when a VM is created");
}

/* Returns the kernel module behind /dev/kvm, or NULL if it is built in or unknown. */
static const char *loaded_module(void)
{
	for (const char *const *m = arch_traits.modules; *m; m++) {
		char path[64];

		snprintf(path, sizeof(path), "/sys/module/%s", *m);
		if (!access(path, F_OK))
			return *m;
	}
	return NULL;
}

static void check_kvm(struct doctor_report *r)
{
	struct kvm kvm;
	struct err err = { "" };
	struct probe p = { 0 };
	char text[sizeof(err.text)];
	const char *module;
	char *advice;

	if (kvm_open(&kvm, &err)) {
		/* kvm_open's text is "what failed; what to do". */
		snprintf(text, sizeof(text), "%s", err.text);
		advice = strchr(text, ';');
		if (advice)
			*advice = 0;
		doctor_report_add(&r->checks, "/dev/kvm", MISSING, advice ? advice + 2 : NULL, "%s",
				  strncmp(text, "/dev/kvm: ", 10) ? text : text + 10);
		snprintf(r->reason, sizeof(r->reason), "%.280s", text);
		return;
	}
	module = loaded_module();
	doctor_report_add(&r->checks, "/dev/kvm", OK, NULL, "API version %d%s%s", KVM_VERSION,
			  module ? ", " : "", module ? module : "");
	check_caps(r, &kvm);
	check_stock(r, &kvm, &p);
	check_creation(r, &p);
	kvm_close(&kvm);
}

/* --- the rest of the host ---------------------------------------------------- */
static void check_huge_pages(struct doctor_report *r)
{
	char thp[64], total[32], unused[32];
	const char *mode;

	read_line("/sys/kernel/mm/transparent_hugepage/enabled", thp, sizeof(thp));
	mode = strstr(thp, "[always]")	? "always" :
	       strstr(thp, "[madvise]") ? "where asked for (madvise)" :
					  "never";
	doctor_report_add(&r->checks, "transparent huge pages", strcmp(mode, "never") ? OK : ABSENT,
			  "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled", "%s", mode);
	read_line("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", total, sizeof(total));
	read_line("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", unused,
		  sizeof(unused));
	doctor_report_add(
		&r->checks, "huge pages", atoi(total) > 0 ? OK : ABSENT,
		"optional, for --hugepages 2M: echo N > /proc/sys/vm/nr_hugepages reserves N pages of 2 MiB",
		"%s of %s reserved pages of 2 MiB are free", unused[0] ? unused : "0",
		total[0] ? total : "0");
}

static void check_device(struct doctor_report *r, const char *path, const char *what,
			 const char *load)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	bool group;

	if (fd >= 0) {
		close(fd);
		doctor_report_add(&r->checks, path, OK, NULL, "%s", what);
	} else if (errno == EACCES || errno == EPERM) {
		group = !stat(path, &st) && st.st_gid && (st.st_mode & 060) == 060;
		doctor_report_add(&r->checks, path, ABSENT,
				  group ? "needs root, or the group that owns the file" :
					  "needs root, who alone may open the file",
				  "%s: permission denied", what);
	} else {
		doctor_report_add(&r->checks, path, ABSENT, load, "%s: %s", what, strerror(errno));
	}
}

static void check_uring(struct doctor_report *r)
{
	struct io_uring ring;
	int rc = io_uring_queue_init(1, &ring, 0);

	if (!rc) {
		io_uring_queue_exit(&ring);
		doctor_report_add(&r->checks, "io_uring", OK, NULL, "disks use it");
		return;
	}
	doctor_report_add(
		&r->checks, "io_uring", ABSENT,
		rc == -EPERM ?
			"sysctl kernel.io_uring_disabled=0, or allow it in the container's seccomp profile" :
			"use Linux 5.6 or later with CONFIG_IO_URING",
		"disks use a thread pool instead: %s", strerror(-rc));
}

static void check_shared_memory(struct doctor_report *r)
{
	int fd = huge_file_create();

	if (fd >= 0) {
		close(fd);
		doctor_report_add(&r->checks, "shared huge pages", OK, NULL,
				  "the user network's helper serves the guest's queues");
		return;
	}
	doctor_report_add(
		&r->checks, "shared huge pages", ABSENT,
		fd == -ENOTSUP ?
			"echo never > /sys/kernel/mm/transparent_hugepage/shmem_enabled" :
			"allow user namespaces: sysctl user.max_user_namespaces, the container's "
			"seccomp profile",
		"the user network's frames cross to its helper by rings: %s", strerror(-fd));
}

/* For --cgroup and --limit. */
static void check_cgroup(struct doctor_report *r)
{
	char text[300];

	if (!confine_cgroup_describe(text, sizeof(text)))
		doctor_report_add(&r->checks, "cgroup v2", OK, NULL, "%s", text);
	else
		doctor_report_add(&r->checks, "cgroup v2", ABSENT,
				  "boot the host with systemd.unified_cgroup_hierarchy=1",
				  "--cgroup needs it; not at /sys/fs/cgroup");
}

/* A row for each step of --confine, as a VM of this user takes it. */
static void check_confinement(struct doctor_report *r)
{
	static const char namespaces[] =
		"allow user namespaces: sysctl user.max_user_namespaces, the container's seccomp "
		"profile, AppArmor; or start bantam as root";
	static const char *const advice[CONFINE_STEPS] = {
		[CONFINE_NAMESPACES] = namespaces,
		[CONFINE_NETWORK] = namespaces,
		[CONFINE_ROOT] = namespaces,
		[CONFINE_USER] = "give the container the capabilities SETUID and SETGID",
		[CONFINE_LANDLOCK] =
			"use Linux 5.13 or later with landlock in lsm= of its command line",
	};
	static const enum confine_step steps[] = { CONFINE_DUMP,    CONFINE_PRIVILEGES,
						   CONFINE_LIMITS,  CONFINE_CAPABILITIES,
						   CONFINE_NETWORK, CONFINE_NAMESPACES,
						   CONFINE_ROOT,    CONFINE_USER,
						   CONFINE_LANDLOCK };
	int refused[CONFINE_STEPS], rc = confine_probe(refused);
	char name[48];

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		int why = rc ? rc : refused[steps[i]];

		if (steps[i] == CONFINE_USER && geteuid())
			continue;
		snprintf(name, sizeof(name), CONFINE_ROW "%s", confine_step_name(steps[i]));
		doctor_report_add(&r->checks, name, why ? ABSENT : OK, advice[steps[i]], "%s",
				  why ? strerror(-why) : "permitted");
	}
}

int doctor_run(bool json, bool verbose)
{
	struct doctor_report *r = calloc(1, sizeof(*r));
	const char *text;
	int rc = 0;

	if (!r)
		return DOCTOR_NO_VMS;
	check_kvm(r);
	check_huge_pages(r);
	check_device(r, "/dev/net/tun", "tap networking", "modprobe tun");
	check_device(r, "/dev/vhost-net", "networking in the kernel", "modprobe vhost_net");
	check_device(r, "/dev/vhost-vsock", "vsock in the kernel", "modprobe vhost_vsock");
	check_uring(r);
	check_shared_memory(r);
	check_confinement(r);
	check_cgroup(r);
	r->ok = true;
	for (unsigned i = 0; i < r->checks.n; i++)
		r->ok = r->ok && r->checks.line[i].status != MISSING;
	doctor_uses_find(r);
	if (json)
		rc = doctor_report_json(r);
	else
		doctor_report_text(r, verbose);
	rc = rc || fflush(stdout) ? DOCTOR_NO_VMS : doctor_report_verdict(r, &text);
	free(r);
	return rc;
}
