/*
 * test: the command `bantam test`. See test.h.
 *
 * Theory of operation. One loop, in the process's first thread, does everything of the test; the machine has its
 * own threads (vm.h). Whatever comes is an event of the verdict, and goes on to where people see it:
 *
 *	COM1 ----- console sink ---------------------------+-> verdict (lines, splats) --> result
 *	                                                   |      ^   ^   ^                 |
 *	port or COM2 -- channel sink -> session -+- kmsg --+      |   |   |          exit status, reports
 *	     ^                                   |         |      |   |   |
 *	     |                                   +- HELLO, EXIT … |   |   +- timers, signals, samples of vCPUs
 *	     |                                   |         |          +- the machine's end
 *	     |                                   |         v
 *	     |                                   +- stdout, stderr --> output --> files, stdout, stderr
 *	     +---- pump <------ fill ------ credit <----- taken -----'
 *	                         ^
 *	                       input <-- stdin
 *
 * Nothing in the loop waits. Output that its reader does not take holds up the stream by the session's
 * credit, and the console by its sink; both hold back the guest, and neither holds up the rest.
 *
 * The end. The agent says EXIT, is acknowledged, ends its streams, and powers the machine off; or the machine
 * ends otherwise; or the verdict is that nothing good comes any more, and the machine is stopped (test_look). When
 * its thread is done, all that its devices wrote is in the sinks, and is handed over first (drain); then the
 * machine's end is told, and the verdict decided. The process waits until the readers have taken all
 * output, writes the reports, and ends with the last line on stderr.
 *
 * What makes the test impossible before the machine starts (no KVM, no kernel) is a result like the others,
 * so that reports have it: error, or skipped.
 */
#include "vmm/test/test.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "devices/backend/chardev/chardev.h"
#include "devices/backend/store/backing.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"
#include "vmm/core/thread.h"
#include "vmm/test/test_impl.h"

#define COULD_NOT_RUN 125
#define READERS_MS 1000
#define RULES_MAX_BYTES (1u << 20)

/* --- events -------------------------------------------------------------------------------- */

/* The guest has its copy: the memory of this one goes back. */
static void on_created(void *opaque)
{
	struct test *t = opaque;

	if (t->initrd_fd >= 0)
		close(t->initrd_fd);
	t->initrd_fd = -1;
}

static void on_panicked(void *opaque, bool crash_kernel)
{
	struct test *t = opaque;

	t->panicked = true;
	t->crash_kernel |= crash_kernel;
}

/* All that the machine's devices wrote has come, once the console's sink is empty. */
static void on_drain(void *opaque)
{
	struct test *t = opaque;

	if (!t->gone || t->console_full || t->drained)
		return;
	t->drained = true;
	loop_stop(t->loop);
}

static void on_over(void *opaque, const struct test_vm_end *end)
{
	struct test *t = opaque;

	t->end = *end;
	t->gone = true;
	if (t->hurried)
		test_hurry(t);
	test_drain(t);
}

static void on_flushed(void *opaque)
{
	struct test *t = opaque;

	t->flushed = true;
	loop_stop(t->loop);
}

static void on_input(void *opaque)
{
	test_pump(opaque);
}

static void on_input_end(void *opaque)
{
	struct test *t = opaque;

	for (unsigned i = 0; i < TEST_CHANNELS; i++)
		agent_session_input_end(&t->channel[i].session);
	test_pump(t);
}

static size_t on_filter(void *opaque, uint8_t *buf, size_t len)
{
	struct test *t = opaque;

	return t->terminal ? test_terminal_filter(t->terminal, buf, len) : len;
}

static void on_resized(void *opaque, uint16_t rows, uint16_t cols)
{
	struct test *t = opaque;

	t->command.rows = rows;
	t->command.cols = cols;
	if (!t->agent)
		return;
	agent_session_winsize(&t->agent->session, rows, cols);
	test_pump(t);
}

static void on_quit(void *opaque)
{
	test_interrupt(opaque, SIGTERM);
}

static void on_say(void *opaque, const char *text, size_t len)
{
	struct test *t = opaque;

	test_output_say(t->output, text, len);
}

static void on_raw(void *opaque, bool raw)
{
	struct test *t = opaque;

	test_output_raw(t->output, raw);
}

/* --- before the machine -------------------------------------------------------------------- */

static int read_rules(struct test *t, const char *path, const char *release, const char *arch,
		      struct err *err)
{
	FILE *f = fopen(path, "re");
	char *text = malloc(RULES_MAX_BYTES + 1);
	size_t n = f && text ? fread(text, 1, RULES_MAX_BYTES + 1, f) : 0;
	int rc;

