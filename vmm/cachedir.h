/* cachedir: the folder of what bantam keeps between runs (unpacked kernels). */
#ifndef BANTAM_CACHEDIR_H
#define BANTAM_CACHEDIR_H

/*
 * Returns its path by the environment: BANTAM_CACHE, else bantam in XDG_CACHE_HOME, else
 * .cache/bantam in HOME; NULL: none of them is set, or there is no memory. The caller frees it. The
 * folder need not exist.
 */
char *cachedir_default(void);
/* Makes it and the folders above, if it is not there: before the process is confined, which permits nothing above it. */
void cachedir_make(const char *dir); /* NULL: does nothing */

#endif
