/*
 * confine: see confine.h.
 *
 * Theory of operation. A step is a call to the kernel that takes something from the process and cannot be undone.
 * Each step needs what a later one takes, so their order matters; the reason stands beside each. A step that is
 * refused changes nothing: the next one does not rely on it. What was refused is collected, and said in one line.
 *
 * The kernel keeps capabilities, Landlock's rules and filters for each thread. confine_begin runs while there is one
 * thread only, so all threads inherit what it does. confine_finish runs in the machine's thread. The other
 * threads do the same by confine_thread_rights, which may be earlier: they open nothing.
 */
#include "vmm/confine/confine.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "vmm/confine/confine_impl.h"
#include "vmm/confine/filter.h"
#include "vmm/confine/jail_impl.h"
#include "vmm/core/calls.h"
#include "vmm/core/helper.h"
#include "vmm/core/huge_file.h"
#include "vmm/core/log.h"
#include "vmm/core/thread.h"

static struct {
	enum confine_mode mode;
	bool files_later, own_namespace, own_user;
	atomic_bool names_of_others;
	/*
	 * A plain user's process is in a user namespace from begin_alone on, where root's files look like those of others:
	 * an initrd would lose their set-user-ID. Root's process has none.
	 */
	bool waits_for_owners;
	int refused[CONFINE_STEPS]; /* 0 or -errno */
} confine = { .mode = CONFINE_OFF };

static _Thread_local bool has_rights_gone;

const char *confine_step_name(enum confine_step step)
{
	static const char *const names[CONFINE_STEPS] = {
		[CONFINE_DESCRIPTORS] = "closed descriptors",
		[CONFINE_DUMP] = "no dumps",
		[CONFINE_PRIVILEGES] = "no new privileges",
		[CONFINE_CAPABILITIES] = "no capabilities",
		[CONFINE_NAMESPACES] = "namespaces",
		[CONFINE_NETWORK] = "network namespace",
		[CONFINE_ROOT] = "empty root",
		[CONFINE_USER] = "own user",
		[CONFINE_LANDLOCK] = "Landlock",
		[CONFINE_LIMITS] = "resource limits",
		[CONFINE_FILTERS] = "system call filters",
	};

	return names[step];
}

enum confine_mode confine_mode(void)
{
	return confine.mode;
}

void confine_refused(int refused[CONFINE_STEPS])
{
	memcpy(refused, confine.refused, sizeof(confine.refused));
}

int confine_keep_fd(struct confine_plan *plan, int fd, struct err *err)
{
	if (plan->nfds == CONFINE_FDS_MAX)
		return err_set(err, E2BIG, "options name more than %d descriptors",
			       CONFINE_FDS_MAX);
	plan->fd[plan->nfds++] = fd;
	return 0;
}

int confine_add_path(struct confine_plan *plan, const char *path, size_t len, unsigned access,
		     struct err *err)
{
	if (plan->npaths == CONFINE_PATHS_MAX)
		return err_set(err, E2BIG, "options name more than %d files", CONFINE_PATHS_MAX);
	plan->path[plan->npaths++] = (struct confine_path){ path, len, access };
	return 0;
}

/* Notes how a step went: rc is 0 or -errno. Returns 0, or rc if the step is required. */
static int took(enum confine_step step, int rc, struct err *err)
{
	confine.refused[step] = rc;
	if (!rc || confine.mode != CONFINE_REQUIRE)
		return 0;
	return err_set(
		err, -rc,
		"--confine require: this host refuses \"%s\": %s; bantam doctor --verbose says more",
		confine_step_name(step), strerror(-rc));
}

/* The second half of a step; the first may have been refused. */
static int took_again(enum confine_step step, int rc, struct err *err)
{
	return rc ? took(step, rc, err) : 0;
}

