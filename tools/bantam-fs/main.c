/*
 * bantam-fs: look into the file systems of a disk image, without root or a loop device.
 *
 *	bantam-fs ls [-l] [-R] IMAGE [PATH]
 *	bantam-fs cat IMAGE PATH
 *	bantam-fs extract IMAGE PATH DEST
 *	bantam-fs boot …		for bantam run: boot.c
 *
 * Theory of operation. A guest wrote the content of an image, and libext2fs was not made for
 * hostile input. So the first process opens the image (and its backing files) and forks. The
 * child gives up all but those descriptors, and only then parses the disk. ls and
 * cat write to standard output from the child. extract sends what it reads through a pipe to the
 * first process, which trusts no name in it (extract.c). The first process also reports a crash
 * of the child in one line, and kills a child that computes without progress.
 *
 * The first process reads a qcow2 image's header, L1 and refcount tables before it forks: each
 * header names the next backing file to open. To read headers confined, the child would
 * have to ask another process for files by name, and a child under an attacker's control would ask
 * for other files: a worse hole than the one to close. The qcow2 code is our own, made for hostile
 * images (and fuzzed with them), and bantam run trusts it with the same image in any case. The
 * child reads clusters, compressed ones too.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "devices/backend/store/backing.h"
#include "tools/bantam-fs/fs.h"
#include "vmm/core/helper.h"
#include "vmm/core/keys.h"
#include "vmm/core/output.h"
#include "vmm/usage/usage.h"
#include "vmm/core/thread.h"

#define STALL_CPU_S 20
#define CPU_MAX_S 86400u
#define WATCH_STACK_BYTES (128u << 10)

static const char usage[] = "usage: bantam image ls [-l] [-R] [OPTION]… IMAGE [PATH]\n"
			    "       bantam image cat [OPTION]… IMAGE PATH\n"
			    "       bantam image extract [OPTION]… IMAGE PATH DEST\n\n";

static const struct {
	char lead[28], help[88];
} rows[] = {
	{ "-l", "ls: mode, links, owner, group, size and time (UTC) too" },
	{ "-R", "ls: subdirectories too" },
	{ "--partition N", "partition; 0: the whole disk [the one that looks like a root]" },
	{ "--format auto|raw|qcow2", "IMAGE's format [auto: by its name]" },
	{ "--backing-dir DIR", "backing files may also lie in or below DIR; may be repeated" },
};

static void help(void)
{
	fputs(usage, stdout);
	usage_text(
		stdout, 0, 0,
		"Reads ext2, ext3, ext4 and FAT in a raw or qcow2 image, also in a partition of it (MBR, "
		"GPT). extract makes DEST, or PATH's name in DEST if that is a directory.");
	putchar('\n');
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		usage_row(stdout, 2, 28, rows[i].lead, rows[i].help, NULL);
}

static int wrong(const char *text, const char *what)
{
	fprintf(stderr, "bantam: image %s\"%s\"; see bantam image ls --help\n", text, what);
	return 2;
}

/* --- the confined process ------------------------------------------------------------------- */

static int work(struct job *job)
{
	struct volumes *all = calloc(1, sizeof(*all));
	struct volume *v;
	struct err err;

	if (!all || !reader_confine(UINT64_MAX, CPU_MAX_S)) {
		err_sys(&err, errno, "cannot give up privileges");
		return job_fail(job, &err);
	}
	if (volumes_open(job->store, all, &err) || volumes_choose(all, job->partition, &v, &err))
		return job_fail(job, &err);
	if (v->dirty)
		fprintf(stderr,
			"bantam: %s: was not unmounted cleanly: the last writes may "
			"be missing or old\n",
			job->image);
	if (*job->command == 'l')
		return list_run(job, v);
	return *job->command == 'c' ? cat_run(job, v) : extract_send(job, v);
}

/* --- the process that watches it ------------------------------------------------------------- */

static uint64_t cpu_ms(pid_t pid)
{
	struct timespec ts;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &ts))
		return 0;
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

struct watch {
	const struct job *job;
	pid_t pid;
	int status; /* from waitpid */
	bool gave_up;
};

