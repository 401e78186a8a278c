/* cachedir: the folder of what bantam keeps between runs (unpacked kernels). */
#ifndef BANTAM_CACHEDIR_H
#define BANTAM_CACHEDIR_H

/*
 * Returns its path by the environment: BANTAM_CACHE, else bantam in XDG_CACHE_HOME, else
 * .cache/bantam in HOME; NULL: none of them is set, or there is no memory. The caller frees it. The
 * folder need not exist.
 */
char *cachedir_default(void);

#endif
