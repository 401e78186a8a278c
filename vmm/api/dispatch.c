/*
 * dispatch: from a request to its answer, by the table of endpoints. See endpoints.h.
 *
 * The state is checked where the handler runs, directly before it: requests that change the VM wait
 * their turn, and an earlier one may have changed it meanwhile.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/api/endpoints_impl.h"
#include "vmm/core/log.h"

/* --- answers ------------------------------------------------------------------------------ */

static void reply_json(struct http_exchange *x, int status, json_t *json)
{
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

	if (text)
		http_reply(x, status, text, strlen(text));
	else
		http_reply(x, json ? 500 : status, "", 0);
	free(text);
	json_decref(json);
}

/* The form of all errors: a list of texts, the outermost first, the cause last. */
static void reply_error(struct http_exchange *x, int status, const char *what, const char *why)
{
	json_t *list = json_array();

	log_put_for(what, status == 500 ? LOG_WARN : LOG_INFO, "%s%s%s (%d)", what,
		    why && *why ? ": " : "", why ? why : "", status);
	json_array_append_new(list, json_string(what));
	if (why && *why)
		json_array_append_new(list, json_string(why));
	reply_json(x, status, list);
}

int api_status_of(int rc, bool has_body)
{
	switch (-rc) {
	case EBUSY:
	case EEXIST:
		return 409;
	case ENOTSUP:
		return 501;
	case EINVAL:
		return has_body ? 400 : 500;
	case ENODEV:
		return has_body ? 404 : 500;
	}
	return 500;
}

/* Programs compare some of these texts. */
static const char *state_text(const struct endpoint *e, enum vm_state state)
{
	switch (e->status[state]) {
	case 404:
		return "VM is not created";
	case 501:
		return e->help;
	}
	if (e->status[VM_NONE] != 404)
		return "VM is already created";
	if (state == VM_CREATED)
		return "VM is not running";
	if (state == VM_RUNNING)
		return e->status[VM_PAUSED] < 400 ? "VM is not paused" : "VM is already running";
	return e->status[VM_RUNNING] < 400 ? "VM is already paused" : "VM is already running";
}

/* --- running ------------------------------------------------------------------------------ */

static void answer(struct call *call, int status, int rc, const struct err *err)
{
	const struct endpoint *e = call->endpoint;

	if (call->answered)
		return;
	if (rc)
		reply_error(call->x, api_status_of(rc, e->body != NO_BODY), e->failure, err->text);
	else
		reply_json(call->x, status, call->answer);
	log_put_for(e->name, e->get ? LOG_DEBUG : LOG_INFO, "%s: %s", e->name,
		    rc ? "failed" : "done");
	call->answer = NULL;
}

static void run(struct call *call)
{
	const struct endpoint *e = call->endpoint;
	enum vm_state state = vm_state(call->process.vm);
	int status = e->status[state];
	struct err err = { "" };

	if (!e->fn || (status >= 400 && status != 501))
		reply_error(call->x, status, e->failure, state_text(e, state));
	else
		answer(call, status, e->fn(call, &err), &err);
}

static void free_call(struct call *call)
{
	unsigned left = 0;

	for (unsigned i = 0; i < call->nfds; i++)
		if (call->fd[i] >= 0) {
			close(call->fd[i]);
			left++;
		}
	if (left)
		log_put_for(call->endpoint->name, LOG_WARN,
			    "%s: %u descriptors that it cannot use are closed",
			    call->endpoint->name, left);
	free(call->fd);
	json_decref(call->body);
	json_decref(call->answer);
	free(call);
}

static void run_queued(void *opaque)
{
	struct call *call = opaque;

	run(call);
	free_call(call);
}

/* --- requests ----------------------------------------------------------------------------- */

/* Returns the row of the path and method. NULL: none; *known: the path is there. */
static const struct endpoint *find(const char *method, const char *path, bool *known)
{
	const struct endpoint *e;

	*known = false;
	if (strncmp(path, API_PREFIX, sizeof(API_PREFIX) - 1))
		return NULL;
	path += sizeof(API_PREFIX) - 1;
	for (size_t i = 0; (e = endpoint_at(i)); i++) {
		if (strcmp(e->name, path))
			continue;
		*known = true;
		if (!strcmp(method, e->get ? "GET" : "PUT"))
			return e;
	}
	return NULL;
}

static bool is_blank(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!strchr(" \t\r\n", text[i]) || !text[i])
			return false;
	return true;
}

/* Fills *body. A request without a body may have an empty one: nothing, null or {}. */
static int parse_body(const struct endpoint *e, const struct http_request *req, json_t **body,
		      struct err *err)
{
	bool blank = is_blank(req->body, req->body_bytes);
	int rc = 0;

	*body = NULL;
	if (e->get || (e->body != NO_BODY && e->body < 0))
		return 0;
	if (!blank)
		rc = vmconfig_parse_json(req->body, req->body_bytes, body, err);
	if (rc)
		return rc;
	if (e->body == NO_BODY) {
		if (*body && !json_is_null(*body) &&
		    !(json_is_object(*body) && !json_object_size(*body)))
			return err_set(err, EINVAL, "the request takes no body");
		json_decref(*body);
		*body = NULL;
		return 0;
	}
	if (!json_is_object(*body))
		return err_set(err, EINVAL, "the request's body must be a JSON object");
	return 0;
}

static bool takes_descriptors(const struct endpoint *e)
{
	return e->body == VMCONFIG_VM || e->body == VMCONFIG_NET;
}

static int take_descriptors(struct call *call, struct http_request *req)
{
	if (!req->nfds || !takes_descriptors(call->endpoint))
		return 0;
	call->fd = malloc(req->nfds * sizeof(int));
	if (!call->fd)
		return -ENOMEM;
	for (unsigned i = 0; i < req->nfds; i++) {
		call->fd[call->nfds++] = req->fd[i];
		req->fd[i] = -1;
	}
	return 0;
}

static void start(const struct api_process *process, const struct endpoint *e,
		  struct http_exchange *x, struct http_request *req)
{
	struct call *call = calloc(1, sizeof(*call));
	struct err err = { "" };
	int rc;

	if (!call) {
		reply_error(x, 500, e->failure, strerror(ENOMEM));
		return;
	}
	call->endpoint = e;
	call->process = *process;
	call->x = x;
	rc = parse_body(e, req, &call->body, &err);
	if (rc)
		reply_error(x, api_status_of(rc, true), e->failure, err.text);
	else if (e->place == NOW)
		run(call);
	else if (take_descriptors(call, req) || vm_post(process->vm, run_queued, call))
		reply_error(x, 500, e->failure, strerror(ENOMEM));
	else
		return;
	free_call(call);
}

void api_request(const struct api_process *process, struct http_exchange *x,
		 struct http_request *req)
{
	struct err what;
	bool known;
	const struct endpoint *e = find(req->method, req->path, &known);

	if (!e) {
		err_set(&what, 0, "%.16s %.200s: %s", req->method, req->path,
			known ? "not with this method" : "there is no such endpoint");
		reply_error(x, known ? 400 : 404, what.text, NULL);
		return;
	}
	process->asked(process->opaque, req->connection, e->name);
	start(process, e, x, req);
}
