/*
 * boot: bantam-fs boot STATUS_FD KERNEL_FD INITRD_FD SUM_FD BYTES_MAX FORMAT IMAGE [DIR]…, for
 * bantam run. DIR: a folder of backing files.
 *
 * Finds what the distribution in the image would boot, copies its kernel and initrd to the two
 * descriptors and writes the rest to STATUS_FD, one line each: "kernel PATH", "initrd PATH",
 * "options TEXT", "root TEXT" ("@N": partition N of this disk, whose name the guest chooses),
 * "rw 0|1", "sector 512|4096" (of the partition table), "where TEXT", "note TEXT", and "done"; or "error TEXT". SUM_FD gets the kernel's
 * SHA-256. The process that opened the image computes this sum, because other VMs rely on it and
 * the confined process, which parses the image, is not trusted.
 */
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/backend/store/backing.h"
#include "tools/bantam-fs/bootfind.h"
#include "tools/bantam-fs/fs.h"
#include "vmm/core/helper.h"
#include "vmm/core/printable.h"

#define CPU_MAX_S 60u
/* --- results ---------------------------------------------------------------------------------- */

struct copy {
	int fd;
	uint64_t base; /* where the file begins in fd */
	int error;
};

static int put(void *opaque, uint64_t offset, const void *bytes, size_t len)
{
	struct copy *c = opaque;

	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(c->fd, (const char *)bytes + done, len - done,
				   (off_t)(c->base + offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			c->error = n ? errno : ENOSPC;
			return -ECANCELED;
		}
		done += (size_t)n;
	}
	return 0;
}

/* Copies path to fd at *at, and moves *at to the file's end there. */
static int copy_out(struct volume *v, const char *path, int fd, uint64_t *at, uint64_t bytes_max,
		    struct err *err)
{
	struct copy c = { fd, *at, 0 };
	uint64_t bytes;
	struct node node;
	int rc = volume_find(v, path, true, &node, err);

	if (rc)
		return rc;
	bytes = EXT2_I_SIZE(&node.inode);
	if (bytes > bytes_max || *at > bytes_max - bytes)
		return err_set(err, E2BIG, "%s: %llu MiB are more than the guest's memory", path,
			       (unsigned long long)(bytes >> 20));
	/* Set the full size first: the file may end in a hole. */
	if (bytes && put(&c, bytes - 1, "", 1))
		return err_sys(err, c.error, "%s", path);
	*at += bytes;
	rc = volume_read(v, &node, path, put, &c, err);
	return c.error ? err_sys(err, c.error, "%s", path) : rc;
}

static void tell(struct bootfind *f, FILE *out)
{
	const struct boot_choice *c = f->best;

	fprintf(out, "kernel %s\n", printable(strdupa(c->kernel)));
	/* Microcode comes before the initrd proper. */
	if (c->ninitrds)
		fprintf(out, "initrd %s\n", printable(strdupa(c->initrd[c->ninitrds - 1])));
	fprintf(out, "options %s\nroot %s\nrw %d\n", f->options.rest, f->root_spec, f->rw);
	if (f->all.table != PART_TABLE_NONE)
		fprintf(out, "sector %u\n", f->all.sector_bytes);
	if (c->v->part.number)
		fprintf(out, "where partition %u\n", c->v->part.number);
	if (c->v->dirty)
		fprintf(out,
			"note %s was not unmounted cleanly: a kernel that was installed just "
			"before may be missed\n",
			"its file system with /boot");
	fprintf(out, "done\n");
}

static int find(struct bootfind *f, struct store *s, int kernel_fd, int initrd_fd, int ready_fd,
		uint64_t bytes_max, struct err *err)
{
	const struct boot_choice *c;
	uint64_t at = 0;
	int rc = bootfind_run(f, s, err);

	if (rc)
		return rc;
	c = f->best;
	rc = copy_out(c->v, c->kernel, kernel_fd, &at, bytes_max, err);
	/* Tell the other process that the kernel is complete. */
	if (!rc && write(ready_fd, "", 1) != 1)
		rc = err_sys(err, errno, "pipe");
	at = 0;
	for (unsigned i = 0; !rc && i < c->ninitrds; i++) {
		at = (at + 3) & ~3ull; /* as the kernel wants them */
		rc = copy_out(c->v, c->initrd[i], initrd_fd, &at, bytes_max, err);
	}
	return rc;
}