/* Counts only CPU time: a child that waits for a pager is not in a loop. */
static bool stalled(struct watch *w, uint64_t *seen, uint64_t *since_ms)
{
	uint64_t now = cpu_ms(w->pid), progress = atomic_load(w->job->progress);

	if (progress != *seen) {
		*seen = progress;
		*since_ms = now;
	}
	return now > *since_ms + STALL_CPU_S * 1000;
}

/* A separate thread, because the main thread may be writing the extracted files. */
static void *watch_main(void *opaque)
{
	struct watch *w = opaque;
	uint64_t seen = 0, since_ms = 0;
	pid_t pid;

	while (!(pid = waitpid(w->pid, &w->status, WNOHANG))) {
		/* SIGCHLD is blocked; the wait ends when it becomes pending. */
		struct timespec second = { 1, 0 };
		sigset_t set;

		if (!w->gave_up && stalled(w, &seen, &since_ms)) {
			w->gave_up = true;
			kill(w->pid, SIGKILL);
		}
		sigemptyset(&set);
		sigaddset(&set, SIGCHLD);
		sigtimedwait(&set, NULL, &second);
	}
	if (pid < 0)
		w->status = 1 << 8;
	return NULL;
}

static int judge(const struct watch *w)
{
	const struct job *job = w->job;
	int status = w->status;
	struct err err;

	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	/* The reader of our output closed the pipe: not damage. */
	if (WTERMSIG(status) == SIGPIPE)
		return 1;
	if (w->gave_up)
		err_set(&err, ETIME, "the file system is damaged: its reader did not finish");
	else if (WTERMSIG(status) == SIGSYS)
		err_set(&err, EPERM, "the reader of the file system " READER_DENIED);
	else
		err_set(&err, EIO,
			"the file system is damaged: its reader was ended by signal %d (%s)",
			WTERMSIG(status), strsignal(WTERMSIG(status)));
	return job_fail(job, &err);
}

/* other_fd: the pipe end that the child must close, or -1. */
static int start_child(struct job *job, int other_fd, struct watch *w)
{
	fflush(NULL);
	w->pid = fork();
	if (w->pid < 0) {
		fprintf(stderr, "bantam: %s: cannot start a process: %s\n", job->image,
			strerror(errno));
		return 1;
	}
	if (!w->pid) {
		int rc;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (other_fd >= 0)
			close(other_fd);
		for (int sig = 1; sig < 32; sig++)
			if (sig != SIGXFSZ)
				signal(sig, SIG_DFL);
		rc = work(job);
		fflush(stdout);
		_exit(rc);
	}
	return 0;
}

static int run(struct job *job)
{
	struct watch w = { .job = job };
	struct extract *x = NULL;
	int fds[2] = { -1, -1 }, rc = 0;
	bool whole = true;
	pthread_t thread;
	sigset_t set;

	if (*job->command == 'e')
		rc = extract_prepare(job, &x);
	if (!rc && x && pipe2(fds, O_CLOEXEC))
		rc = 1;
	job->pipe_fd = fds[1];
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (!rc)
		rc = start_child(job, fds[0], &w);
	if (rc)
		return rc;
	if (thread_start(&thread, THREAD_HELPER, "watch", WATCH_STACK_BYTES, watch_main, &w)) {
		kill(w.pid, SIGKILL);
		return 1;
	}
	if (x) {
		close(fds[1]);
		whole = extract_receive(x, fds[0]);
		/* The child may be blocked in a write to the pipe. */
		close(fds[0]);
	}
	pthread_join(thread, NULL);
	rc = judge(&w);
	return x ? extract_finish(x, whole && !rc) : rc;
}

static int no_option(const char *command, const char *word)
{
	static const char *const names[] = { "partition", "format", "backing-dir", "help" };
	struct err err;

	keys_no_word("option", word, names, 4, "bantam image ls --help", &err);
	fprintf(stderr, "bantam: image %s: %s\n", command, err.text);
	return 2;
}

static int parse_partition(const char *text, struct job *job)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (!*text || *end || n < 0 || n > 9999)
		return wrong("--partition: not a number: ", text);
	job->partition = (int)n;
	return 0;
}

