/*
 * http: an HTTP/1.1 server on a Unix socket, inside a loop.
 *
 * It knows nothing of VMs: it gives each request to a handler, which answers with http_reply, at
 * once or later, from any thread. The bytes on the wire are interface (CONTRACT.md, section 2.2):
 * a status line without a reason, the headers Server, Connection, Content-Type and Content-Length
 * in this order, head and body in one write, and for 204 neither type, length nor body.
 *
 * Clients are hostile. A connection reads one request at a time; pipelined ones wait in the socket.
 * Limits: HTTP_CONNECTIONS connections (the longest idle one makes room for a new one), the sizes
 * of parse.h, HTTP_HELD_BYTES for all requests that are not complete, and 30 s without progress
 * for half a request or an answer that the client does not read. The server itself answers what is
 * no request: 400, 413, 500 or 503 with a JSON array of strings, and closes.
 *
 * All functions belong to the loop's thread, except those that say "any thread".
 */
#ifndef BANTAM_HTTP_H
#define BANTAM_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/err.h"
#include "vmm/core/loop.h"

#define HTTP_CONNECTIONS 128u
#define HTTP_FDS_MAX 253u /* descriptors with one request: the kernel's limit for one message */
#define HTTP_HELD_BYTES (32u << 20) /* of incomplete requests */
#define HTTP_STREAM_BYTES                                                                          \
	(256u << 10) /* what waits for a reader of a stream before it is dropped */

struct http_request {
	const char *method; /* "GET" */
	const char *path;   /* begins with '/', without one at its end; printable ASCII. Or "*" */
	const char *query;  /* what follows '?', or NULL */
	const char *body;   /* NUL-terminated; NULL: none */
	size_t body_bytes;
	/*
	 * Descriptors (SCM_RIGHTS) that came with the request's bytes, close-on-exec. The handler
	 * takes one by setting its place to -1. The server closes the others after the handler
	 * returns, with one warning.
	 */
	int *fd;
	unsigned nfds;
	uint64_t connection; /* which one; a number is never used again */
};

/* One request and its answer. It belongs to the handler until http_reply or http_stream_begin. */
struct http_exchange;

struct http_handler {
	void *opaque;
	/* A request is complete. req and what it points to last until the call returns. */
	void (*request)(void *opaque, struct http_exchange *x, struct http_request *req);
	/*
	 * A connection has ended. Its exchange, if there is one, still wants its http_reply. May be
	 * NULL. Not called by http_server_destroy.
	 */
	void (*closed)(void *opaque, uint64_t connection);
};

struct http_server;

/*
 * Serves listen_fd, a listening Unix stream socket, from loop. The caller keeps listen_fd open
 * until http_server_destroy, and closes it; the server makes it non-blocking. server_header: the
 * value of the header Server. 0 or -errno.
 */
int http_server_create(struct loop *loop, int listen_fd, const char *server_header,
		       const struct http_handler *handler, struct http_server **out,
		       struct err *err);
/*
 * Serves the requests that have arrived, takes no more, and waits until every exchange is answered
 * and every answer sent. Does not wait for clients that do not read, and for all others at most
 * deadline_ms; requests that are not answered then get 500. Returns true if all was answered and
 * sent. Not inside a handler. Afterwards the server can only be destroyed (or drained again).
 */
bool http_server_drain(struct http_server *s, unsigned deadline_ms);
/*
 * Closes all connections. Accepts NULL. Not inside a callback. An exchange that is not answered yet
 * stays valid: its http_reply then does nothing. The loop may be destroyed next.
 */
void http_server_destroy(struct http_server *s);

/*
 * Any thread. Answers and ends the exchange: exactly one call for each. Copies body. NULL: an empty
 * one. With status 204 there is no body.
 */
void http_reply(struct http_exchange *x, int status, const char *body, size_t body_bytes);

/*
 * An answer without an end, instead of http_reply: status 200, "Connection: close", no length.
 *
 * Writes never block; a reader that leaves more than HTTP_STREAM_BYTES unread is dropped. When the
 * client is gone or dropped, or the server is destroyed, the loop's thread calls gone, at most once
 * (NULL: not). The owner calls http_stream_end exactly once, also after gone, also inside it. A
 * thread other than the loop's that ends the stream may still see gone called, if that has begun.
 */
struct http_stream;

/* Returns NULL if memory ran out; the exchange is then answered with 500. */
struct http_stream *http_stream_begin(struct http_exchange *x, const char *content_type,
				      void (*gone)(void *opaque), void *opaque);
/* Any thread. */
void http_stream_write(struct http_stream *st, const void *buf, size_t bytes);
/* Any thread. What is written is still sent; then the connection closes. st is invalid. */
void http_stream_end(struct http_stream *st);

#endif
