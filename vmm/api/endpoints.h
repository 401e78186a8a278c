/*
 * endpoints: the requests of the API, by one table: method, path, what each state answers, body,
 * handler. The table drives dispatch, the checks of the state, the OpenAPI file and the tests.
 *
 * Thread: api_request belongs to the API's loop. It answers at once what only looks, and queues what
 * changes the VM for the executor (vm.h).
 */
#ifndef BANTAM_API_ENDPOINTS_H
#define BANTAM_API_ENDPOINTS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/vm/vm.h"
#include "vmm/http/http.h"

#define API_PREFIX "/api/v1/"
/* What vmm.ping reports as its version: the Cloud Hypervisor release whose contract we keep. */
#define API_VERSION "53.0.0"
#define API_BUILD_VERSION "v" API_VERSION "-bantam-" BANTAM_VERSION

/* The process, as requests see it. The loop's thread calls the functions. */
struct api_process {
	void *opaque;
	struct vm *vm;
	struct events *events;
	/* vmm.shutdown: the process ends once the answers are on the wire. */
	void (*shutdown)(void *opaque);
	/* A request of this name came on this connection. */
	void (*asked)(void *opaque, uint64_t connection, const char *name);
};

/* Answers or queues one request. Closes the descriptors that nothing took, with a warning. */
void api_request(const struct api_process *process, struct http_exchange *x,
		 struct http_request *req);

/* The status of the answer to a request that failed with -errno. */
int api_status_of(int rc, bool has_body);

/* Beside enum vmconfig_object: bodies of requests. */
#define API_NO_BODY (-1)
#define API_ANY_BODY (-2) /* of a request that bantam refuses anyway */

/* The table's rows, for the OpenAPI file and the tests. Returns false after the last. */
struct api_endpoint {
	const char *name; /* below API_PREFIX */
	bool get;
	bool queued;	    /* for the executor: the host may refuse what it needs */
	int body;	    /* enum vmconfig_object, API_NO_BODY or API_ANY_BODY */
	const char *answer; /* the schema of the body of a 200 (openapi.c); NULL: it has none */
	uint16_t status[VM_NSTATES];
	const char *help;
};
bool api_endpoint_at(unsigned index, struct api_endpoint *out);

#endif
