/* fat: the tree of names that will be written, and their sources. See fat.h. */
#include "devices/backend/fat/fat_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/core/parse.h"

#define PRINT_BYTES 240u

static struct fat_node *node_create(const char *name, bool dir)
{
	struct fat_node *node = calloc(1, sizeof(*node));

	if (!node)
		return NULL;
	node->dir = dir;
	node->source.fd = -1;
	node->name = strdup(name);
	if (node->name)
		return node;
	free(node);
	return NULL;
}

static void node_destroy(struct fat_node *node)
{
	if (!node)
		return;
	for (size_t i = 0; i < node->nchild; i++)
		node_destroy(node->child[i]);
	fat_source_close(&node->source);
	free(node->child);
	free(node->name);
	free(node->path);
	free(node->data);
	free(node);
}

/* Add a new node to dir; NULL: no memory. */
static struct fat_node *node_add(struct fat *fat, struct fat_node *dir, const char *name,
				 bool is_dir)
{
	struct fat_node *node = node_create(name, is_dir);

	if (!node)
		return NULL;
	if (dir->nchild == dir->child_room) {
		size_t room = dir->child_room ? dir->child_room * 2 : 8;
		struct fat_node **child = realloc(dir->child, room * sizeof(*child));

		if (!child) {
			node_destroy(node);
			return NULL;
		}
		dir->child = child;
		dir->child_room = room;
	}
	dir->child[dir->nchild++] = node;
	node->parent = dir;
	*(is_dir ? &fat->folders : &fat->files) += 1;
	return node;
}

int fat_create(const struct fat_options *options, struct fat **out, struct err *err)
{
	const char *fault = options->label ? fat_label_fault(options->label) : NULL;
	struct fat *fat = NULL;
	char buf[64];

	*out = NULL;
	if (fault)
		return err_set(err, EINVAL, "label \"%s\": %s",
			       fat_name_print(options->label, buf, sizeof(buf)), fault);
	fat = calloc(1, sizeof(*fat));
	if (fat)
		fat->root = node_create("", true);
	if (!fat || !fat->root) {
		free(fat);
		return err_sys(err, ENOMEM, "FAT");
	}
	fat->options = *options;
	fat->options.label = NULL;
	if (options->label)
		snprintf(fat->label, sizeof(fat->label), "%s", options->label);
	fat->root->mtime_s = options->latest_s;
	*out = fat;
	return 0;
}

void fat_destroy(struct fat *fat)
{
	if (!fat)
		return;
	node_destroy(fat->root);
	free(fat->order);
	free(fat);
}

void fat_forbid(struct fat *fat, const struct stat *st)
{
	fat->forbidden = *st;
	fat->forbidden_set = true;
}

/* --- what the host has --------------------------------------------------------- */

static int path_error(const char *path, int code, const char *what, struct err *err)
{
	char buf[PRINT_BYTES];

	fat_name_print(path, buf, sizeof(buf));
	if (what)
		return err_set(err, code, "%s: %s", buf, what);
	return err_sys(err, code, "%s", buf);
}

/* rc of a function of source.c; found: path was seen in a folder before. */
static int source_error(const char *path, int rc, const struct fat_source *source, bool found,
			struct err *err)
{
	if (source->foreign)
		return path_error(path, EACCES,
				  "a link of another user on this way leads to what does not "
				  "belong to that user; bantam does not follow it",
				  err);
	if (found && (rc == -ENOENT || rc == -ELOOP || rc == -ENOTDIR || rc == -EXDEV))
		return path_error(path, -rc, "vanished, or is a link that leads nowhere", err);
	return path_error(path, -rc, NULL, err);
}

static int64_t time_of(const struct fat *fat, int64_t mtime_s)
{
	if (fat->options.times == FAT_TIMES_ONE || mtime_s > fat->options.latest_s)
		return fat->options.latest_s;
	return mtime_s;
}

/* Stops at a link that leads to a folder around itself. */
static bool is_ancestor(const struct fat_node *dir, const struct stat *st)
{
	for (; dir; dir = dir->parent)
		if (dir->was.st_dev == st->st_dev && dir->was.st_ino == st->st_ino)
			return true;
	return false;
}

