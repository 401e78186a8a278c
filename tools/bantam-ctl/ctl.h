/*
 * ctl: what the commands of bantam ctl share. A command is a row in main.c's table; the larger ones
 * have a file. One thread.
 */
#ifndef BANTAM_CTL_H
#define BANTAM_CTL_H

#include <jansson.h>
#include <stdbool.h>

#include "tools/bantam-ctl/client.h"

/* Exit statuses; wait has those of bantam run too. */
enum { CTL_OK = 0, CTL_ERROR = 1, CTL_USAGE = 2 };

/* The options of all commands. */
enum ctl_option { CTL_JSON, CTL_BALLOON, CTL_CPUS, CTL_MEMORY, CTL_HELP, CTL_OPTIONS };

struct ctl_command;

/* One call of the program. */
struct ctl {
	const char *socket;
	const struct ctl_command *command;
	const char *option[CTL_OPTIONS]; /* its value; "": a flag that is given; NULL: not given */
	char **arg;			 /* the words behind the command */
	int nargs;
	struct client client; /* connected */
};

struct ctl_command {
	const char *name;
	const char *args; /* as --help shows them; "" : none */
	const char *help;
	/* Returns the exit status. */
	int (*run)(struct ctl *ctl);
	/* For run: what it asks for. */
	const char *method, *request;
	/* Prints an answer for people; NULL: nothing. */
	void (*show)(json_t *answer);
	unsigned min_args, max_args;
	unsigned options; /* the command's own: bit 1 << enum ctl_option */
};

/* Prints "bantam: ctl COMMAND: " and the message; returns status. */
int ctl_fail(const struct ctl *ctl, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Prints the causes that an answer with an error names; returns CTL_ERROR. */
int ctl_refused(const struct ctl *ctl, const struct answer *a);
/*
 * Asks, and prints why if that fails. Returns CTL_OK and the answer, whose body the caller frees; or
 * another exit status and no body.
 */
int ctl_ask(struct ctl *ctl, const char *method, const char *request, const char *body,
	    struct answer *out);
/*
 * Sends a PUT with body, which it drops. Prints the answer as --json says, or by the command's show. Returns the
 * exit status.
 */
int ctl_put(struct ctl *ctl, const char *request, json_t *body);
/* As ctl_ask, of an answer that is an object. The caller drops *out. */
int ctl_ask_json(struct ctl *ctl, const char *request, json_t **out);

/* The rows' functions. */
int ctl_create(struct ctl *ctl);
int ctl_resize(struct ctl *ctl);
int ctl_resize_disk(struct ctl *ctl);
int ctl_add_device(struct ctl *ctl);
int ctl_remove_device(struct ctl *ctl);
int ctl_console(struct ctl *ctl);
int ctl_events(struct ctl *ctl);
int ctl_wait(struct ctl *ctl);

/* Prints the keys of an add-… command, as rows of --help; of another one, nothing. */
void ctl_help_keys(const char *command);

/* For people; any text of the answer is made safe for a terminal. */
void ctl_show_ping(json_t *answer);
void ctl_show_info(json_t *answer);
void ctl_show_counters(json_t *answer);
void ctl_show_added(json_t *answer);
void ctl_show_event(json_t *event);

#endif
