/*
 * jail: see jail.h, setns(2), user_namespaces(7).
 *
 * Theory of operation. confine_begin calls the parts while there is one thread, each where the reason beside the call says.
 * The words were checked before by confine_jail_check; what depends on the host is looked up here.
 *
 * The user is taken before the first file of the VM is opened. So the kernel asks that user's rights for every file, what
 * is made belongs to it, and it may remove at the end what it has made. It is in one other group at most, that of /dev/kvm:
 * a program that only starts VMs needs no entry in /etc/group.
 */
#include "vmm/confine/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/confine/confine_impl.h"
#include "vmm/confine/jail_impl.h"
#include "vmm/core/parse.h"

#define NETNS_FOLDER "/run/netns/"
/* The kernel takes the number above for "no change". */
#define ID_MAX 4294967294u

/* --- users ---------------------------------------------------------------------------------- */

/* A number: 1. Another word: 0. A number that is none of a user: -ERANGE. */
static int number_of(const char *text, uint32_t *id)
{
	uint64_t value;
	int rc = parse_u64(text, &value);

	if (rc == -EINVAL)
		return 0;
	if (rc || value > ID_MAX)
		return -ERANGE;
	*id = (uint32_t)value;
	return 1;
}

/*
 * Finds the line of a table such as /etc/passwd whose name or number is text, and reads its third and fourth field. Not
 * by getpwnam, which loads libraries of the host's choice into the process.
 */
static bool look_up(const char *table, const char *text, uint32_t *id, uint32_t *other)
{
	FILE *f = fopen(table, "re");
	bool found = false;
	char *line = NULL;
	size_t size = 0;

	while (f && !found && *text && getline(&line, &size, f) >= 0) {
		const char *field[4] = { "", "", "", "" };
		char *rest = line;

		line[strcspn(line, "\n")] = 0;
		/* A field may be empty: that of a password often is. */
		for (size_t i = 0; i < 4 && rest; i++)
			field[i] = strsep(&rest, ":");
		found = (!strcmp(field[0], text) || !strcmp(field[2], text)) &&
			number_of(field[2], id) == 1 && (!other || number_of(field[3], other) == 1);
	}
	free(line);
	if (f)
		fclose(f);
	return found;
}

static int one_id(const char *option, const char *text, const char *table, uint32_t *id,
		  uint32_t *other, struct err *err)
{
	int rc = number_of(text, id);

	if (rc < 0)
		return err_set(err, EINVAL, "--%s %s: must be at most %u", option, text, ID_MAX);
	if (look_up(table, text, id, other))
		return 0;
	if (!rc)
		return err_set(err, ENOENT, "--%s %s: not in %s; give a number", option, text,
			       table);
	/* A number needs no entry. */
	if (other)
		*other = *id;
	return 0;
}

int confine_jail_ids(const struct confine_jail *jail, const char *passwd, const char *group,
		     uid_t *uid, gid_t *gid, struct err *err)
{
	int rc = one_id("uid", jail->uid, passwd, uid, gid, err);

	return rc || !jail->gid ? rc : one_id("gid", jail->gid, group, gid, NULL, err);
}

/* The group of /dev/kvm, if a member may do what others may not; never root's. */
static size_t kvm_group(gid_t *group)
{
	struct stat st;

	if (stat("/dev/kvm", &st) || (st.st_mode & 066) != 060 || !st.st_gid)
		return 0;
	*group = st.st_gid;
	return 1;
}

/* Found while the host's files are there. */
static struct {
	struct confine_ids ids;
	gid_t further;
	size_t nfurther;
	bool changes;
} user;

static int find_user(const struct confine_jail *jail, struct err *err)
{
	int rc = confine_jail_ids(jail, "/etc/passwd", "/etc/group", &user.ids.uid, &user.ids.gid,
				  err);

	user.changes = !geteuid() || user.ids.uid != geteuid() || user.ids.gid != getegid();
	if (!rc && user.changes && geteuid())
		return err_set(
			err, EPERM,
			"--uid %s: only root can change its user; start bantam as root, or as that user",
			jail->uid);
	user.nfurther = kvm_group(&user.further);
	return rc;
}

int confine_jail_user(const struct confine_jail *jail, bool keep, bool interfaces, struct err *err)
{
	int rc;

	if (!jail->uid || !user.changes)
		return 0;
	rc = confine_take_user(user.ids.uid, user.ids.gid, &user.further, user.nfurther, keep,
			       interfaces);
	if (rc == -EPERM)
		return err_set(
			err, EPERM,
			"--uid %s: permission denied; give the container the capabilities SETUID and SETGID",
			jail->uid);
	return rc ? err_sys(err, -rc, "--uid %s", jail->uid) : 0;
}

/* --- the network namespace ------------------------------------------------------------------ */

static void netns_path(const char *text, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s%s", strchr(text, '/') ? "" : NETNS_FOLDER, text);
}

