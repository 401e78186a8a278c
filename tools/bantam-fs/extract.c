/*
 * extract: copies a file or a tree out of an image, in two processes.
 *
 * The confined process walks the image and sends records. The writer creates what the records
 * describe, and trusts none of them: a name is one component, which the writer creates by openat
 * in its open directory with O_EXCL and O_NOFOLLOW, so it never follows a link, old or new. It
 * drops set-id bits, owners and device files. The tree grows under a temporary name. The writer
 * renames it when it is complete, and removes it otherwise.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/bantam-fs/fs.h"
#include "vmm/core/printable.h"

#define DEPTH_MAX 128u
#define DATA_MAX (1u << 20)

enum record_type { RECORD_DIR = 1, RECORD_UP, RECORD_FILE, RECORD_DATA, RECORD_LINK, RECORD_END };

struct record {
	uint32_t type;
	uint32_t mode;
	uint32_t name_len;   /* the name follows */
	uint32_t data_len;   /* the data follows the name: bytes of a file, target of a link */
	uint64_t offset;     /* DATA */
	uint64_t size_bytes; /* FILE */
	int64_t mtime_s;
};

/* --- the confined side ------------------------------------------------------------------------- */

struct sender {
	struct job *job;
	struct volume *v;
	unsigned nspecial;
	struct err *err;
};

static int send_all(struct sender *s, const void *bytes, size_t len)
{
	const uint8_t *b = bytes;

	while (len) {
		ssize_t n = write(s->job->pipe_fd, b, len);

		if (n < 0 && errno == EINTR)
			continue;
		/* The writer has ended, and has reported why. */
		if (n < 0)
			_exit(1);
		b += n;
		len -= (size_t)n;
	}
	atomic_fetch_add(s->job->progress, 1);
	return 0;
}

static void send_record(struct sender *s, const struct record *r, const char *name,
			const void *data)
{
	send_all(s, r, sizeof(*r));
	send_all(s, name, r->name_len);
	send_all(s, data, r->data_len);
}

static int send_data(void *opaque, uint64_t offset, const void *bytes, size_t len)
{
	struct record r = { .type = RECORD_DATA, .offset = offset, .data_len = (uint32_t)len };

	send_record(opaque, &r, "", bytes);
	return 0;
}

static int send_node(struct sender *s, const char *name, const char *path, const struct node *node,
		     unsigned depth);

static int send_dir(struct sender *s, const char *path, const struct node *dir, unsigned depth)
{
	struct entries entries;
	int rc = volume_enter(s->v, dir, path, s->err);

	if (!rc)
		rc = volume_list(s->v, dir, path, &entries, s->err);
	if (rc)
		return rc;
	for (size_t i = 0; !rc && i < entries.n; i++) {
		const struct entry *e = &entries.e[i];
		char *sub;

		if (asprintf(&sub, "%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/",
			     e->name) < 0)
			return err_sys(s->err, ENOMEM, "%s", path);
		if (e->broken)
			rc = err_set(s->err, EIO, "%s: the file system is damaged there", sub);
		else if (depth == DEPTH_MAX)
			rc = err_set(s->err, ELOOP, "%s: too deep", sub);
		else if (strlen(e->name) > EXT2_NAME_LEN)
			rc = err_set(s->err, ENAMETOOLONG,
				     "%s: the name has more than 255 bytes, which Linux's file "
				     "systems cannot hold; extract other paths one by one",
				     sub);
		else
			rc = send_node(s, e->name, sub, &e->node, depth + 1);
		free(sub);
	}
	volume_free_entries(&entries);
	return rc;
}

