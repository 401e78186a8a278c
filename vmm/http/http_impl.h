/*
 * http_impl: what the files of vmm/http share. See conn.c for the theory of operation.
 *
 * server.c (listens, limits, time) → conn.c (one connection) → mail.c (answers from any thread),
 * recv.c (bytes with descriptors), parse.c.
 */
#ifndef BANTAM_HTTP_IMPL_H
#define BANTAM_HTTP_IMPL_H

#include <pthread.h>
#include <sys/types.h>

#include "vmm/core/clock.h"
#include "vmm/core/loop.h"
#include "vmm/http/http.h"
#include "vmm/http/parse.h"

#define HTTP_READ_BYTES 16384u
#define HTTP_LINGER_MS 1000u
/* Connections that are answered and wait for their client's end, beside HTTP_CONNECTIONS. */
#define HTTP_LINGERING 16u
#define HTTP_FDS_HELD 512u /* descriptors of incomplete requests, of all connections */

/* How long half a request or an unread answer may stand still. Tests make it shorter. */
extern unsigned http_patience_ms;

/* --- mail.c: what any thread may touch ------------------------------------------------------ */

/*
 * Where answers and streams' bytes wait for the loop's thread. Server, exchanges and streams hold
 * it, so it lives as long as the last of them.
 */
struct http_mail {
	pthread_mutex_t lock; /* everything below; a leaf */
	unsigned refs;
	bool closed; /* the server is gone */
	int event_fd;
	char server_header[64];
	/* The exchange whose handler runs now, and in which thread. */
	struct http_exchange *current;
	pthread_t thread;
	struct http_exchange *first, **last; /* answered */
	struct http_stream *streams;	     /* with news */
};

struct http_exchange {
	struct http_exchange *next;
	struct http_mail *mail;
	struct http_conn *conn; /* loop's thread; NULL: it has ended */
	bool close, head_only;
	bool here;    /* answered inside its handler: not in the list */
	char *answer; /* NULL: no memory */
	size_t answer_bytes;
	struct http_stream *stream; /* the answer begins it, or NULL */
};

struct http_stream {
	struct http_stream *next;
	struct http_mail *mail;
	struct http_conn *conn; /* loop's thread; NULL: not yet, or it has ended */
	void (*gone)(void *opaque);
	void *opaque;
	/* mail->lock */
	unsigned refs; /* its owner, its exchange or connection, the list */
	char *buf;
	size_t bytes, room;
	bool queued, ended, dropped;
};

struct http_mail *http_mail_new(int event_fd, const char *server_header);
/* Takes all answered exchanges, a list in the order of the answers. */
struct http_exchange *http_mail_take(struct http_mail *mail);
/* Takes a stream with news and its reference, or NULL. */
struct http_stream *http_mail_take_stream(struct http_mail *mail);
/* The server is gone: drops what waits, and the server's reference. */
void http_mail_close(struct http_mail *mail);

/* Returns NULL if memory ran out. */
struct http_exchange *http_exchange_new(struct http_mail *mail, bool close, bool head_only);
/* An answer, or a stream, that x still has is lost. */
void http_exchange_free(struct http_exchange *x);
/* The handler of x begins in this thread; NULL: it has returned. */
void http_exchange_enter(struct http_mail *mail, struct http_exchange *x);

/* Returns head and body of an answer, in malloc's memory, or NULL. */
char *http_answer(const struct http_mail *mail, int status, const char *body, size_t body_bytes,
		  bool close, bool head_only, size_t *bytes);

/* Sends what waits. Returns false if the client is gone or dropped. *left, *ended as afterwards. */
bool http_stream_flush(struct http_stream *st, int fd, bool *sent, bool *left, bool *ended);
/* The connection has ended. Calls gone, unless the owner has ended the stream. */
void http_stream_lose(struct http_stream *st);
void http_stream_unref(struct http_stream *st);