	if (!f || !text || ferror(f))
		rc = err_sys(err, errno ? errno : EIO, "--rules %s", path);
	else if (n > RULES_MAX_BYTES)
		rc = err_set(err, EFBIG, "--rules %s: more than %u bytes", path, RULES_MAX_BYTES);
	else
		rc = verdict_rules_add(t->rules, path, text, n, release, arch, err);
	free(text);
	if (f)
		fclose(f);
	return rc;
}

static int make_rules(struct test *t, struct err *err)
{
	const char *release = t->kernel.release[0] ? t->kernel.release : NULL;
	const struct test_list *files = &t->options->rules;
	struct utsname host;
	const char *arch = uname(&host) ? NULL : host.machine;
	int rc = verdict_rules_add(t->rules, "built-in rules", verdict_rules_builtin,
				   strlen(verdict_rules_builtin), release, arch, err);

	for (unsigned i = 0; !rc && i < files->n; i++)
		rc = read_rules(t, files->item[i], release, arch, err);
	return rc;
}

static int find_kernel(struct test *t, struct err *err)
{
	const struct test_options *o = t->options;
	int rc = kernels_find(&t->kernel, o->kernel, o->modules, "", err);

	if (!rc)
		rc = test_initrd_build(o, &t->kernel, &t->initrd_fd, err);
	if (rc)
		return rc;
	snprintf(t->initrd_path, sizeof(t->initrd_path), "/proc/self/fd/%d", t->initrd_fd);
	return test_config_boot(o, &t->kernel, t->initrd_path, &t->config, err);
}

/* What the loop watches beside the machine. */
static int make_streams(struct test *t, struct err *err)
{
	const struct test_input_owner input = { t, on_input, on_input_end, on_filter };
	const struct test_terminal_owner terminal = { t, on_resized, on_quit, on_say, on_raw };
	int rc = test_signals_begin(t, err);

	if (!rc)
		rc = test_timers_create(t, err);
	if (!rc)
		rc = loop_watch_event(t->loop, on_drain, t, &t->drain, NULL);
	if (!rc && t->options->tty)
		rc = test_terminal_create(t->loop, &terminal, &t->terminal, err);
	if (!rc)
		rc = test_command_make(t, err);
	if (!rc)
		rc = test_channels_open(t, err);
	if (!rc)
		rc = test_input_create(t->loop, STDIN_FILENO, &input, &t->input, err);
	return rc;
}

static int start(struct test *t, struct err *err)
{
	int rc = find_kernel(t, err);

	if (!rc)
		rc = make_rules(t, err);
	if (!rc)
		rc = test_confine_packed(t, err);
	if (!rc)
		rc = make_streams(t, err);
	if (rc)
		return rc;
	t->owner = (struct test_vm_owner){ t, on_created, on_panicked, on_over };
	t->start_ns = clock_now_ns();
	test_timers_begin(t);
	rc = test_vm_start(&t->config, t->loop, t->consoles, &t->owner, &t->vm, err);
	/* All that it needs is open; the machine's thread, which still opens files, is another one. */
	if (!rc)
		thread_confine();
	return rc;
}

/* --- the test ------------------------------------------------------------------------------ */

/* The machine is gone, and its last words are here. */
static void conclude(struct test *t)
{
	if (t->agent)
		agent_session_closed(&t->agent->session, "the machine has ended");
	if (t->stuck)
		t->end = (struct test_vm_end){ VERDICT_END_STOPPED, clock_now_ns(), { "" } };
	verdict_case_machine(test_verdict_at(t, t->end.at_ns), t->end.how,
			     t->end.how == VERDICT_END_ERROR ? t->end.why.text : NULL);
	if (t->terminal)
		test_terminal_end(t->terminal);
}

/* Returns when the machine has ended, or has not begun, and the verdict can be decided. */
static void boot(struct test *t)
{
	struct err err = { "" };
	int rc = test_vm_check(&err);
	bool skip = rc && t->options->skip_without_kvm;

	if (!rc)
		rc = start(t, &err);
	if (rc) {
		t->gone = true; /* no timer and no signal looks for a machine */
		verdict_case_no_test(t->verdict, skip, err.text);
		return;
	}
	while (!t->drained && !t->stuck)
		BUG_ON(loop_run(t->loop));
	conclude(t);
}

static void log_loss(const struct test *t, int *status)
{
	char text[256];

	if (!test_output_loss_text(t->output, text, sizeof(text)))
		return;
	log_always(LOG_ERROR, "%s", text);
	if (t->interrupted)
		*status = 128 + t->interrupted;
	else if (!*status)
		*status = COULD_NOT_RUN;
}

/*
 * How long readers of the reports and of the last line are waited for: after a signal or the end of --timeout a
 * moment more. -1: as long as it takes.
 */