static int send_node(struct sender *s, const char *name, const char *path, const struct node *node,
		     unsigned depth)
{
	uint16_t mode = node->inode.i_mode;
	struct record r = { .mode = mode,
			    .name_len = (uint32_t)strlen(name),
			    .mtime_s = (int32_t)node->inode.i_mtime,
			    .size_bytes = EXT2_I_SIZE(&node->inode) };
	char target[VOLUME_PATH_MAX];
	int rc = 0;

	if (LINUX_S_ISDIR(mode)) {
		r.type = RECORD_DIR;
		send_record(s, &r, name, "");
		rc = send_dir(s, path, node, depth);
		r = (struct record){ .type = RECORD_UP, .mode = mode, .mtime_s = r.mtime_s };
		if (!rc)
			send_record(s, &r, "", "");
	} else if (LINUX_S_ISREG(mode)) {
		r.type = RECORD_FILE;
		send_record(s, &r, name, "");
		rc = volume_read(s->v, node, path, send_data, s, s->err);
	} else if (LINUX_S_ISLNK(mode)) {
		r.type = RECORD_LINK;
		rc = volume_read_link(s->v, node, target, sizeof(target));
		if (rc)
			return err_set(s->err, EIO, "%s: the link is damaged", path);
		r.data_len = (uint32_t)strlen(target);
		send_record(s, &r, name, target);
	} else {
		s->nspecial++;
	}
	return rc;
}

int extract_send(struct job *job, struct volume *v)
{
	struct record end = { .type = RECORD_END };
	struct err err;
	struct sender s = { job, v, 0, &err };
	struct node node;

	if (volume_find(v, job->path, true, &node, &err) || send_node(&s, "", job->path, &node, 0))
		return job_fail(job, &err);
	send_record(&s, &end, "", "");
	if (s.nspecial)
		fprintf(stderr, "bantam: %s: %u device files, sockets and FIFOs were left out\n",
			job->image, s.nspecial);
	return 0;
}

/* --- the writer ------------------------------------------------------------------------------- */

struct extract {
	const struct job *job;
	int parent_fd; /* the folder of the new name */
	char name[256], temp[48];
	bool made; /* temp exists */
	mode_t mask;
	int dir_fd[DEPTH_MAX + 2]; /* open directories, from parent_fd down */
	unsigned depth;		   /* index of the last one */
	int file_fd;
	uint64_t file_bytes;
	struct record file;
	uint8_t *data;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int signo)
{
	interrupted = signo;
}

static int say(const struct extract *x, const char *what)
{
	struct err err;

	err_sys(&err, errno, "extract to %s: %s", x->job->dest, what);
	return job_fail(x->job, &err);
}

/* Copies the last component of a path. Returns false if it is missing, "." or "..". */
static bool last_name(const char *path, char *name, size_t len)
{
	const char *end = path + strlen(path), *from;

	while (end > path && end[-1] == '/')
		end--;
	for (from = end; from > path && from[-1] != '/'; from--)
		;
	return end > from && snprintf(name, len, "%.*s", (int)(end - from), from) < (int)len &&
	       strcmp(name, ".") && strcmp(name, "..");
}

