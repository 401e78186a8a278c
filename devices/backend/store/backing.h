/*
 * store/backing: finds the file that an image names as its backing file.
 *
 * An image comes from anywhere, and its header may name any file of the host, which a reader of the
 * disk would then see. So such a name is followed only into the image's own folder (the folder of
 * the name by which the image was opened; not the folders in it), or below a folder that the user
 * has named (--backing-dir). The image that the user names himself is opened as he says.
 *
 * Thread: store_allow_folder before any other thread may open images; the rest any.
 */
#ifndef BANTAM_STORE_BACKING_H
#define BANTAM_STORE_BACKING_H

#include <sys/stat.h>

#include "vmm/core/err.h"

#define STORE_FOLDERS_MAX 32u

/* An open folder (O_PATH), and its name without links. All zeroes after store_folder_close. */
struct store_folder {
	int fd;
	char *path;  /* absolute; NULL: not open */
	char *given; /* absolute, as the user reaches it; NULL: the same */
};

/*
 * From now on this process follows names of backing files also below dir. Returns 0, -ENOTDIR,
 * -E2BIG, or another -errno.
 */
int store_allow_folder(const char *dir, struct err *err);
/* The same of several, separated by newlines, as a KEY_LIST has them. list may be NULL. */
int store_allow_folders(const char *list, struct err *err);
/* The i-th of these folders, as given; NULL: there are no more. */
const char *store_allowed_folder(unsigned i);

/* Opens the folder of image, a name that the user gave. 0 or -errno. */
int store_folder_open(struct store_folder *folder, const char *image, struct err *err);
/* Accepts a folder that is all zeroes. */
void store_folder_close(struct store_folder *folder);

/* What a name leads to: a regular file, or a block device below a folder that the user has named. */
struct store_found {
	int fd;	      /* O_PATH; the caller closes it */
	char via[32]; /* opens that very file, whatever its name leads to by then; until fd is closed */
	struct stat st; /* its kind, size and identity */
};

/*
 * Finds the backing file that image, whose folder is *own, calls name. Nothing is opened on the way
 * but folders, by O_PATH. Sets *own to the folder in which the file is. -EXDEV: the name leads out of
 * all folders that may be entered; -EINVAL: the file is of another kind; or another -errno.
 */
int store_backing_find(struct store_folder *own, const char *image, const char *name,
		       struct store_found *out, struct err *err);

#endif
