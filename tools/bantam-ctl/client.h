/*
 * client: requests to the API of a VM's process, over its socket.
 *
 * HTTP/1.1 as the server of bantam (and of Cloud Hypervisor) has it: an answer has a length, or no
 * body, or (vm.events) no end. What answers may be any program: its answers are limited in size,
 * and an answer that is not HTTP is an error. One thread.
 */
#ifndef BANTAM_CTL_CLIENT_H
#define BANTAM_CTL_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/core/err.h"

#define CLIENT_FDS_MAX 16

struct client {
	const char *path; /* the socket's, as the user gave it */
	int fd;		  /* -1: not connected */
	char *buf;	  /* bytes that came and are not used yet */
	size_t len, size;
	/* Descriptors that go with the next request; they stay the caller's. */
	int fds[CLIENT_FDS_MAX];
	unsigned nfds;
};

struct answer {
	int status;
	char *body; /* NUL-terminated; the caller frees it */
	size_t body_bytes;
};

/* Returns 0 or -errno; err says what to do. path stays the caller's. */
int client_connect(struct client *c, const char *path, struct err *err);
/* Accepts one that is not connected (fd -1). */
void client_close(struct client *c);

/*
 * Asks "METHOD /api/v1/NAME" with body (NULL: none) and waits for the answer. Returns 0 or -errno;
 * an answer whose status says that the request failed is an answer.
 */
int client_request(struct client *c, const char *method, const char *name, const char *body,
		   struct answer *out, struct err *err);
/*
 * As client_request for an answer without an end: it is there when its head is there. If the status
 * is not 200, out is a whole answer, else out->body is NULL and client_line reads on.
 */
int client_stream(struct client *c, const char *name, struct answer *out, struct err *err);
/*
 * Waits for the next line. Returns 1 and the line without its newline, which the caller frees; 0 at
 * the end; or -errno.
 */
int client_line(struct client *c, char **line, struct err *err);

/* Returns true if the status says that the request was done. */
bool client_ok(const struct answer *a);

#endif