/* Parses one option at argv[i]; *used is its number of words. */
static int parse_option(struct job *job, char **argv, int i, int argc, int *used)
{
	const char *name = argv[i], *val = strchr(name, '=');
	size_t len = val ? (size_t)(val - name) : strlen(name);
	struct err err;

	*used = 1;
	if (name[1] != '-' && *job->command == 'l') {
		for (const char *c = name + 1; *c; c++) {
			if (*c != 'l' && *c != 'R')
				return no_option(job->command, name);
			job->details |= *c == 'l';
			job->recurse |= *c == 'R';
		}
		return 0;
	}
	if ((len != 11 || strncmp(name, "--partition", len)) &&
	    (len != 13 || strncmp(name, "--backing-dir", len)) &&
	    (len != 8 || strncmp(name, "--format", len)))
		return no_option(job->command, name);
	if (val) {
		val++;
	} else if (i + 1 < argc) {
		val = argv[i + 1];
		*used = 2;
	} else {
		return wrong("needs a value after ", name);
	}
	if (len == 11)
		return parse_partition(val, job);
	if (len == 13) {
		if (!store_allow_folder(val, &err))
			return 0;
		fprintf(stderr, "bantam: %s\n", err.text);
		return 2;
	}
	return store_format_parse(val, &job->format) ? wrong("--format: no such format: ", val) : 0;
}

static int parse(struct job *job, int argc, char **argv)
{
	const char *words[3] = { NULL };
	bool options = true;
	int n = 0, used, rc;

	for (int i = 2; i < argc; i += used) {
		used = 1;
		if (options && !strcmp(argv[i], "--")) {
			options = false;
		} else if (options && argv[i][0] == '-' && argv[i][1]) {
			rc = parse_option(job, argv, i, argc, &used);
			if (rc)
				return rc;
		} else if (n == 3) {
			return wrong("takes no more arguments: ", argv[i]);
		} else {
			words[n++] = argv[i];
		}
	}
	if (n < (*job->command == 'e' ? 3 :
		 *job->command == 'c' ? 2 :
					1) ||
	    n > (*job->command == 'e' ? 3 : 2)) {
		fprintf(stderr, "bantam: image %s: needs %s; see bantam image %s --help\n",
			job->command,
			*job->command == 'e' ? "IMAGE PATH DEST" :
			*job->command == 'c' ? "IMAGE PATH" :
					       "IMAGE [PATH]",
			job->command);
		return 2;
	}
	job->image = words[0];
	job->path = words[1] && *words[1] ? words[1] : "/";
	job->dest = words[2];
	return 0;
}

int main(int argc, char **argv)
{
	struct job job = { .command = argc > 1 ? argv[1] : "", .partition = -1, .pipe_fd = -1 };
	struct err err = { "" };
	bool has_output;
	int rc;

	/* Hitting RLIMIT_FSIZE (ulimit -f) is an error, not a reason to die; also for boot. */
	signal(SIGXFSZ, SIG_IGN);
	has_output = output_begin();
	if (!strcmp(job.command, "boot"))
		return boot_main(argc, argv);
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			help();
			return output_end(0, 1);
		}
	}
	if (strcmp(job.command, "ls") && strcmp(job.command, "cat") &&
	    strcmp(job.command, "extract")) {
		fputs(usage, stderr);
		return 2;
	}
	if (!has_output && strcmp(job.command, "extract")) {
		fprintf(stderr, "bantam: image %s: standard output is closed\n", job.command);
		return 1;
	}
	helper_keep_only(NULL, 0);
	/* The confined child cannot ask: the filter forbids the ioctl. */
	job.tty = isatty(STDOUT_FILENO);
	rc = parse(&job, argc, argv);
	if (rc)
		return rc;
	job.progress = mmap(NULL, sizeof(*job.progress), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (job.progress == MAP_FAILED || store_open(&(struct store_options){ .path = job.image,
									      .format = job.format,
									      .readonly = true },
						     &job.store, &err)) {
		fprintf(stderr, "bantam: %s\n", *err.text ? err.text : strerror(errno));
		return 1;
	}
	/* What the writer of extract, which gets its words from the confined child, needs as root. */
	(void)giveup_privileges(giveup_file_caps);
	return run(&job);
}