/* --- recv.c ------------------------------------------------------------------------------------ */

struct http_fds {
	int *fd; /* NULL: none */
	unsigned n;
	bool lost;   /* some did not arrive: this process has too many open files */
	bool excess; /* some were closed, being more than HTTP_FDS_MAX */
};

/*
 * Reads up to size bytes. *marked: descriptors wait in the socket, so the bytes stay there, too, until
 * http_take. Otherwise they are taken. Returns their number, 0 at the end, or -errno.
 */
ssize_t http_look(int sock, char *buf, size_t size, bool *marked);
/*
 * Takes bytes that http_look has shown; buf gets them again. Adds the descriptors that came with them
 * to fds. 0 or -errno.
 */
int http_take(int sock, char *buf, size_t bytes, struct http_fds *fds);
/* Closes those that are left, and returns how many. */
unsigned http_fds_close(struct http_fds *fds);

/* --- conn.c, server.c ---------------------------------------------------------------------------- */

struct http_conn {
	struct http_server *server;
	struct http_conn *next, *prev; /* the longest without a byte first */
	struct loop_watch *watch;
	uint64_t id, deadline_ns; /* 0: none */
	uint32_t events;
	int fd;
	struct http_parse parse;
	struct http_fds fds; /* of the request at hand */
	size_t held;	     /* its share of server->held */
	unsigned held_fds;
	char *rest; /* bytes behind a request that is not answered yet */
	size_t rest_bytes;
	char *out; /* not sent yet */
	size_t out_bytes, out_sent;
	struct http_exchange *exchange; /* not answered yet */
	struct http_stream *stream;
	bool stream_left; /* of the stream, too, something is not sent yet */
	bool eof;	  /* the client sends no more */
	bool closing;	  /* after what is unsent */
	bool lingering;	  /* our end is closed; the client's is not */
	bool progress;	  /* bytes moved since settle */
	bool broken;	  /* settle frees it */
	bool told;	  /* handler.closed was called */
};

struct http_server {
	struct loop *loop;
	struct http_handler handler;
	struct http_mail *mail;
	int listen_fd, event_fd;
	struct loop_watch *listen, *event, *timer;
	uint64_t timer_ns;  /* when the timer fires; 0: not armed */
	uint64_t accept_ns; /* when accepting goes on; 0: it does */
	uint64_t next_id;
	struct http_conn *first, *last;
	unsigned nconns, nlingering; /* nconns counts both */
	size_t held;
	unsigned held_fds;
	char buf[HTTP_READ_BYTES];
};

/* Make the timer fire at_ns or earlier. */
static inline void http_wake_at(struct http_server *s, uint64_t at_ns)
{
	uint64_t now;

	if (s->timer_ns && s->timer_ns <= at_ns)
		return;
	now = clock_now_ns();
	s->timer_ns = at_ns;
	loop_timer_arm(s->timer, at_ns > now ? at_ns - now : 1);
}

/* Takes over fd. Returns NULL, with fd closed, if memory or watches ran out. */
struct http_conn *http_conn_new(struct http_server *s, int fd);
void http_conn_free(struct http_conn *c);
/* Refuses a new connection: "503" and the end. */
void http_conn_refuse(struct http_conn *c, const char *why);
/* Answers "500" in the place of the handler, whose answer comes too late. */
void http_conn_abandon(struct http_conn *c, const char *why);
/* Delivers the answer of x, and frees x. */
void http_conn_answer(struct http_exchange *x);
/* Sends what can be sent, and goes on with what has been read. */
void http_conn_go_on(struct http_conn *c);
/* Serves what the client has sent before this call. */
void http_conn_read_all(struct http_conn *c);
/* Returns true if the client waits for nothing and has sent nothing. */
bool http_conn_is_idle(const struct http_conn *c);
/* Returns true if bytes wait to be sent. */
bool http_conn_is_sending(const struct http_conn *c);

#endif