/* If DEST is a directory, the copy goes into it under PATH's name; else DEST is the new name. */
static int find_place(struct extract *x)
{
	const struct job *job = x->job;
	char dir[VOLUME_PATH_MAX];
	struct stat st;
	struct err err;
	size_t len;

	if (!stat(job->dest, &st) && S_ISDIR(st.st_mode)) {
		if (!last_name(job->path, x->name, sizeof(x->name))) {
			err_set(&err, EEXIST, "extract: %s exists; name a directory that does not",
				job->dest);
			return job_fail(job, &err);
		}
		x->parent_fd = open(job->dest, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	} else {
		if (!last_name(job->dest, x->name, sizeof(x->name)) ||
		    strlen(job->dest) >= sizeof(dir)) {
			errno = EINVAL;
			return say(x, "no name for a file");
		}
		strcpy(dir, job->dest);
		for (len = strlen(dir); len && dir[len - 1] == '/'; len--)
			;
		for (; len && dir[len - 1] != '/'; len--)
			;
		dir[len] = 0;
		x->parent_fd = open(*dir ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (x->parent_fd < 0)
		return say(x, "its directory cannot be opened");
	if (!fstatat(x->parent_fd, x->name, &st, AT_SYMLINK_NOFOLLOW)) {
		errno = EEXIST;
		return say(x, x->name);
	}
	return 0;
}

/* nohup has made the program ignore SIGHUP, a shell script's "&" SIGINT: that stays. */
static void catch_unless_ignored(int signo, const struct sigaction *act)
{
	struct sigaction old;

	if (!sigaction(signo, NULL, &old) && old.sa_handler != SIG_IGN)
		sigaction(signo, act, NULL);
}

int extract_prepare(struct job *job, struct extract **out)
{
	struct extract *x = calloc(1, sizeof(*x));
	struct sigaction act = { .sa_handler = on_signal };
	uint64_t random = 0;

	if (!x || !(x->data = malloc(DATA_MAX))) {
		perror("bantam: extract");
		return 1;
	}
	x->job = job;
	x->parent_fd = x->file_fd = -1;
	x->mask = umask(0);
	umask(x->mask);
	if (find_place(x))
		return 1;
	x->dir_fd[0] = x->parent_fd;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		random = (uint64_t)getpid();
	snprintf(x->temp, sizeof(x->temp), ".bantam-extract-%016llx", (unsigned long long)random);
	/* No SA_RESTART: a signal ends the read, and we remove the incomplete tree. */
	catch_unless_ignored(SIGINT, &act);
	catch_unless_ignored(SIGTERM, &act);
	catch_unless_ignored(SIGHUP, &act);
	*out = x;
	return 0;
}

static bool get_all(int fd, void *to, size_t len)
{
	uint8_t *b = to;

	while (len) {
		ssize_t n = interrupted ? 0 : read(fd, b, len);

		if (n < 0 && errno == EINTR && !interrupted)
			continue;
		if (n <= 0)
			return false;
		b += n;
		len -= (size_t)n;
	}
	return true;
}

static void set_times(int fd, const struct record *r)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = r->mtime_s } };

	futimens(fd, times);
}

static bool close_file(struct extract *x)
{
	int fd = x->file_fd;
	bool ok;

	if (fd < 0)
		return true;
	x->file_fd = -1;
	/* The file may end in a hole. */
	ok = !ftruncate(fd, (off_t)x->file.size_bytes) &&
	     !fchmod(fd, x->file.mode & 0777 & ~x->mask);
	set_times(fd, &x->file);
	return !close(fd) && ok;
}

static bool enter(struct extract *x, const char *name)
{
	int parent = x->dir_fd[x->depth];

	if (x->depth == DEPTH_MAX + 1) {
		errno = ENAMETOOLONG;
		return false;
	}
	if (mkdirat(parent, name, 0700))
		return false;
	x->dir_fd[x->depth + 1] = openat(parent, name,
					 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (x->dir_fd[x->depth + 1] < 0)
		return false;
	x->depth++;
	return true;
}

static bool leave(struct extract *x, const struct record *r)
{
	int fd = x->dir_fd[x->depth--];
	bool ok = !fchmod(fd, r->mode & 0777 & ~x->mask);

	set_times(fd, r);
	close(fd);
	return ok;
}

static bool put_data(struct extract *x, const struct record *r)
{
	for (uint32_t done = 0; done < r->data_len;) {
		ssize_t n = pwrite(x->file_fd, x->data + done, r->data_len - done,
				   (off_t)(r->offset + done));

		if (n < 0 && errno == EINTR && !interrupted)
			continue;
		if (n <= 0)
			return false;
		done += (uint32_t)n;
	}
	return true;
}

static bool make(struct extract *x, const struct record *r, const char *name)
{
	int dir = x->dir_fd[x->depth];

	x->made = true;
	if (r->type == RECORD_DIR)
		return enter(x, name);
	if (r->type == RECORD_LINK) {
		struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = r->mtime_s } };

		x->data[r->data_len] = 0;
		if (symlinkat((const char *)x->data, dir, name))
			return false;
		utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW);
		return true;
	}
	x->file = *r;
	x->file_fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return x->file_fd >= 0;
}

