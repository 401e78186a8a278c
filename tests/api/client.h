/*
 * A client of the API that behaves like those of the contract (section 7), for the tests.
 *
 * Every check prints one line of TAP, "ok - …" or "not ok - …"; one whose text begins with "time: "
 * compares a time with a bound that a busy host may miss.
 *
 * Everything runs on one thread, but for the watch over a process's opens. Times are milliseconds of CLOCK_MONOTONIC. A failed system call
 * of the client itself ends it with exit status 2: that is no result of the test.
 */
#ifndef TESTS_API_CLIENT_H
#define TESTS_API_CLIENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* --- results (tap.c) ------------------------------------------------------------ */
/* Prints the result. Returns cond. */
bool check(bool cond, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Returns how many checks have failed. */
unsigned check_failures(void);
double now_ms(void);
void sleep_ms(double ms);

/* --- HTTP (http.c) --------------------------------------------------------------- */
#define ANSWER_MAX (4u << 20)
/* How a client reads an answer. */
enum parser {
	/* As hyper and curl do: header names in any case, and a body of Content-Length bytes. */
	PARSER_HYPER,
	/*
	 * As ch-remote and Kata's Rust runtime do: the status is all the text between "HTTP/1.1 "
	 * and the carriage return, as one integer; the length stands after "Content-Length: " in
	 * exactly this case, and an answer without it ends where its headers end.
	 */
	PARSER_STRICT,
	/* As libvirt does after vm.add-net: one recv of 1023 bytes within 500 ms. */
	PARSER_ONE_RECV,
};
struct conn {
	int fd;	     /* -1: closed */
	size_t used; /* bytes of the last answer, at the beginning of buf */
	size_t fill;
	size_t first; /* bytes that were there after the first recv of the last answer */
	char *buf;
};
/* raw is the whole answer, and body its end; both lie in the connection's buffer until the next call. */
struct answer {
	int status; /* 0: the connection ended before an answer; -1: not understood */
	const char *raw, *body;
	size_t raw_bytes, body_bytes;
	bool keep; /* the connection can serve the next request */
};

/* Returns 0 or -errno; -errno leaves the connection closed. */
int conn_open(struct conn *c, const char *path);
void conn_close(struct conn *c);
/* Sends the bytes with one sendmsg and the descriptors with its first byte. Returns 0 or -errno. */
int conn_send(struct conn *c, const void *bytes, size_t len, const int *fd, unsigned nfds);
/* Reads one answer; waits at most limit_ms for its end. */
void conn_receive(struct conn *c, enum parser parser, double limit_ms, struct answer *out);
/* Returns true if the server closes the connection within limit_ms and sends nothing before. */
bool conn_is_closed(struct conn *c, double limit_ms);
/* Returns how many bytes have come that belong to no answer so far. */
size_t conn_extra_bytes(const struct conn *c);
/* Sends a request as hyper does, body may be NULL, and reads the answer. */
void conn_call(struct conn *c, const char *method, const char *endpoint, const char *body,
	       double limit_ms, struct answer *out);
/* The same on a connection of its own. *kept is closed afterwards, unless it is handed in. */
int call_once(const char *path, const char *method, const char *endpoint, const char *body,
	      double limit_ms, struct conn *c, struct answer *out);

/* --- processes (process.c) --------------------------------------------------------- */
struct process {
	pid_t pid;
	double exec_ms; /* when it was started */
	int notify_fd;	/* of process_start_watched, else -1 */
	atomic_bool kvm_held;
};
/*
 * Starts program as argv[0] "cloud-hypervisor" with --api-socket path and the words of extra
 * (NULL-terminated, or NULL); stdin is /dev/null, and stdout and stderr append to the file log.
 */
void process_start(struct process *p, const char *program, const char *path, const char *log,
		   char *const extra[]);
/*
 * The same, but every open of /dev/kvm waits without an end, and sets kvm_held. *p must stay where it is
 * until the process has ended.
 */
void process_start_watched(struct process *p, const char *program, const char *path,
			   const char *log);
/*
 * Waits until the process ends. Returns its status as of waitpid, or -1 after limit_ms; *end_ms is
 * the time. The orphans of the process become children of this one.
 */
int process_wait(struct process *p, double limit_ms, double *end_ms);
/* Returns how many children this process has left, and kills them. */
unsigned process_orphans(void);

/* --- subcommands: their arguments without the name; return the exit status ------------ */
int cmd_sequence(int argc, char **argv);
int cmd_replay(int argc, char **argv);
int cmd_ping(int argc, char **argv);
int cmd_blocked(int argc, char **argv);
int cmd_crowd(int argc, char **argv);
int cmd_peers(int argc, char **argv);

#endif
