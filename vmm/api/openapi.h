/*
 * openapi: the API as a document of OpenAPI 3.0.3, for generators of clients and for our tests.
 *
 * Nothing is written twice: paths, statuses and bodies of requests come from the table of endpoints,
 * the schemas of requests from the tables of fields (vmconfig). Only the answers have their schemas
 * here. Beside the standard's keys, each operation has "x-states": the status of a request without a
 * mistake in each state, "none" (there is no VM), "Created", "Running" and "Paused".
 */
#ifndef BANTAM_API_OPENAPI_H
#define BANTAM_API_OPENAPI_H

#include <jansson.h>

/* Returns the document in *out, which the caller owns. 0 or -ENOMEM. Any thread. */
int api_openapi(json_t **out);

#endif
