/* endpoints_impl: a request on its way from dispatch.c through the table to its answer. */
#ifndef BANTAM_API_ENDPOINTS_IMPL_H
#define BANTAM_API_ENDPOINTS_IMPL_H

#include "vmm/api/endpoints.h"

struct endpoint;

/* One request on its way. */
struct call {
	const struct endpoint *endpoint;
	struct api_process process;
	struct http_exchange *x;
	json_t *body;	/* parsed; NULL: none */
	json_t *answer; /* the handler's: the body of the answer, or NULL */
	bool answered;	/* the handler has answered itself */
	unsigned nfds;
	int *fd;
};

typedef int (*endpoint_fn)(struct call *call, struct err *err);

/* Where an endpoint's handler runs. */
enum place {
	NOW,	/* in the loop's thread: it waits for nothing */
	QUEUED, /* in the executor */
};

#define NO_BODY API_NO_BODY
#define ANY_BODY API_ANY_BODY

struct endpoint {
	const char *name;
	bool get;
	enum place place;
	int body; /* enum vmconfig_object, NO_BODY or ANY_BODY */
	/*
	 * The status in each state (NONE, Created, Running, Paused) if nothing fails. 501 beside a
	 * handler: the handler answers so itself, after it has looked for mistakes in the request.
	 */
	uint16_t status[VM_NSTATES];
	endpoint_fn fn;	     /* NULL: the table says all */
	const char *failure; /* the first line of an error */
	const char *help;
	const char *answer; /* as struct api_endpoint's */
};

/* The row at index, or NULL after the last. */
const struct endpoint *endpoint_at(size_t index);

/* The handler of vm.events: turns the connection into a stream of events. */
int api_watch(struct call *call, struct err *err);

#endif
