/*
 * doctor_uses: what the checks mean for a user: which uses of bantam work on this host, for whom, and what
 * to do about the others; see doctor_impl.h. Programs are looked for, not run.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/core/helper.h"
#include "vmm/core/printable.h"
#include "vmm/doctor_impl.h"

#define CAP_NET_ADMIN_BIT 12u

static const struct doctor_line *find(const struct doctor_lines *l, const char *name)
{
	for (unsigned i = 0; i < l->n; i++)
		if (!strcmp(l->line[i].name, name))
			return &l->line[i];
	return NULL;
}

static bool is_ok(const struct doctor_report *r, const char *name)
{
	const struct doctor_line *c = find(&r->checks, name);

	return c && c->status == OK;
}

/* A use that a check decides: ok text, or what the check found. */
static void use_of_check(struct doctor_report *r, const char *use, const char *check,
			 const char *text)
{
	const struct doctor_line *c = find(&r->checks, check);

	if (!c)
		return;
	if (c->status == OK)
		doctor_report_add(&r->uses, use, OK, NULL, "%s", text);
	else
		doctor_report_add(&r->uses, use, c->status, c->advice, "%s%s%s",
				  *check == '/' ? check : "", *check == '/' ? ": " : "", c->value);
}

static void find_vms(struct doctor_report *r)
{
	const struct doctor_line *kvm = find(&r->checks, "/dev/kvm");
	const struct doctor_line *made = find(&r->checks, "VM creation");
	const char *advice = NULL;
	char lacks[200] = "";

	for (unsigned i = 0; i < r->checks.n; i++) {
		const struct doctor_line *c = &r->checks.line[i];
		size_t at = strlen(lacks);

		if (c->status == MISSING && !strncmp(c->name, "KVM_", 4))
			snprintf(lacks + at, sizeof(lacks) - at, "%s%s", at ? ", " : "", c->name);
		if (c->status == SLOW && c != made && !advice)
			advice = c->advice;
	}
	if (kvm->status != OK)
		doctor_report_add(&r->uses, "VMs", kvm->status, kvm->advice, "/dev/kvm: %s",
				  kvm->value);
	else if (lacks[0])
		doctor_report_add(&r->uses, "VMs", MISSING,
				  "bantam cannot run on this kernel: use a newer one",
				  "/dev/kvm lacks %s", lacks);
	else if (made && made->status == SLOW)
		doctor_report_add(&r->uses, "VMs", SLOW, advice ? advice : made->advice,
				  "/dev/kvm: %s", made->value);
	else
		doctor_report_add(&r->uses, "VMs", OK, NULL, "/dev/kvm is there and permitted");
	use_of_check(r, "stock kernels", "stock kernels",
		     "as distributions ship them: bantam run --kernel, --disk");
}

/* --- programs ------------------------------------------------------------------ */

static bool is_program(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

/* Looks for name in PATH, then in the folders of daemons. Returns false if there is none. */
static bool find_program(const char *name, char *path, size_t len)
{
	static const char daemons[] = "/usr/libexec:/usr/lib/qemu:/usr/sbin:/usr/local/libexec";
	const char *const from[] = { getenv("PATH"), daemons };

	for (unsigned i = 0; i < 2; i++) {
		const char *at = from[i] ? from[i] : "";

		while (*at) {
			int n = (int)strcspn(at, ":");

			if (n && snprintf(path, len, "%.*s/%s", n, at, name) < (int)len &&
			    is_program(path)) {
				printable(path);
				return true;
			}
			at += n;
			at += *at == ':';
		}
	}
	return false;
}

/* A daemon and what it serves: text follows its path. */
static void find_daemon(struct doctor_report *r, const char *use, const char *name,
			const char *text, const char *advice)
{
	char path[200];

	if (find_program(name, path, sizeof(path)))
		doctor_report_add(&r->uses, use, OK, NULL, "%s; %s", path, text);
	else
		doctor_report_add(&r->uses, use, ABSENT, advice, "%s is not installed", name);
}

static void find_folders(struct doctor_report *r)
{
	char path[200];

	if (!find_program("virtiofsd", path, sizeof(path)))
		doctor_report_add(&r->uses, "shared folders", ABSENT,
				  "apt install virtiofsd (Debian 12: qemu-system-common)",
				  "virtiofsd is not installed");
	else if (strstr(path, "/lib/qemu/") && geteuid())
		/* QEMU's own of before 8.0 writes a file below /var/run. */
		doctor_report_add(&r->uses, "shared folders", ABSENT,
				  "start it as root, or install the newer virtiofsd",
				  "%s is for root alone", path);
	else
		doctor_report_add(&r->uses, "shared folders", OK, NULL,
				  "%s; --fs tag=TAG,socket=SOCKET", path);
}

/* One of bantam's own programs that cannot be started. */
static void tell_helper(struct doctor_report *r, const char *use, struct err *err)
{
	char *advice = strchr(err->text, ';');

	if (advice)
		*advice = 0;
	doctor_report_add(&r->uses, use, ABSENT, advice ? advice + 2 : "make install", "%s",
			  printable(err->text));
}

static void find_helpers(struct doctor_report *r)
{
	static const char names[][16] = { "bantam-ctl", "bantam-fs", "bantam-image",
					  "bantam-initrd", "bantam-seed" };
	char path[PATH_MAX + 64], folder[200] = "";
	struct err err = { "" };

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (helper_find(names[i], path, sizeof(path), &err)) {
			tell_helper(r, names[i], &err);
			continue;
		}
		*strrchr(path, '/') = 0;
		snprintf(folder, sizeof(folder), "%.*s", (int)sizeof(folder) - 1, path);
	}
	if (folder[0])
		doctor_report_add(&r->uses, "helper programs", OK, NULL, "in %s: %s",
				  printable(folder),
				  "for ctl, image, initrd, seed, and run --disk without --kernel");
}