/* The first entry gets the temporary name, entries below it their own. NULL: a bad name. */
static const char *name_for(const struct extract *x, const struct record *r, const char *name)
{
	if (!x->depth)
		return x->made ? NULL : x->temp;
	if (!r->name_len || strlen(name) != r->name_len || strchr(name, '/') ||
	    !strcmp(name, ".") || !strcmp(name, ".."))
		return NULL;
	return name;
}

/* Returns 1 to go on, 0 at the end, -1 and errno; EPROTO if the record is malformed. */
static int take(struct extract *x, const struct record *r, char *name)
{
	const char *as = name_for(x, r, name);

	errno = EPROTO;
	if (r->type == RECORD_DATA)
		return x->file_fd < 0 ? -1 : put_data(x, r) ? 1 : -1;
	if (!close_file(x))
		return -1;
	errno = EPROTO;
	switch (r->type) {
	case RECORD_DIR:
	case RECORD_FILE:
	case RECORD_LINK:
		if (!as)
			return -1;
		if (r->type == RECORD_FILE && r->size_bytes > INT64_MAX)
			return -1;
		return make(x, r, as) ? 1 : -1;
	case RECORD_UP:
		return !x->depth ? -1 : leave(x, r) ? 1 : -1;
	case RECORD_END:
		return x->depth || !x->made ? -1 : 0;
	}
	return -1;
}

bool extract_receive(struct extract *x, int fd)
{
	struct record r;
	char name[EXT2_NAME_LEN + 1];
	int rc = 1;

	while (rc > 0) {
		if (!get_all(fd, &r, sizeof(r)))
			return false;
		if (r.name_len > EXT2_NAME_LEN || r.data_len >= DATA_MAX)
			return false;
		if (!get_all(fd, name, r.name_len) || !get_all(fd, x->data, r.data_len))
			return false;
		name[r.name_len] = 0;
		rc = take(x, &r, name);
		if (rc < 0)
			say(x, !x->made || !*name ? x->name : name);
	}
	return !rc;
}

/*
 * Opens a folder that we made, also if its mode denies that. Its owner may have put a link in its
 * place by now, which is not followed: the mode is set through the descriptor.
 */
static int open_to_remove(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), path;
	char self[40];

	if (fd >= 0 || errno != EACCES)
		return fd;
	path = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (path < 0)
		return -1;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", path);
	if (!chmod(self, 0700))
		fd = open(self, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	close(path);
	return fd;
}

/* Removes name in dir and all below it; does not follow links. */
static void remove_tree(int dir, const char *name, unsigned depth)
{
	struct stat st;
	int fd;
	DIR *d;

	if (!unlinkat(dir, name, 0) || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) ||
	    !S_ISDIR(st.st_mode) || depth > DEPTH_MAX + 1)
		return;
	fd = open_to_remove(dir, name);
	if (fd < 0)
		return;
	fchmod(fd, 0700);
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return;
	}
	for (struct dirent *e; (e = readdir(d));)
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			remove_tree(fd, e->d_name, depth + 1);
	closedir(d);
	unlinkat(dir, name, AT_REMOVEDIR);
}

int extract_finish(struct extract *x, bool good)
{
	int rc = 1;

	if (x->file_fd >= 0)
		close(x->file_fd);
	while (x->depth)
		close(x->dir_fd[x->depth--]);
	if (interrupted) {
		errno = EINTR;
		say(x, "stopped");
		rc = 128 + interrupted;
	} else if (good) {
		rc = renameat2(x->parent_fd, x->temp, x->parent_fd, x->name, 1 /* NOREPLACE */);
		/* This file system has no RENAME_NOREPLACE; find_place saw no such name. */
		if (rc && errno == EINVAL)
			rc = renameat(x->parent_fd, x->temp, x->parent_fd, x->name);
		rc = rc ? say(x, x->name) : 0;
	}
	if (rc && x->made)
		remove_tree(x->parent_fd, x->temp, 0);
	close(x->parent_fd);
	free(x->data);
	free(x);
	return rc;
}
