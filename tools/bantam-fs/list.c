/* list: ls and cat, in the confined process. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/bantam-fs/fs.h"
#include "vmm/core/printable.h"

/* Deeper than any real tree, and small enough for our stack. */
#define DEPTH_MAX 128u

struct lister {
	struct job *job;
	struct volume *v;
	int status;
};

static void put_name(const struct lister *l, const char *name)
{
	/* Escape control characters for a terminal, as ls does; a program gets the plain bytes. */
	if (l->job->tty)
		printable_put(stdout, name);
	else
		fputs(name, stdout);
	atomic_fetch_add(l->job->progress, 1);
}

static char type_of(uint16_t mode)
{
	return LINUX_S_ISDIR(mode)  ? 'd' :
	       LINUX_S_ISREG(mode)  ? '-' :
	       LINUX_S_ISLNK(mode)  ? 'l' :
	       LINUX_S_ISCHR(mode)  ? 'c' :
	       LINUX_S_ISBLK(mode)  ? 'b' :
	       LINUX_S_ISFIFO(mode) ? 'p' :
	       LINUX_S_ISSOCK(mode) ? 's' :
				      '?';
}

static void put_mode(uint16_t mode)
{
	char text[11] = { type_of(mode) };

	for (unsigned i = 0; i < 9; i++)
		text[1 + i] = mode & (0400u >> i) ? "rwxrwxrwx"[i] : '-';
	if (mode & 04000)
		text[3] = mode & 0100 ? 's' : 'S';
	if (mode & 02000)
		text[6] = mode & 010 ? 's' : 'S';
	if (mode & 01000)
		text[9] = mode & 01 ? 't' : 'T';
	fputs(text, stdout);
}

static void put_size(const struct ext2_inode *inode)
{
	uint32_t dev = inode->i_block[0];

	if (!LINUX_S_ISCHR(inode->i_mode) && !LINUX_S_ISBLK(inode->i_mode)) {
		printf(" %10llu", (unsigned long long)EXT2_I_SIZE(inode));
		return;
	}
	/* The first word holds a device number in the old form, the second in the wide form. */
	if (dev) {
		printf(" %5u,%4u", dev >> 8 & 0xff, dev & 0xff);
	} else {
		dev = inode->i_block[1];
		printf(" %5u,%4u", dev >> 8 & 0xfff, (dev & 0xff) | (dev >> 12 & 0xfff00));
	}
}

static void put_details(const struct ext2_inode *inode)
{
	time_t t = (int32_t)inode->i_mtime;
	char when[32];
	struct tm tm;

	put_mode(inode->i_mode);
	printf(" %2u %5u %5u", inode->i_links_count, inode_uid(*inode), inode_gid(*inode));
	put_size(inode);
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M", gmtime_r(&t, &tm));
	printf(" %s ", when);
}

static void put_entry(struct lister *l, const char *name, const struct node *node, bool broken)
{
	char target[VOLUME_PATH_MAX];

	if (l->job->details && broken)
		printf("%-46s", "(its inode is damaged)");
	else if (l->job->details)
		put_details(&node->inode);
	put_name(l, name);
	if (l->job->details && !broken && LINUX_S_ISLNK(node->inode.i_mode) &&
	    !volume_read_link(l->v, node, target, sizeof(target))) {
		fputs(" -> ", stdout);
		put_name(l, target);
	}
	putchar('\n');
	l->status |= broken;
}

static void list_dir(struct lister *l, const struct node *dir, const char *path, unsigned depth)
{
	struct entries entries;
	struct err err;

	if ((l->job->recurse && volume_enter(l->v, dir, path, &err)) ||
	    volume_list(l->v, dir, path, &entries, &err)) {
		l->status = job_fail(l->job, &err);
		return;
	}
	if (l->job->recurse) {
		put_name(l, path);
		puts(":");
	}
	for (size_t i = 0; i < entries.n; i++)
		put_entry(l, entries.e[i].name, &entries.e[i].node, entries.e[i].broken);
	for (size_t i = 0; l->job->recurse && i < entries.n; i++) {
		const struct entry *e = &entries.e[i];
		char *sub;

		if (e->broken || !LINUX_S_ISDIR(e->node.inode.i_mode))
			continue;
		if (depth == DEPTH_MAX) {
			err_set(&err, ELOOP, "%s/%s: too deep", path, e->name);
			l->status = job_fail(l->job, &err);
			continue;
		}
		if (asprintf(&sub, "%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/",
			     e->name) < 0)
			break;
		putchar('\n');
		list_dir(l, &e->node, sub, depth + 1);
		free(sub);
	}
	volume_free_entries(&entries);
}

int list_run(struct job *job, struct volume *v)
{
	struct lister l = { job, v, 0 };
	struct node node;
	struct err err;

	/* As ls does, show a link itself with -l, and follow it without. */
	if (volume_find(v, job->path, !job->details || job->path[strlen(job->path) - 1] == '/',
			&node, &err))
		return job_fail(job, &err);
	if (LINUX_S_ISDIR(node.inode.i_mode))
		list_dir(&l, &node, job->path, 0);
	else
		put_entry(&l, job->path, &node, false);
	if (fflush(stdout) || ferror(stdout)) {
		err_sys(&err, errno, "cannot write the list");
		return job_fail(job, &err);
	}
	return l.status;
}

/* --- cat ------------------------------------------------------------------------------------- */

struct output {
	struct job *job;
	uint64_t at;
	int error; /* errno of the output, not of the image */
};

static int write_out(struct output *o, const uint8_t *b, uint64_t len)
{
	while (len) {
		ssize_t n = write(STDOUT_FILENO, b, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			o->error = errno;
			return -ECANCELED;
		}
		b += n;
		o->at += (uint64_t)n;
		len -= (uint64_t)n;
		atomic_fetch_add(o->job->progress, 1);
	}
	return 0;
}

static int fill_to(struct output *o, uint64_t offset)
{
	static const uint8_t zeroes[65536];
	int rc = 0;

	while (!rc && o->at < offset)
		rc = write_out(o, zeroes,
			       offset - o->at < sizeof(zeroes) ? offset - o->at : sizeof(zeroes));
	return rc;
}

static int put_bytes(void *opaque, uint64_t offset, const void *bytes, size_t len)
{
	struct output *o = opaque;
	int rc = fill_to(o, offset);

	return rc ? rc : write_out(o, bytes, len);
}

int cat_run(struct job *job, struct volume *v)
{
	struct output o = { .job = job };
	struct node node;
	struct err err;
	int rc = volume_find(v, job->path, true, &node, &err);

	if (!rc)
		rc = volume_read(v, &node, job->path, put_bytes, &o, &err);
	if (!rc)
		rc = fill_to(&o, EXT2_I_SIZE(&node.inode));
	if (o.error)
		err_sys(&err, o.error, "%s: cannot write it out", job->path);
	return rc ? job_fail(job, &err) : 0;
}