static int enter_netns(const char *text, struct err *err)
{
	char path[PATH_MAX];
	int fd, rc = 0;

	netns_path(text, path);
	/* Such a file is none that waits for another process. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT && !strchr(text, '/'))
		return err_set(err, ENOENT, "--netns %s: there is none; as root: ip netns add %s",
			       text, text);
	if (fd < 0)
		return err_sys(err, errno, "--netns %s", text);
	if (setns(fd, CLONE_NEWNET))
		rc = errno;
	close(fd);
	if (rc == EINVAL)
		return err_set(
			err, rc,
			"--netns %s: is no network namespace; give a name of ip netns, or /proc/PID/ns/net",
			text);
	if (rc == EPERM)
		return err_set(
			err, rc,
			"--netns %s: permission denied; only root can enter it (CAP_SYS_ADMIN)",
			text);
	return rc ? err_sys(err, rc, "--netns %s", text) : 0;
}

/* --- all ------------------------------------------------------------------------------------ */

int confine_jail_check(const struct confine_jail *jail, struct err *err)
{
	struct keyvals limits;
	int rc;

	if (jail->gid && !jail->uid)
		return err_set(err, EINVAL, "--gid %s: needs --uid USER", jail->gid);
	if (jail->netns && (!strcmp(jail->netns, ".") || !strcmp(jail->netns, "..")))
		return err_set(err, EINVAL, "--netns %s: must be a name or a path", jail->netns);
	if (jail->chroot && (!*jail->chroot || !strcmp(jail->chroot, "/")))
		return err_set(err, EINVAL, "--chroot %s: must be a folder below the root",
			       jail->chroot);
	/* Of a variable that is not set: it would mean the group above all others. */
	if (jail->cgroup && !jail->cgroup[strspn(jail->cgroup, "/.")])
		return err_set(err, EINVAL, "--cgroup %s: must be a group's name, or its path",
			       jail->cgroup);
	/* As Firecracker's jailer takes limits. */
	if (jail->cgroup && strchr(jail->cgroup, '='))
		return err_set(
			err, EINVAL,
			"--cgroup %s: must be a group's name, without \"=\"; limits are keys of --limit",
			jail->cgroup);
	if (!jail->limit)
		return 0;
	rc = confine_limits_parse(jail->limit, &limits, err);
	if (!rc && !jail->cgroup && confine_limits_need_group(&limits))
		rc = err_set(err, EINVAL,
			     "--limit %s: needs a group of its own; give --cgroup NAME",
			     jail->limit);
	keys_clear(&limits);
	return rc;
}

int confine_jail_programs(const struct confine_jail *jail, const char *const *program, size_t n,
			  struct err *err)
{
	const char *folder = getenv("BANTAM_LIBEXEC");

	for (size_t i = 0; jail->chroot && !(folder && *folder) && i < n; i++)
		if (program[i])
			return err_set(
				err, ENOENT,
				"--chroot %s: the VM needs %s, a program of the host; put it with its libraries "
				"(ldd) below that folder, and its folder there into BANTAM_LIBEXEC",
				jail->chroot, program[i]);
	return 0;
}

int confine_jail_enter(const struct confine_jail *jail, bool ptys, struct err *err)
{
	struct keyvals limits;
	int rc = jail->uid ? find_user(jail, err) : 0;

	if (!rc && (jail->limit || jail->cgroup)) {
		rc = confine_limits_parse(jail->limit, &limits, err);
		/* Before the first helper, for all that the process starts; and before its paths change. */
		if (!rc && jail->cgroup && !jail->dry_run)
			rc = confine_cgroup_enter(jail, &limits, err);
		if (!rc)
			rc = confine_limits_set(&limits, err);
		keys_clear(&limits);
	}
	/* With CAP_SYS_ADMIN, and before a tap or a socket is opened. */
	if (!rc && jail->netns)
		rc = enter_netns(jail->netns, err);
	/* With CAP_SYS_ADMIN, and behind all that is found by the host's paths. */
	if (!rc && jail->chroot)
		rc = confine_chroot(jail, &user.ids, ptys, err);
	return rc;
}

void confine_jail_describe(const struct confine_jail *jail, FILE *out)
{
	char path[PATH_MAX];

	if (jail->uid || jail->chroot || jail->netns || jail->cgroup || jail->limit)
		fprintf(out, "process\n");
	if (jail->uid)
		fprintf(out, "  user %u, group %u\n", (unsigned)geteuid(), (unsigned)getegid());
	if (jail->chroot)
		fprintf(out, "  root folder %s\n", jail->chroot);
	if (jail->netns) {
		netns_path(jail->netns, path);
		fprintf(out, "  network namespace %s\n", path);
	}
	if (jail->cgroup)
		fprintf(out, "  cgroup %s\n", jail->cgroup);
	if (jail->limit)
		fprintf(out, "  limits %s\n", jail->limit);
}
