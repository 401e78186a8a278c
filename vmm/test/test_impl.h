/*
 * test_impl: what the sources of the command share: test.c (the run), state.c, channel.c (the consoles' sinks),
 * agent.c (what the agent says), timers.c, signals.c, config.c. options, kernel, initrd, vm, output, input, terminal
 * and report stand beside them, each with a header of its own. All of it is the first thread's.
 */
#ifndef BANTAM_TEST_IMPL_H
#define BANTAM_TEST_IMPL_H

#include "devices/backend/chardev/pool.h"
#include "devices/backend/chardev/program.h"
#include "vmm/agent/session.h"
#include "vmm/config.h"
#include "vmm/confine/confine.h"
#include "vmm/core/loop.h"
#include "vmm/test/streams/input.h"
#include "vmm/test/initrd.h"
#include "vmm/kernels/kernels.h"
#include "vmm/test/options.h"
#include "vmm/test/streams/output.h"
#include "vmm/test/report.h"
#include "vmm/test/streams/terminal.h"
#include "vmm/test/vm.h"
#include "vmm/verdict/verdict.h"

/* One way by which the agent may come: the port, or the second serial port. */
struct test_channel {
	struct test *test;
	struct chardev *chr;
	/* Other programs than the agent may write there (a getty, a console), until the agent's HELLO. */
	bool shared;
	unsigned sought; /* shared: bytes of a HELLO's begin that have come */
	struct agent_owner owner;
	struct agent_session session;
	uint8_t out[AGENT_FILL_MIN]; /* frames; those from out_at to out_len are not yet sent */
	size_t out_at, out_len;
	bool full; /* the guest takes no more now */
};
#define TEST_CHANNELS 2

enum test_timer {
	TEST_TIMER_BOOT,   /* --timeout-boot */
	TEST_TIMER_IDLE,   /* --timeout-idle */
	TEST_TIMER_TOTAL,  /* --timeout */
	TEST_TIMER_SAMPLE, /* the next samples of the vCPUs, after one of these three */
	TEST_TIMER_WORDS,  /* a kernel that dies may still print */
	TEST_TIMER_END,	   /* the test has ended, and the machine is to end by itself */
	TEST_TIMER_STOP,   /* the machine was told to end, and does not */
	TEST_TIMERS,
};

struct test {
	const struct test_options *options;
	struct loop *loop;
	struct config config;
	struct confine_plan confine;
	char *report_at[CONFINE_REPORTS_MAX]; /* where links lead that name reports */
	unsigned nreports_at;
	struct kernels_choice kernel;
	int initrd_fd; /* -1: not yet */
	char initrd_path[32];

	struct verdict_rules *rules;
	struct verdict_case *verdict;
	struct test_report *report;
	struct test_output *output;
	struct test_input *input;
	struct test_terminal *terminal; /* NULL: without --tty */

	struct chardev_pool *consoles;
	struct chardev *console; /* the kernel's */
	bool console_full;	 /* it waits until the output has room */
	struct test_channel channel[TEST_CHANNELS];
	struct test_channel *agent;   /* the channel on which it has said HELLO; NULL: none yet */
	struct loop_watch *pump;      /* the sessions may have something to send */
	struct loop_watch *drain;     /* the console's sink may be empty */
	struct agent_command command; /* argv NULL: the boot is the test */
	char **envp, term[80];	      /* of it */

	struct test_vm_owner owner;
	struct test_vm *vm; /* NULL: not started */
	uint64_t start_ns;  /* the verdict's zero */
	bool stopping;	    /* the machine has been told to end */
	bool gone;	    /* the machine has ended, as end says, or could not begin */
	bool stuck;	    /* the machine does not end */
	bool hurried;	    /* no reader of the output may delay the end for long */
	bool drained;	    /* and all that it wrote has come */
	bool flushed;	    /* and has been read */
	struct test_vm_end end;
	bool panicked;	   /* the guest has told so: the machine ends within a second */
	bool crash_kernel; /* the panicked guest starts another kernel, which is to go on */

	struct loop_watch *timer[TEST_TIMERS];
	uint64_t active_ns[TEST_STREAMS]; /* when something of the stream came or left */
	uint64_t words_end_ns;		  /* when a dying kernel has said enough; 0: it lives */
	uint64_t end_ns;		  /* for TEST_TIMER_END */
	uint64_t sample_end_ns; /* when samples have taken long enough; 0: none are taken */
	unsigned samples;	/* rounds with an answer */