/* One line tells of all steps that were refused. */
static void tell_refused(void)
{
	char text[400] = "";

	for (int i = 0; i < CONFINE_STEPS; i++) {
		size_t at = strlen(text);

		if (confine.refused[i])
			snprintf(text + at, sizeof(text) - at, "%s%s (%s)", at ? ", " : "",
				 confine_step_name((enum confine_step)i),
				 strerror(-confine.refused[i]));
	}
	if (*text)
		log_put(LOG_INFO, "this host refuses a part of the confinement: %s", text);
}

/* Not with a user of its own: which rights /dev/kvm asks for must not depend on who is first. */
static void begin_meanwhile(const struct confine_plan *plan)
{
	if (plan->meanwhile && !plan->jail.uid)
		plan->meanwhile();
}

/*
 * Of a user without capabilities in a user namespace of its own: there it may make the other ones. A process that has
 * some keeps them for its files and interfaces, and needs CAP_SYS_ADMIN here.
 */
static int begin_namespaces(const struct confine_plan *plan, struct err *err)
{
	bool lost = false, user = !confine_has_capabilities();
	int rc;

	for (unsigned i = 0; i < sizeof(plan->helper) / sizeof(plan->helper[0]); i++)
		if (plan->helper[i])
			helper_find_now(plan->helper[i]);
	/* Of root; and below of a user, in a namespace of its own. Landlock permits no mount, and knows this one. */
	if (plan->shared)
		huge_file_mount_now();
	/* A process that enters a user namespace has one thread. */
	if (!user)
		begin_meanwhile(plan);
	rc = confine_namespaces(user, &lost);
	if (lost)
		return err_sys(
			err, -rc,
			"--confine: the user namespace has no users; start with --confine off");
	confine.own_namespace = !rc && user;
	if (confine.own_namespace && plan->shared)
		huge_file_mount_now();
	if (took(CONFINE_NAMESPACES, rc, err))
		return rc;
	if (user)
		begin_meanwhile(plan);
	if (plan->host_network || plan->jail.netns)
		return 0;
	return took(CONFINE_NETWORK, rc && user ? rc : confine_network(), err);
}

/*
 * What a process that opens files later cannot do. Its root stays, and its user: in a user namespace the files of others
 * have no owner.
 */
static int begin_alone(const struct confine_plan *plan, struct err *err)
{
	int rc = begin_namespaces(plan, err);

	/* With the right to mount, and before Landlock, which refuses mounts. */
	if (!rc && !CONFINE_SANITIZED)
		rc = took(CONFINE_ROOT,
			  confine.refused[CONFINE_NAMESPACES] ?
				  confine.refused[CONFINE_NAMESPACES] :
				  confine_prepare_root(plan),
			  err);
	if (!rc && !CONFINE_SANITIZED)
		rc = took(CONFINE_LANDLOCK, confine_prepare_landlock(plan), err);
	return rc;
}

/*
 * No guest and no image makes the process start another program than its helpers, also while it still reads files. They are
 * looked for now, when nothing of the host is hidden.
 */
static int begin_programs(const struct confine_plan *plan, struct err *err)
{
	/* A client may ask for what needs one. */
	static const char *const all[] = { "bantam-fs", "bantam-net-user" };
	const char *const *names = plan->files_later ? all : plan->helper;
	char path[CONFINE_PROGRAMS][PATH_MAX + 64];
	const char *found[CONFINE_PROGRAMS] = { NULL };
	struct err why;

	for (size_t i = 0; i < CONFINE_PROGRAMS; i++) {
		if (!names[i])
			continue;
		helper_find_now(names[i]);
		if (!helper_find(names[i], path[i], sizeof(path[i]), &why))
			found[i] = path[i];
	}
	if (CONFINE_SANITIZED || confine.refused[CONFINE_LANDLOCK])
		return 0;
	return took(CONFINE_LANDLOCK, confine_landlock_programs(found), err);
}

int confine_files(const struct confine_plan *plan)
{
	if (confine.mode == CONFINE_OFF)
		return -ENOTSUP;
	if (CONFINE_SANITIZED)
		return 0;
	return confine.refused[CONFINE_LANDLOCK] ? confine.refused[CONFINE_LANDLOCK] :
						   confine_landlock_files(plan, false);
}

