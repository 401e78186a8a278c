/*
 * agent/session: one command in a guest, by the agent's channel (guest/wire.h).
 *
 * It owns no descriptor and no thread: its owner passes the channel's bytes to agent_session_feed and
 * sends what agent_session_fill gives. Everything from the guest is checked: order, lengths, credit.
 * After a mistake, or when the owner says that the channel is gone, the agent is lost, and the session
 * calls nothing more. Memory: what struct agent_session holds; the strings of agent_command are the
 * owner's. Pure; any thread, one at a time. The owner's functions may call agent_session_*, but not
 * feed and fill. After any of these functions fill may have something to send.
 */
#ifndef BANTAM_AGENT_SESSION_H
#define BANTAM_AGENT_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/frame.h"
#include "vmm/core/err.h"

struct agent_hello {
	uint32_t version;
	uint64_t realtime_ns, monotonic_ns;
	uint64_t coreinfo_addr, coreinfo_bytes; /* not checked against guest memory */
	uint64_t taint;
	char release[WIRE_RELEASE_MAX + 1]; /* printable */
};

struct agent_exit {
	int wait_status; /* WIFEXITED or WIFSIGNALED */
	uint64_t utime_us, stime_us, maxrss_kib, minflt, majflt;
	uint64_t taint, oom_kills;
};

struct agent_owner {
	void *opaque;
	void (*hello)(void *opaque, const struct agent_hello *hello);
	void (*started)(void *opaque, uint32_t pid);
	/* It could not be started: step is a WIRE_STEP_*, code an errno. */
	void (*refused)(void *opaque, uint32_t step, int code);
	/*
	 * Bytes of WIRE_STDOUT, WIRE_STDERR or WIRE_KMSG. At most WIRE_WINDOW bytes of a stream are not
	 * yet taken; agent_session_taken, when the owner has passed some on, lets the guest send as
	 * many more.
	 */
	void (*output)(void *opaque, unsigned stream, const uint8_t *bytes, size_t len);
	void (*eof)(void *opaque, unsigned stream);
	/* The command has ended. Its output may still come. */
	void (*exited)(void *opaque, const struct agent_exit *exit);
	void (*pong)(void *opaque, uint64_t value);
	/* A line of text about something that the agent could not do; printable. */
	void (*note)(void *opaque, const char *text);
	/* The agent powers the machine off now. */
	void (*bye)(void *opaque);
	/* The last call. why: "it sent …", what the agent did wrong. */
	void (*lost)(void *opaque, const char *why);
	/*
	 * Writes input of the command, at most max bytes, into buf, and returns how many; 0: none is
	 * there now. Called by agent_session_fill, which is to be called again when some is there.
	 */
	size_t (*input)(void *opaque, uint8_t *buf, size_t max);
};

/* argv and envp end with NULL, and argv has at least one word. */
struct agent_command {
	char *const *argv, *const *envp;
	const char *cwd, *user, *host_name;
	bool tty;
	uint16_t rows, cols; /* of the terminal */
};

enum agent_state {
	AGENT_SILENT,	/* no HELLO yet */
	AGENT_GREETED,	/* waits for agent_session_start or agent_session_end */
	AGENT_STARTING, /* START is said, no answer yet */
	AGENT_RUNNING,
	AGENT_ENDED, /* EXIT or REFUSED has come, or the host has said BYE */
	AGENT_GONE,  /* the agent has said BYE */
	AGENT_LOST,
};

/* Zeroed by agent_session_init. The owner reads state; the rest is session.c's. */
struct agent_session {
	enum agent_state state;
	const struct agent_owner *owner;
	struct wire_decoder in;
	const struct agent_command *command;

	/* what waits to be said, in the order in which fill says it */
	bool ack, start, bye, winsize, ping;
	uint64_t signals; /* bit n: signal n + 1 */
	uint64_t ping_value;
	uint16_t rows, cols;
	uint32_t grant[WIRE_STREAMS];
	bool input_end; /* no input comes after what the owner has */

	uint32_t credit[WIRE_STREAMS];	 /* bytes: ours to send, or what the guest may still send */
	bool eof[WIRE_STREAMS];		 /* the stream has ended */
	uint32_t argc, envc, spec_bytes; /* of command */
	uint32_t string, string_at;	 /* of command: what goes out next in WIRE_SPEC */
	uint32_t pings;			 /* without an answer */
};

/* owner outlives the session. */
void agent_session_init(struct agent_session *s, const struct agent_owner *owner);
void agent_session_feed(struct agent_session *s, const uint8_t *bytes, size_t len);
/* The channel has closed. A session that has not ended in order is lost, with this reason. */
void agent_session_closed(struct agent_session *s, const char *why);

/*
 * Writes whole frames that are to be sent now into buf, which has at least AGENT_FILL_MIN bytes.
 * Returns how many bytes they are; 0: nothing. The owner sends them all before it calls again.
 */
#define AGENT_FILL_MIN (WIRE_HEADER_BYTES + WIRE_PAYLOAD_MAX)
size_t agent_session_fill(struct agent_session *s, uint8_t *buf, size_t max);

/* In AGENT_GREETED. command and its strings stay as they are until the state is no longer AGENT_STARTING. 0, or -E2BIG: it is more than the agent takes, and the state is as before. */
int agent_session_start(struct agent_session *s, const struct agent_command *command,
			struct err *err);
/* In AGENT_GREETED: there is no command, the machine may power off. */
void agent_session_end(struct agent_session *s);
/* The owner has passed on so many bytes of this stream. */
void agent_session_taken(struct agent_session *s, unsigned stream, size_t len);
/* No input comes after what the owner's input gives. */
void agent_session_input_end(struct agent_session *s);
/* While the command runs; otherwise they do nothing. */
void agent_session_signal(struct agent_session *s, unsigned signo);
void agent_session_winsize(struct agent_session *s, uint16_t rows, uint16_t cols);
void agent_session_ping(struct agent_session *s, uint64_t value);

#endif