static int judge(const struct fat *fat, const struct fat_node *parent, const char *path,
		 const struct stat *st, struct err *err)
{
	if (S_ISLNK(st->st_mode))
		return path_error(path, EINVAL,
				  "is a symbolic link, which FAT cannot hold (bantam "
				  "seed --follow copies what it leads to)",
				  err);
	if (S_ISDIR(st->st_mode) && is_ancestor(parent, st))
		return path_error(path, ELOOP, "this link leads to a folder that contains it", err);
	if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode))
		return path_error(path, EINVAL,
				  "is neither a file nor a folder (a device, socket "
				  "or pipe), which FAT cannot hold",
				  err);
	if (S_ISREG(st->st_mode) && (uint64_t)st->st_size > FAT_FILE_MAX)
		return path_error(path, EFBIG, "is larger than FAT's 4 GiB - 1", err);
	if (fat->forbidden_set && st->st_dev == fat->forbidden.st_dev &&
	    st->st_ino == fat->forbidden.st_ino)
		return path_error(path, EINVAL, "is the output itself; put it elsewhere", err);
	return 0;
}

static void take_file(struct fat *fat, struct fat_node *node)
{
	node->mtime_s = time_of(fat, node->was.st_mtim.tv_sec);
	node->len_bytes = (uint64_t)node->was.st_size;
	fat->data_bytes += node->len_bytes;
}

static DIR *open_folder(const struct fat *fat, struct fat_node *dir, struct err *err)
{
	struct fat_source found = { .fd = -1 };
	const struct fat_source *source = dir->source.fd >= 0 ? &dir->source : &found;
	int rc = source == &found ? fat_source_find(fat, dir, &found) : 0, fd = -1;
	DIR *stream = NULL;

	if (!rc && !S_ISDIR(source->st.st_mode))
		rc = -ENOTDIR;
	if (!rc) {
		dir->was = source->st;
		fd = fat_source_read_plain(source);
		rc = fd < 0 ? fd : 0;
	}
	if (!rc) {
		stream = fdopendir(fd);
		rc = stream ? 0 : -errno;
	}
	if (rc && fd >= 0)
		close(fd);
	fat_source_close(&found);
	if (rc)
		source_error(dir->path, rc, source, source == &found, err);
	return stream;
}

/*
 * Read all names of a host folder and what they are before going into any of them: one open
 * descriptor at a time. -1: err says why.
 */
static int read_names(struct fat *fat, struct fat_node *dir, struct err *err)
{
	DIR *stream = open_folder(fat, dir, err);
	int rc = stream ? 0 : -1;

	while (!rc) {
		struct dirent *entry;
		struct fat_node *node;

		errno = 0;
		entry = readdir(stream);
		if (!entry) {
			if (errno)
				rc = path_error(dir->path, errno, NULL, err);
			break;
		}
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (dir->nchild >= FAT_DIR_MAX) {
			rc = path_error(dir->path, EFBIG,
					"has more names than a FAT folder can hold", err);
			break;
		}
		node = node_add(fat, dir, entry->d_name, false);
		if (!node)
			rc = err_sys(err, ENOMEM, "FAT");
		else if (fstatat(dirfd(stream), node->name, &node->was, AT_SYMLINK_NOFOLLOW))
			rc = path_error(node->name, errno, "vanished while its folder was read",
					err);
	}
	if (stream)
		closedir(stream);
	return rc;
}

static int scan(struct fat *fat, struct fat_node *dir, struct err *err);

/* Takes a name that was read from the folder dir. */
static int take_name(struct fat *fat, struct fat_node *dir, struct fat_node *node, struct err *err)
{
	const char *slash = dir->path[strlen(dir->path) - 1] == '/' ? "" : "/";
	int rc = 0;

	node->top = dir->top ? dir->top : dir;
	if (asprintf(&node->path, "%s%s%s", dir->path, slash, node->name) < 0) {
		node->path = NULL;
		return err_sys(err, ENOMEM, "FAT");
	}
	if (S_ISLNK(node->was.st_mode) && fat->options.follow) {
		struct fat_source source;

		rc = fat_source_find(fat, node, &source);
		if (rc)
			return source_error(node->path, rc, &source, true, err);
		node->was = source.st;
		fat_source_close(&source);
	}
	rc = judge(fat, dir, node->path, &node->was, err);
	if (rc)
		return rc;
	if (S_ISREG(node->was.st_mode)) {
		take_file(fat, node);
		return 0;
	}
	node->dir = true;
	fat->files--;
	fat->folders++;
	return scan(fat, node, err);
}