/* Last: what follows opens only what the options name. */
static int begin_files(const struct confine_plan *plan, struct err *err)
{
	if (CONFINE_SANITIZED || confine.refused[CONFINE_LANDLOCK])
		return 0;
	return took(CONFINE_LANDLOCK, confine_landlock_files(plan, true), err);
}

/* Of a process that opens files while guests run; begin_alone is not for it. */
static int begin_shared(const struct confine_plan *plan, struct err *err)
{
	return CONFINE_SANITIZED ? 0 : took(CONFINE_LANDLOCK, confine_prepare_landlock(plan), err);
}

/* What the user asks for in every mode. */
static int begin_off(const struct confine_plan *plan, struct err *err)
{
	int rc = confine_jail_enter(&plan->jail, plan->ptys, err);

	return rc ? rc : confine_jail_user(&plan->jail, false, false, err);
}

int confine_packed(const struct confine_plan *plan, struct err *err)
{
	int rc;

	if (plan->mode == CONFINE_OFF)
		return 0;
	if (!confine.waits_for_owners)
		return begin_files(plan, err);
	/* /proc/self has to be ours for a moment, as in confine_begin. */
	confine_permit_dumps();
	rc = begin_alone(plan, err);
	if (!rc)
		rc = took_again(CONFINE_DUMP, confine_no_dumps(), err);
	/* Those that a new user namespace gives. */
	if (!rc)
		rc = took_again(CONFINE_CAPABILITIES,
				confine_cut_capabilities(plan->interfaces, confine.own_namespace),
				err);
	if (!rc)
		rc = begin_programs(plan, err);
	return rc ? rc : begin_files(plan, err);
}

/* What the process begins with; for some a worker needs more calls. With an API the log may go elsewhere later. */
static unsigned lacks_stdio(const struct confine_plan *plan)
{
	bool plain = !plan->files_later && log_is_plain() && !isatty(STDIN_FILENO);

	/* Without a vDSO the C library asks the kernel for each time. */
	return plain && getauxval(AT_SYSINFO_EHDR) ? CALLS_STDIO : 0;
}

int confine_begin(const struct confine_plan *plan, struct err *err)
{
	bool ours = !geteuid() && !plan->jail.uid;
	int rc;

	confine.mode = plan->mode;
	confine.files_later = plan->files_later;
	confine.own_user = ours && !CONFINE_SANITIZED &&
			   (plan->files_later || !confine_name_at(plan, 0));
	confine.waits_for_owners = plan->packs && !confine_has_capabilities();
	rc = confine_jail_programs(&plan->jail, plan->helper,
				   sizeof(plan->helper) / sizeof(plan->helper[0]), err);
	if (rc)
		return rc;
	if (plan->mode == CONFINE_OFF)
		return begin_off(plan, err);
	/* First: a descriptor that is left open gives what every later step takes. */
	helper_keep_only(plan->fd, plan->nfds);
	/* The log opens standard error once more, by a name that is gone later. */
	log_open();
	/*
	 * With root's rights, which the later steps take. The cgroup namespace then begins at the process's own group, and the
	 * empty root gets the folders that the VM's paths mean.
	 */
	rc = confine_jail_enter(&plan->jail, plan->ptys, err);
	atomic_store(&confine.names_of_others, ours && confine_names_of_others(plan));
	/* While there is one thread, and /proc/self is ours: a process without dumps may not write the map of its users. */
	if (!rc && !plan->files_later && !confine.waits_for_owners)
		rc = begin_alone(plan, err);
	/* After what needs root, and before the first file is opened. It makes the process dumpable as a new program is. */
	if (!rc)
		rc = confine_jail_user(&plan->jail, true, plan->interfaces, err);
	/* Before foreign bytes are read: a crash writes no guest memory to a disk. */
	if (!rc)
		rc = took(CONFINE_DUMP, confine_no_dumps(), err);
	/* Before the first helper starts, for all that it starts. Landlock and filters need it, too. */
	if (!rc)
		rc = took(CONFINE_PRIVILEGES, confine_no_new_privileges(), err);
	if (!rc && plan->files_later)
		rc = begin_shared(plan, err);
	/* With no_new_privs and behind the mounts, and while there is one thread, from which all others inherit it. */
	if (!rc && !confine.waits_for_owners)
		rc = begin_programs(plan, err);
	if (!rc)
		rc = took(CONFINE_LIMITS, confine_limits(), err);
	/* What is left is for the files and interfaces that the options name; confine_finish takes it. */
	if (!rc)
		rc = took(CONFINE_CAPABILITIES,
			  confine_cut_capabilities(plan->interfaces, confine.own_namespace), err);
	/* Each thread loads its own, when nothing is left for it to make. */
	if (!rc)
		rc = took(CONFINE_FILTERS,
			  confine_filters(plan->mode == CONFINE_LOG, plan->mode == CONFINE_REQUIRE,
					  plan->lacks | lacks_stdio(plan), confine_thread_rights),
			  err);
	if (!rc && !plan->files_later && !plan->packs)
		rc = begin_files(plan, err);
	if (!rc && plan->files_later)
		tell_refused();
	return rc;
}