/* --- networks, memory, disks ----------------------------------------------------- */

static bool may_make_taps(void)
{
	unsigned long long caps = 0;
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "CapEff: %llx", &caps) == 1)
			break;
	if (f)
		fclose(f);
	return caps >> CAP_NET_ADMIN_BIT & 1;
}

static void find_networks(struct doctor_report *r)
{
	char path[PATH_MAX + 64];
	struct err err = { "" };

	if (helper_find("bantam-net-user", path, sizeof(path), &err))
		tell_helper(r, "user network", &err);
	else
		doctor_report_add(&r->uses, "user network", OK, NULL,
				  "--net user: for every user, without privileges%s",
				  is_ok(r, "shared huge pages") ?
					  "; fast: its helper serves the card" :
					  "");
	if (!is_ok(r, "/dev/net/tun"))
		use_of_check(r, "tap network", "/dev/net/tun", "");
	else if (may_make_taps())
		doctor_report_add(&r->uses, "tap network", OK, NULL,
				  "--net tap=NAME makes and removes it%s",
				  is_ok(r, "/dev/vhost-net") ? "; vhost=on: in the kernel" : "");
	else
		doctor_report_add(
			&r->uses, "tap network", ABSENT,
			"make it as root: ip tuntap add dev tap0 mode tap user $USER; then "
			"--net tap=tap0 needs no privileges",
			"--net tap=NAME may not make one");
	find_daemon(r, "passt network", "passt",
		    "--net stream=SOCKET, newer ones --net vhost-user=SOCKET",
		    "optional: apt install passt");
	doctor_report_add(&r->uses, "vsock", OK, NULL, "--vsock cid=N,socket=PATH%s",
			  is_ok(r, "/dev/vhost-vsock") ? "; vhost=on: AF_VSOCK on the host" : "");
}

static void find_memory(struct doctor_report *r)
{
	const struct doctor_line *thp = find(&r->checks, "transparent huge pages");
	const struct doctor_line *pool = find(&r->checks, "huge pages");

	if (thp->status == OK)
		doctor_report_add(&r->uses, "huge pages", OK, NULL, "transparent, %s", thp->value);
	else
		doctor_report_add(&r->uses, "huge pages", ABSENT, thp->advice, "transparent: %s",
				  thp->value);
	doctor_report_add(&r->uses, "--hugepages 2M", pool->status, pool->advice, "%s",
			  pool->value);
}

/* What --confine leaves out here. */
static void find_confinement(struct doctor_report *r)
{
	char lacks[200] = "";

	for (unsigned i = 0; i < r->checks.n; i++) {
		const struct doctor_line *c = &r->checks.line[i];
		size_t at = strlen(lacks);

		if (!strncmp(c->name, CONFINE_ROW, strlen(CONFINE_ROW)) && c->status != OK)
			snprintf(lacks + at, sizeof(lacks) - at, "%s%s", at ? ", " : "",
				 c->name + strlen(CONFINE_ROW));
	}
	if (lacks[0])
		doctor_report_add(&r->uses, "confinement", ABSENT,
				  "bantam doctor --verbose says more", "refused here: %s", lacks);
	else
		doctor_report_add(&r->uses, "confinement", OK, NULL,
				  "--confine on: each step is permitted");
}

void doctor_uses_find(struct doctor_report *r)
{
	find_vms(r);
	use_of_check(r, "disks", "io_uring", "raw, qcow2 and block devices, by io_uring");
	find_networks(r);
	find_folders(r);
	find_daemon(r, "vhost-user disks", "qemu-storage-daemon", "--disk vhost-user=SOCKET",
		    "optional: apt install qemu-system-common");
	find_memory(r);
	find_confinement(r);
	find_helpers(r);
}