	int signal_fd;
	struct loop_watch *signals;
	bool reader_gone;	  /* the command has been told that no process reads its output */
	bool interrupted_command; /* ctrl-c has gone to the command once */
	int interrupted;	  /* the signal by which the test ends; 0: none */
};

/* --- confine.c ----------------------------------------------------------------------------- */

/* Before the first file is looked for. 0 or -errno; so, too, test_confine_packed. */
int test_confine_begin(struct test *t, struct err *err);
/* When the initrd is packed, and the reports' places are looked at. */
int test_confine_packed(struct test *t, struct err *err);
void test_confine_clear(struct test *t);

/* --- state.c ------------------------------------------------------------------------------- */

/* The verdict, whose clock is now, or then. Call it for each event of the verdict. */
struct verdict_case *test_verdict(struct test *t);
struct verdict_case *test_verdict_at(struct test *t, uint64_t now_ns);
/*
 * A machine that ends waits for its disks and daemons, which may never answer. After so long the test goes on
 * without it. Tests shorten it.
 */
extern uint64_t test_stop_ns;
/* Stops the machine now. Any number of times. */
void test_stop(struct test *t);
/*
 * The test was told to end: from the machine's end on, readers of the output have so long. Before it the guest and
 * its devices still have words, and the reader of the moment is not slow. Any number of times. Tests shorten it.
 */
extern uint64_t test_hurry_ns;
void test_hurry(struct test *t);
/* The agent's session may have something to send. */
void test_pump(struct test *t);
/* The console's sink may have become empty. */
void test_drain(struct test *t);

/* --- describe.c ---------------------------------------------------------------------------- */

/* What is tested, for a dry run. The kernel and the initrd are there. */
void test_describe(const struct test *t, FILE *out);

/* --- command.c ----------------------------------------------------------------------------- */

/* Makes t->command, if there is one. */
int test_command_make(struct test *t, struct err *err);

/* --- config.c ------------------------------------------------------------------------------ */

/* The machine's options and consoles; wrong ones are wrong usage. The caller clears *config also after an error. */
int test_config_make(const struct test_options *o, struct config *config, struct err *err);
/* The kernel, what it needs on its command line, and the initrd (NULL: none). */
int test_config_boot(const struct test_options *o, const struct kernels_choice *kernel,
		     const char *initrd, struct config *config, struct err *err);
/* Writes the id of the n-th device of an option ("--serial"). Returns false if there is none. */
bool test_config_id(const struct config *config, const char *option, unsigned n,
		    char id[DEVICE_ID_BYTES]);

/* --- channel.c ----------------------------------------------------------------------------- */

/* Opens the pool and the sinks. 0 or -errno. */
int test_channels_open(struct test *t, struct err *err);
/* What the machine has written last has come, or will never come: ends sinks and sessions. Accepts a half-made t. */
void test_channels_close(struct test *t);
/* --- agent.c ------------------------------------------------------------------------------- */

/*
 * The test has ended: the agent waits half a second for an output that is silent, then powers off; a slow guest
 * needs longer. The agent is lost: the machine may die a moment later, and its log then tells why. After
 * so long without either the machine is stopped. Tests shorten them.
 */
extern uint64_t test_off_ns, test_lost_ns;
/* Begins its session, whose owner is c->owner. */
void test_agent_init(struct test_channel *c);
/* For test_output_owner.taken. */
void test_agent_taken(void *opaque, enum test_stream stream, size_t len);

/* --- timers.c ------------------------------------------------------------------------------ */

int test_timers_create(struct test *t, struct err *err);
void test_timers_destroy(struct test *t);
/* The machine starts. */
void test_timers_begin(struct test *t);
void test_timers_booted(struct test *t);
/* The command runs: silence counts from now on. */
void test_timers_started(struct test *t);
/* Bytes of a stream have come. */
void test_timers_active(struct test *t, enum test_stream stream);
/* The test has ended or its agent is lost: the machine has so long to end by itself. */
void test_timers_end(struct test *t, uint64_t ns);
/*
 * Something has happened. If the verdict says that nothing good comes any more, the kernel has a moment for its
 * last lines, and then the machine is stopped.
 */
void test_look(struct test *t);

/* --- signals.c ----------------------------------------------------------------------------- */

int test_signals_begin(struct test *t, struct err *err);
void test_signals_end(struct test *t);
/* A signal to the process, or the user's wish: the test ends, and the second time the process. */
void test_interrupt(struct test *t, int signo);

#endif
