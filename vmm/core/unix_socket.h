/*
 * unix_socket: Unix stream sockets with a path: listening and connecting.
 *
 * Messages begin with the option and its key, as the user gave them: "--serial socket=PATH: ".
 * Descriptors are closed on exec. No shared state: any thread.
 */
#ifndef BANTAM_CORE_UNIX_SOCKET_H
#define BANTAM_CORE_UNIX_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/un.h>

#include "vmm/core/err.h"

/* The bytes of a path, without the NUL. */
#define UNIX_SOCKET_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

struct unix_listener {
	int fd; /* non-blocking; -1: not listening */
	char path[UNIX_SOCKET_PATH_MAX + 1];
	dev_t dev; /* the file that bind made; ino 0: none */
	ino_t ino;
};

/*
 * Checks that path is short enough for a socket. Its length must leave spare_bytes, for names that
 * the caller derives from it. 0, or -ENAMETOOLONG (also for "").
 */
int unix_socket_check(const char *option, const char *key, const char *path, size_t spare_bytes,
		      struct err *err);
/*
 * Checks, without changes, whether unix_socket_listen would succeed at path. 0 or -errno.
 */
int unix_socket_look(const char *option, const char *key, const char *path, struct err *err);
/*
 * Listen at path. Only its owner may then connect to it, because a root shell is often behind it. A
 * socket at which no process listens any more, such as one of a killed VM, is replaced; anything
 * else at path is refused. Of several processes that do this at once, one wins. *l belongs to the caller; after an error it is closed. 0 or -errno.
 */
int unix_socket_listen(struct unix_listener *l, const char *option, const char *key,
		       const char *path, int backlog, struct err *err);
/* Returns true if the socket's path still leads to it. */
bool unix_socket_in_place(const struct unix_listener *l);
/* Closes the socket and removes its path, unless another file has taken its place since. */
void unix_socket_close(struct unix_listener *l);

/* Returns a descriptor that is connected to path, or -errno. flags: 0 or SOCK_NONBLOCK. */
int unix_socket_connect(const char *path, int flags);

#endif
