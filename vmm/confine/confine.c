/*
 * confine: see confine.h.
 *
 * Theory of operation. A step is a call to the kernel that takes something from the process and cannot be undone.
 * Each step needs what a later one takes, so their order matters; the reason stands beside each. A step that is
 * refused changes nothing: the next one does not rely on it. What was refused is collected, and said in one line.
 *
 * The kernel keeps capabilities, Landlock's rules and filters for each thread. confine_begin runs while there is one
 * thread only, so all threads inherit what it does. confine_finish runs in the machine's thread. Threads that exist by
 * then do the same by confine_thread_rights, before they do the first work for the guest.
 */
#include "vmm/confine/confine.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "vmm/confine/confine_impl.h"
#include "vmm/confine/filter.h"
#include "vmm/core/helper.h"
#include "vmm/core/log.h"

static struct {
	enum confine_mode mode;
	bool files_later;
	atomic_bool finished;
	int refused[CONFINE_STEPS]; /* 0 or -errno */
} confine = { .mode = CONFINE_OFF };

static _Thread_local bool has_rights_gone;

static const char *step_name(enum confine_step step)
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

int confine_keep_fd(struct confine_plan *plan, int fd, struct err *err)
{
	if (plan->nfds == CONFINE_FDS_MAX)
		return err_set(err, E2BIG, "options name more than %d descriptors",
			       CONFINE_FDS_MAX);
	plan->fd[plan->nfds++] = fd;
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
		step_name(step), strerror(-rc));
}

/* One line tells of all steps that were refused. */
static void tell_refused(void)
{
	char text[400] = "";

	for (int i = 0; i < CONFINE_STEPS; i++) {
		size_t at = strlen(text);

		if (confine.refused[i])
			snprintf(text + at, sizeof(text) - at, "%s%s (%s)", at ? ", " : "",
				 step_name((enum confine_step)i), strerror(-confine.refused[i]));
	}
	if (*text)
		log_put(LOG_INFO, "this host refuses a part of the confinement: %s", text);
}

int confine_begin(const struct confine_plan *plan, struct err *err)
{
	int rc;

	confine.mode = plan->mode;
	confine.files_later = plan->files_later;
	if (plan->mode == CONFINE_OFF)
		return 0;
	/* First: a descriptor that is left open gives what every later step takes. */
	helper_keep_only(plan->fd, plan->nfds);
	/* The log opens standard error once more, by a name that is gone later. */
	log_open();
	/* Before foreign bytes are read: a crash writes no guest memory to a disk. */
	rc = took(CONFINE_DUMP, confine_no_dumps(), err);
	/* Before the first helper starts, for all that it starts. Landlock and filters need it, too. */
	if (!rc)
		rc = took(CONFINE_PRIVILEGES, confine_no_new_privileges(), err);
	/* What is left is for the files and interfaces that the options name; confine_finish takes it. */
	if (!rc)
		rc = took(CONFINE_CAPABILITIES, confine_cut_capabilities(plan->interfaces), err);
	/* Each thread loads its own, when nothing is left for it to make. */
	if (!rc)
		rc = took(CONFINE_FILTERS,
			  confine_filters(plan->mode == CONFINE_LOG, confine_thread_rights), err);
	if (!rc && plan->files_later)
		tell_refused();
	return rc;
}

int confine_thread_rights(void)
{
	if (!atomic_load(&confine.finished) || has_rights_gone)
		return 0;
	has_rights_gone = true;
	return confine_no_capabilities();
}

int confine_finish(struct err *err)
{
	int rc;

	if (confine.mode == CONFINE_OFF || confine.files_later)
		return 0;
	atomic_store(&confine.finished, true);
	rc = took(CONFINE_CAPABILITIES, confine_thread_rights(), err);
	if (!rc)
		tell_refused();
	return rc;
}
