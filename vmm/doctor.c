/* doctor: see doctor.h. */
#include "vmm/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <liburing.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/arch/arch.h"
#include "vmm/arch/probe.h"
#include "vmm/core/huge_file.h"
#include "vmm/kvm.h"

#define MAX_CHECKS 48
#define NX_PARAM "/sys/module/kvm/parameters/nx_huge_pages"
#define NX_BUG "/sys/devices/system/cpu/vulnerabilities/itlb_multihit"
/* Usual is 0.2 ms; the host settings that check_creation describes cost 10 to 30 ms. */
#define SLOW_CREATE_US 5000

enum status { OK, MISSING, SLOW, ABSENT };
static const char *const status_names[] = { "ok", "missing", "slow", "absent" };

struct check {
	char name[48];
	enum status status;
	char value[320];
	char advice[320]; /* what the user can do, or "" */
};

struct report {
	struct check check[MAX_CHECKS];
	unsigned n;
	bool stock_kernels;
	char reason[320]; /* why stock kernels do not run; "" if they do */
	double mips;
};

/* Adds a check with the formatted value. The advice may be NULL; a check that is OK drops it. */
static void add(struct report *r, const char *name, enum status status, const char *advice,
		const char *fmt, ...) __attribute__((format(printf, 5, 6)));

static void add(struct report *r, const char *name, enum status status, const char *advice,
		const char *fmt, ...)
{
	struct check *c;
	va_list ap;

	if (r->n == MAX_CHECKS)
		return;
	c = &r->check[r->n++];
	snprintf(c->name, sizeof(c->name), "%s", name);
	c->status = status;
	va_start(ap, fmt);
	vsnprintf(c->value, sizeof(c->value), fmt, ap);
	va_end(ap);
	if (status != OK && advice)
		snprintf(c->advice, sizeof(c->advice), "%s", advice);
}

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
static void check_needs(struct report *r, const struct kvm *kvm, const struct kvm_need *need)
{
	for (; need->name; need++) {
		if (kvm_check(kvm, need->cap) > 0)
			add(r, need->name, OK, NULL, "%s", need->why);
		else
			add(r, need->name, need->required ? MISSING : ABSENT,
			    need->required ? "bantam cannot run on this kernel: use a newer one" :
					     "not needed by every guest",
			    "%s", need->why);
	}
}

static void check_caps(struct report *r, const struct kvm *kvm)
{
	int max, recommended;

	check_needs(r, kvm, kvm_needs);
	check_needs(r, kvm, arch_needs);
	kvm_vcpu_limits(kvm, &max, &recommended);
	add(r, "vcpus", OK, NULL, "at most %d for one VM, %d recommended", max, recommended);
}

static void check_stock(struct report *r, const struct kvm *kvm, struct probe *p)
{
	struct err err = { "" };
	char advice[160];

	if (probe_run(kvm, p, &err)) {
		snprintf(r->reason, sizeof(r->reason), "the probe failed: %.280s", err.text);
		add(r, "stock kernels", MISSING, NULL, "%s", err.text);
		return;
	}
	r->mips = p->mips;
	r->stock_kernels = p->stock_kernels;
	if (p->stock_kernels) {
		add(r, "stock kernels", OK, NULL, "run here");
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
	add(r, "stock kernels", ABSENT, advice, "%s", r->reason);
}

/*
 * With the iTLB multihit mitigation on, Linux before 6.13 starts a worker for
 * each VM inside KVM_CREATE_VM and moves the worker into the caller's cgroups. The
 * move waits for an RCU grace period: 10 to 30 ms per VM in any cgroup but the root.
 * It does not if the hierarchy favours such moves (favordynmods, Linux 6.0), or if
 * the kernel starts no worker (nx_huge_pages=never, 6.1).
 */
static void check_creation(struct report *r, const struct probe *p)
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
	add(r, "VM creation", slow ? SLOW : OK,
	    on ? "see nx_huge_pages and cgroups" : "the host is busy, or has very many VMs",
	    "KVM_CREATE_VM took %.1f ms", (double)p->create_us / 1e3);
	if (!nx[0])
		add(r, "nx_huge_pages", OK, NULL, "this KVM does not have it");
	else
		add(r, "nx_huge_pages", on && slow ? SLOW : OK,
		    !strncmp(bug, "Not affected", 12) ?
			    "this CPU does not need it: load kvm with nx_huge_pages=never" :
			    "needed on this CPU; it also splits the guests' huge pages",
		    "%s%s", nx, on ? " (splits huge pages, one worker for each VM)" : "");
	add(r, "cgroups", on && slow && !favour ? SLOW : OK,
	    "mount -o remount,favordynmods /sys/fs/cgroup", "%s",
	    favour ? "moves are fast (favordynmods)" :
	    on	   ? "moves wait for RCU; new VMs too, on Linux before 6.13" :
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

static void check_kvm(struct report *r)
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
		add(r, "/dev/kvm", MISSING, advice ? advice + 2 : NULL, "%s",
		    strncmp(text, "/dev/kvm: ", 10) ? text : text + 10);
		snprintf(r->reason, sizeof(r->reason), "%.280s", text);
		return;
	}
	module = loaded_module();
	add(r, "/dev/kvm", OK, NULL, "API version %d%s%s", KVM_VERSION, module ? ", " : "",
	    module ? module : "");
	check_caps(r, &kvm);
	check_stock(r, &kvm, &p);
	check_creation(r, &p);
	kvm_close(&kvm);
}