int confine_machine(const struct confine_plan *plan, struct err *err)
{
	int rc = confine_limits_more(&plan->jail, err);

	if (rc || confine.mode == CONFINE_OFF || geteuid())
		return rc;
	if (confine_names_of_others(plan))
		atomic_store(&confine.names_of_others, true);
	return 0;
}

/*
 * Root's threads take a user of their own. The machine's thread and the others of a process that opens files later (the
 * executor, the API's loop, "machine") stay root: they open what clients name, and remove what root has made, and connect
 * to sockets of root for the loops. For the kernel a process is what shares
 * memory, so threads of several users signal and wake each other as before; but only a process with CAP_SYS_NICE can
 * set the processors of all.
 */
static bool takes_own_user(enum thread_kind kind)
{
	if (!confine.own_user || geteuid())
		return false;
	return !confine.files_later || kind == THREAD_VCPU || kind == THREAD_WORKER ||
	       kind == THREAD_LOOP || kind == THREAD_IO;
}

int confine_thread_rights(void)
{
	enum thread_kind kind = thread_kind();
	int rc, refused;

	if (confine.mode == CONFINE_OFF || has_rights_gone)
		return 0;
	/* It opens what clients name, and starts the threads that create machines. */
	if (confine.files_later && kind == THREAD_EXECUTOR)
		return 0;
	has_rights_gone = true;
	/* What the machine's thread was refused, the others are refused, too. */
	if (takes_own_user(kind))
		(void)confine_own_user();
	rc = confine_no_capabilities(atomic_load(&confine.names_of_others));
	refused = CONFINE_SANITIZED || confine.refused[CONFINE_LANDLOCK] ?
			  0 :
			  confine_landlock(kind == THREAD_TEST || kind == THREAD_API);
	return rc ? rc : refused;
}

int confine_finish(struct err *err)
{
	int rc;

	if (confine.mode == CONFINE_OFF || confine.files_later)
		return 0;
	confine_landlock_release();
	/* With CAP_SYS_CHROOT. All that the machine needs of the host is open. */
	rc = took_again(CONFINE_ROOT, confine_enter_root(), err);
	/*
	 * With CAP_SETUID. Who takes a name from a folder of root, or connects to a socket of root, has to be root: such
	 * a VM stays root, without capabilities, or with CAP_DAC_OVERRIDE alone if others have names in that folder.
	 */
	if (!rc && confine.own_user)
		rc = took(CONFINE_USER, confine_own_user(), err);
	if (!rc)
		rc = took_again(CONFINE_CAPABILITIES, confine_thread_rights(), err);
	if (!rc)
		tell_refused();
	return rc;
}
