/*
 * test/confine: what a test takes from itself. See vmm/confine/confine.h.
 *
 * Theory of operation. A test has a phase before its machine: it looks for the kernel, packs modules and programs of
 * the host, and opens the files to which output goes. From then on it needs only the files of its reports, which appear
 * when they are complete: the first thread, which makes them, may make and replace files in their folders, and no other
 * thread may. The machine's thread ends the phase for the whole process (confine_finish) when the machine is built.
 */
#include <errno.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "devices/backend/chardev/chardev.h"
#include "vmm/cachedir.h"
#include "vmm/confine/plan.h"
#include "vmm/core/new_file.h"
#include "vmm/core/parse.h"
#include "vmm/core/thread.h"
#include "vmm/test/streams/sink.h"
#include "vmm/test/test_impl.h"

/* Names a report that is made at the end: not a descriptor, nor what is there and no file. */
static void add_report(struct test *t, const char *path)
{
	struct confine_plan *plan = &t->confine;
	struct stat st;

	if (!path || test_sink_descriptor(path) >= 0 || (!stat(path, &st) && !S_ISREG(st.st_mode)))
		return;
	plan->report[plan->nreports++] = path;
	/* It goes where a link leads. */
	if (lstat(path, &st) || !S_ISLNK(st.st_mode))
		return;
	t->report_at[t->nreports_at] = realpath(path, NULL);
	if (t->report_at[t->nreports_at])
		plan->report[plan->nreports++] = t->report_at[t->nreports_at++];
}

int test_confine_begin(struct test *t, struct err *err)
{
	const struct test_options *o = t->options;
	uint64_t descriptor;
	int rc = confine_plan_config(&t->confine, &t->config, err);

	if (!rc)
		rc = confine_plan_keys(&t->confine, &o->own, err);
	if (!rc)
		rc = confine_jail_check(&t->confine.jail, err);
	if (rc)
		return rc;
	t->confine.packs = true;
	/* It reads a disk's kernel; a test names one. */
	t->confine.helper[0] = NULL;
	if (o->verdict && parse_u64(o->verdict, &descriptor))
		add_report(t, o->verdict);
	add_report(t, o->junit);
	add_report(t, o->tap);
	confine_at_refusal(chardev_restore_terminal_in_handler);
	return confine_begin(&t->confine, err);
}

int test_confine_packed(struct test *t, struct err *err)
{
	char *cache_dir;
	int rc;

	/* Of /proc and /dev/urandom, which are out of reach when the reports are written. */
	if (t->confine.nreports)
		new_file_name_later();
	json_object_seed(0);
	cache_dir = cachedir_default();
	/* The kernel has been found by now, and the initrd been packed. */
	rc = confine_plan_keys(&t->confine, &t->config.vm, err);
	if (!rc && cache_dir)
		rc = confine_add_path(&t->confine, cache_dir, strlen(cache_dir),
				      CONFINE_READ | CONFINE_FILL, err);
	if (!rc)
		rc = confine_packed(&t->confine, err);
	free(cache_dir);
	return rc;
}

void test_confine_clear(struct test *t)
{
	while (t->nreports_at)
		free(t->report_at[--t->nreports_at]);
}