/* --- the rest of the host ---------------------------------------------------- */
static void check_huge_pages(struct report *r)
{
	char thp[64], total[32], unused[32];
	const char *mode;

	read_line("/sys/kernel/mm/transparent_hugepage/enabled", thp, sizeof(thp));
	mode = strstr(thp, "[always]")	? "always" :
	       strstr(thp, "[madvise]") ? "where asked for (madvise)" :
					  "never";
	add(r, "transparent huge pages", strcmp(mode, "never") ? OK : ABSENT,
	    "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled", "%s", mode);
	read_line("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", total, sizeof(total));
	read_line("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", unused,
		  sizeof(unused));
	add(r, "huge pages", atoi(total) > 0 ? OK : ABSENT,
	    "optional, for --hugepages 2M: echo N > /proc/sys/vm/nr_hugepages reserves N pages of 2 MiB",
	    "%s of %s reserved pages of 2 MiB are free", unused[0] ? unused : "0",
	    total[0] ? total : "0");
}

static void check_device(struct report *r, const char *path, const char *what, const char *load)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	bool group;

	if (fd >= 0) {
		close(fd);
		add(r, path, OK, NULL, "%s", what);
	} else if (errno == EACCES || errno == EPERM) {
		group = !stat(path, &st) && st.st_gid && (st.st_mode & 060) == 060;
		add(r, path, ABSENT,
		    group ? "needs root, or the group that owns the file" :
			    "needs root, who alone may open the file",
		    "%s: permission denied", what);
	} else {
		add(r, path, ABSENT, load, "%s: %s", what, strerror(errno));
	}
}

static void check_uring(struct report *r)
{
	struct io_uring ring;
	int rc = io_uring_queue_init(1, &ring, 0);

	if (!rc) {
		io_uring_queue_exit(&ring);
		add(r, "io_uring", OK, NULL, "disks use it");
		return;
	}
	add(r, "io_uring", ABSENT,
	    rc == -EPERM ?
		    "sysctl kernel.io_uring_disabled=0, or allow it in the container's seccomp profile" :
		    "use Linux 5.6 or later with CONFIG_IO_URING",
	    "disks use a thread pool instead: %s", strerror(-rc));
}

static void check_shared_memory(struct report *r)
{
	int fd = huge_file_create();

	if (fd >= 0) {
		close(fd);
		add(r, "shared huge pages", OK, NULL,
		    "the user network's helper serves the guest's queues");
		return;
	}
	add(r, "shared huge pages", ABSENT,
	    fd == -ENOTSUP ?
		    "echo never > /sys/kernel/mm/transparent_hugepage/shmem_enabled" :
		    "allow user namespaces: sysctl user.max_user_namespaces, the container's "
		    "seccomp profile",
	    "the user network's frames cross to its helper by rings: %s", strerror(-fd));
}

/* --- output --------------------------------------------------------------------- */
static void print_text(const struct report *r, bool ok)
{
	for (unsigned i = 0; i < r->n; i++) {
		const struct check *c = &r->check[i];
		printf("%-8s %-28s %s%s%s\n", status_names[c->status], c->name, c->value,
		       c->advice[0] ? " -> " : "", c->advice);
	}
	puts(ok ? r->stock_kernels ? "ready" : "ready for guests that this KVM can run" :
		  "not ready: see the lines that say \"missing\"");
}

static int print_json(const struct report *r, bool ok)
{
	json_t *root = json_pack("{s:b, s:b, s:s, s:f, s:[]}", "ok", ok, "stock_kernels",
				 r->stock_kernels, "reason", r->reason, "kernel_mode_mips", r->mips,
				 "checks");
	json_t *checks = json_object_get(root, "checks");
	int rc = 0;

	for (unsigned i = 0; i < r->n; i++) {
		const struct check *c = &r->check[i];
		rc |= json_array_append_new(checks,
					    json_pack("{s:s, s:s, s:s, s:s}", "name", c->name,
						      "status", status_names[c->status], "value",
						      c->value, "advice", c->advice));
	}
	rc |= json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(4));
	putchar('\n');
	json_decref(root);
	return rc;
}

int doctor_run(bool json)
{
	struct report *r = calloc(1, sizeof(*r));
	bool ok = true;

	if (!r)
		return 1;
	check_kvm(r);
	check_huge_pages(r);
	check_device(r, "/dev/net/tun", "tap networking", "modprobe tun");
	check_device(r, "/dev/vhost-net", "networking in the kernel", "modprobe vhost_net");
	check_device(r, "/dev/vhost-vsock", "vsock in the kernel", "modprobe vhost_vsock");
	check_uring(r);
	check_shared_memory(r);
	for (unsigned i = 0; i < r->n; i++)
		ok = ok && r->check[i].status != MISSING;
	if (json)
		ok = !print_json(r, ok) && ok;
	else
		print_text(r, ok);
	free(r);
	return fflush(stdout) || !ok;
}