/* Read the tree below dir->path. It is at most as deep as the host's longest path allows. */
static int scan(struct fat *fat, struct fat_node *dir, struct err *err)
{
	int rc = read_names(fat, dir, err);

	dir->mtime_s = time_of(fat, dir->was.st_mtim.tv_sec);
	for (size_t i = 0; !rc && i < dir->nchild; i++) {
		struct fat_node *node = dir->child[i];

		/* fat_add_… may have added it to the root before. */
		if (!node->path && !node->data)
			rc = take_name(fat, dir, node, err);
	}
	return rc;
}

/* --- adding -------------------------------------------------------------------- */

/* Finds what the user named. */
static int take_named(struct fat_node *node, const char *path, bool dir, struct err *err)
{
	int rc;

	free(node->path);
	node->path = strdup(path);
	if (!node->path)
		return err_sys(err, ENOMEM, "FAT");
	fat_source_close(&node->source);
	rc = fat_source_named(path, &node->source);
	if (rc)
		return source_error(path, rc, &node->source, false, err);
	node->was = node->source.st;
	if (S_ISDIR(node->was.st_mode) != dir)
		return path_error(path, dir ? ENOTDIR : EISDIR, NULL, err);
	return 0;
}

int fat_add_tree(struct fat *fat, const char *name, const char *host_dir, struct err *err)
{
	struct fat_node *dir = name ? node_add(fat, fat->root, name, true) : fat->root;
	int rc;

	if (!*host_dir)
		return err_set(err, ENOENT, "the folder's name is empty");
	if (!dir)
		return err_sys(err, ENOMEM, "FAT");
	rc = take_named(dir, host_dir, true, err);
	if (rc)
		return rc;
	/* The root of the image has no folder of the host. */
	dir->parent = NULL;
	rc = scan(fat, dir, err);
	if (dir != fat->root)
		dir->parent = fat->root;
	return rc;
}

int fat_add_file(struct fat *fat, const char *name, const char *host_path, struct err *err)
{
	struct fat_node *node = node_add(fat, fat->root, name, false);
	int rc;

	if (!node)
		return err_sys(err, ENOMEM, "FAT");
	rc = take_named(node, host_path, false, err);
	if (!rc)
		rc = judge(fat, fat->root, host_path, &node->was, err);
	if (!rc)
		take_file(fat, node);
	return rc;
}

int fat_open_named(const char *path, struct err *err)
{
	struct fat_source source;
	int rc = fat_source_named(path, &source);

	if (rc)
		return source_error(path, rc, &source, false, err);
	rc = fat_source_read(&source, 0);
	fat_source_close(&source);
	return rc < 0 ? path_error(path, -rc, NULL, err) : rc;
}

int fat_add_data(struct fat *fat, const char *name, const void *data, size_t len, struct err *err)
{
	struct fat_node *node = node_add(fat, fat->root, name, false);

	if (node)
		node->data = malloc(len + 1);
	if (!node || !node->data)
		return err_sys(err, ENOMEM, "FAT");
	memcpy(node->data, data, len);
	node->len_bytes = len;
	node->mtime_s = fat->options.latest_s;
	fat->data_bytes += len;
	return 0;
}

int fat_latest(int64_t unset, int64_t *latest_s, struct err *err)
{
	const char *text = getenv("SOURCE_DATE_EPOCH");
	uint64_t num;

	*latest_s = unset;
	if (!text)
		return 0;
	if (parse_u64(text, &num) || num > INT64_MAX)
		return err_set(err, EINVAL,
			       "SOURCE_DATE_EPOCH=%.40s: must be a number of seconds since 1970",
			       text);
	*latest_s = (int64_t)num;
	return 0;
}