/* The confined process. It shares only the store with its parent. */
static int work(struct store *store, char **argv, int status_fd, int ready_fd)
{
	struct bootfind *f = calloc(1, sizeof(*f));
	struct err err = { "" }, why = { "" };
	uint64_t bytes_max = strtoull(argv[6], NULL, 10);
	FILE *out = fdopen(status_fd, "w");
	int rc = 0;

	if (!f || !out)
		return 1;
	if (!reader_confine(bytes_max, CPU_MAX_S))
		rc = err_sys(&why, errno, "cannot give up privileges");
	if (!rc)
		rc = find(f, store, atoi(argv[3]), atoi(argv[4]), ready_fd, bytes_max, &why);
	if (rc) {
		err_set(&err, -rc, "disk %s: %s", argv[8], why.text);
		fprintf(out, "error %s\n", err.text);
	} else {
		tell(f, out);
	}
	bootfind_free(f);
	return fflush(out) ? 1 : rc != 0;
}

static void hash(int kernel_fd, int sum_fd)
{
	uint8_t buf[65536], digest[SHA256_DIGEST_SIZE];
	struct sha256_ctx ctx;
	uint64_t at = 0;
	ssize_t n;

	sha256_init(&ctx);
	while ((n = pread(kernel_fd, buf, sizeof(buf), (off_t)at)) > 0) {
		sha256_update(&ctx, (size_t)n, buf);
		at += (uint64_t)n;
	}
	sha256_digest(&ctx, sizeof(digest), digest);
	if (!n && write(sum_fd, digest, sizeof(digest)) < 0)
		return;
}

/* Seals the kernel, so that its content is final, and hashes it for the kernel cache. */
static void tell_sum(int kernel_fd, int sum_fd, int ready_fd)
{
	const int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK;
	char go;

	/* The confined process copies the initrd meanwhile. */
	if (read(ready_fd, &go, 1) != 1 || fcntl(kernel_fd, F_ADD_SEALS, seals))
		return;
	hash(kernel_fd, sum_fd);
}

static int watch(pid_t pid, char **argv, int ready_fd)
{
	int status, status_fd = atoi(argv[2]);

	tell_sum(atoi(argv[3]), atoi(argv[5]), ready_fd);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 1;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		dprintf(status_fd,
			"\nerror disk %s: the reader of its file system " READER_DENIED "\n",
			argv[8]);
	else if (WIFSIGNALED(status))
		dprintf(status_fd,
			"\nerror disk %s: its file system is damaged: the reader was ended by "
			"signal %d (%s)\n",
			argv[8], WTERMSIG(status), strsignal(WTERMSIG(status)));
	return status != 0;
}

int boot_main(int argc, char **argv)
{
	struct store_options options = { .readonly = true };
	struct store *store = NULL;
	struct err err = { "" };
	int ready[2];
	pid_t pid;

	if (argc < 9 || store_format_parse(argv[7], &options.format)) {
		fprintf(stderr, "bantam-fs boot: started by bantam run, not by hand\n");
		return 2;
	}
	helper_keep_only((int[]){ atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), atoi(argv[5]) }, 4);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	options.path = argv[8];
	for (int i = 9; i < argc; i++) {
		if (!store_allow_folder(argv[i], &err))
			continue;
		dprintf(atoi(argv[2]), "error %s\n", err.text);
		return 1;
	}
	if (store_open(&options, &store, &err)) {
		dprintf(atoi(argv[2]), "error %s\n", err.text);
		return 1;
	}
	(void)giveup_privileges(0);
	if (pipe2(ready, O_CLOEXEC))
		return 1;
	pid = fork();
	if (pid) {
		close(ready[1]);
		return pid < 0 ? 1 : watch(pid, argv, ready[0]);
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Only the parent may write the sum. */
	close(atoi(argv[5]));
	_exit(work(store, argv, atoi(argv[2]), ready[1]));
}