static int patience_ms(const struct test *t)
{
	uint64_t end_ns = t->start_ns + t->options->timeout_usec * 1000, now_ns = clock_now_ns();
	uint64_t left_ms = end_ns > now_ns ? (end_ns - now_ns) / 1000000 : 0;

	if (t->interrupted)
		return READERS_MS;
	if (!t->options->timeout_usec || !t->start_ns || left_ms > INT_MAX - READERS_MS)
		return -1;
	return (int)left_ms + READERS_MS;
}

/* Decides, writes what is to be written, and returns the exit status. */
static int finish(struct test *t)
{
	struct verdict_report report = { verdict_case_result(t->verdict), t->options->name, 0 };
	struct err err = { "" };

	report.exit_status = verdict_exit_status(&t->options->policy, report.result);
	/* A command that fails tells why itself. */
	if (report.result->kind >= VERDICT_PANICKED && report.result->kind <= VERDICT_AGENT_LOST)
		test_output_show_tail(t->output);
	t->flushed = test_output_flush(t->output);
	while (!t->flushed)
		BUG_ON(loop_run(t->loop));
	log_loss(t, &report.exit_status);
	/* From here on another signal ends the process at once. */
	test_terminal_destroy(t->terminal);
	t->terminal = NULL;
	test_signals_end(t);
	if (test_report_write(t->report, &report, patience_ms(t), &err)) {
		log_always(LOG_ERROR, "%s", err.text);
		if (!report.exit_status)
			report.exit_status = COULD_NOT_RUN;
	}
	test_report_last(t->report, &report, patience_ms(t));
	return report.exit_status;
}

static int create(struct test *t, struct err *err)
{
	const struct test_options *o = t->options;
	const struct test_output_owner output = { t, test_agent_taken, on_flushed };
	int rc = loop_create(&t->loop, err);

	if (!rc)
		rc = test_report_create(o, &t->report, err);
	if (!rc)
		rc = test_output_create(o, t->loop, &output, &t->output, err);
	if (!rc)
		rc = verdict_rules_create(&t->rules, err);
	if (!rc && verdict_case_create(t->rules, o->command != NULL, o->on_splat, &t->verdict))
		rc = err_sys(err, ENOMEM, "verdict");
	return rc;
}

static void destroy(struct test *t)
{
	test_vm_destroy(t->vm);
	test_channels_close(t);
	test_terminal_destroy(t->terminal);
	test_input_destroy(t->input);
	test_output_destroy(t->output);
	test_report_destroy(t->report);
	test_timers_destroy(t);
	loop_unwatch(t->drain);
	loop_destroy(t->loop);
	verdict_case_destroy(t->verdict);
	verdict_rules_destroy(t->rules);
	kernels_clear(&t->kernel);
	if (t->initrd_fd >= 0)
		close(t->initrd_fd);
	free(t->envp);
}

static int fail(const struct err *err, int status)
{
	log_last(err->text);
	return status;
}

static int run(struct test *t)
{
	struct err err = { "" };
	int rc;

	thread_become(THREAD_TEST);
	rc = create(t, &err);
	if (rc) {
		rc = fail(&err, COULD_NOT_RUN);
	} else {
		boot(t);
		rc = finish(t);
	}
	/* The kernel frees what a machine has that does not end. */
	if (t->stuck)
		_exit(rc);
	destroy(t);
	return rc;
}

/* --- a dry run ----------------------------------------------------------------------------- */

static int dry_run(struct test *t)
{
	struct err err = { "" };
	int rc = find_kernel(t, &err);

	if (!rc) {
		test_describe(t, stdout);
		rc = test_vm_describe(&t->config, stdout, &err);
	}
	if (rc)
		rc = fail(&err, COULD_NOT_RUN);
	destroy(t);
	return rc;
}

static int with_options(const struct test_options *o)
{
	struct test t = { .options = o, .initrd_fd = -1, .signal_fd = -1 };
	struct err err = { "" };
	int rc = test_config_make(o, &t.config, &err);

	if (!rc)
		rc = store_allow_folders(keys_text(&t.config.vm, CONFIG_BACKING_DIR), &err);
	if (rc)
		rc = fail(&err, OUTCOME_USAGE);
	else if (test_confine_begin(&t, &err))
		rc = fail(&err, COULD_NOT_RUN);
	else
		rc = o->dry_run ? dry_run(&t) : run(&t);
	test_confine_clear(&t);
	config_clear(&t.config);
	return rc;
}

int test_command(int argc, char **argv)
{
	struct test_options o;
	struct err err = { "" };
	int rc = test_options_parse(&o, argc, argv, &err);

	if (rc) {
		rc = fail(&err, OUTCOME_USAGE);
	} else if (o.help) {
		test_options_help(stdout);
	} else {
		if (o.verbose)
			log_set_level(LOG_DEBUG);
		rc = with_options(&o);
	}
	test_options_clear(&o);
	return rc;
}
