/* openapi: see openapi.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/api/endpoints.h"
#include "vmm/api/openapi.h"
#include "vmm/core/err.h"

/* The JSON between the parentheses as a string. */
#define JSON(...) #__VA_ARGS__

/* Bodies of answers. Numbers have 63 bits at most. */
/* clang-format off */
static const char answers[] = JSON({
	"VmmPing": {
		"type": "object",
		"properties": {
			"build_version": { "type": "string" },
			"version": { "type": "string", "description": "the Cloud Hypervisor release whose contract bantam keeps" },
			"pid": { "type": "integer", "format": "int64", "minimum": 1 },
			"features": { "type": "array", "items": { "type": "string" } }
		},
		"required": ["build_version", "version", "pid", "features"]
	},
	"VmInfo": {
		"type": "object",
		"properties": {
			"config": { "$ref": "#/components/schemas/VmConfig" },
			"state": { "type": "string", "enum": ["Created", "Running", "Paused"] },
			"memory_actual_size": { "type": "integer", "format": "int64", "minimum": 0, "description": "bytes of memory less what the balloon holds now" },
			"device_tree": { "type": "object", "additionalProperties": { "$ref": "#/components/schemas/DeviceNode" }, "description": "only while there is a machine" },
			"bantam": { "$ref": "#/components/schemas/BantamInfo" }
		},
		"required": ["config", "state", "memory_actual_size"]
	},
	"BantamInfo": {
		"type": "object",
		"properties": {
			"digest": { "type": "string", "pattern": "^[0-9a-f]{64}$", "description": "sha256 of the VM's definition" }
		},
		"description": "what Cloud Hypervisor does not have"
	},
	"DeviceNode": {
		"type": "object",
		"properties": {
			"id": { "type": "string" },
			"resources": { "type": "array", "items": { "$ref": "#/components/schemas/DeviceResource" } },
			"parent": { "type": "string" },
			"children": { "type": "array", "items": { "type": "string" } },
			"pci_bdf": { "type": "string", "pattern": "^0000:00:[0-9a-f]{2}\\.0$" }
		},
		"required": ["id", "resources", "children"],
		"description": "a device, or the PCI function that carries it"
	},
	"DeviceResource": {
		"type": "object",
		"properties": { "PciBar": { "$ref": "#/components/schemas/PciBar" } },
		"required": ["PciBar"]
	},
	"PciBar": {
		"type": "object",
		"properties": {
			"index": { "type": "integer", "format": "int64", "minimum": 0, "maximum": 5 },
			"base": { "type": "integer", "format": "int64", "minimum": 0 },
			"size": { "type": "integer", "format": "int64", "minimum": 0 },
			"type_": { "type": "string", "enum": ["Mmio64"] },
			"prefetchable": { "type": "boolean" }
		},
		"required": ["index", "base", "size", "type_", "prefetchable"]
	},
	"PciDeviceInfo": {
		"type": "object",
		"properties": {
			"id": { "type": "string" },
			"bdf": { "type": "string", "pattern": "^0000:00:[0-9a-f]{2}\\.0$" }
		},
		"required": ["id", "bdf"],
		"description": "a device that was added to a VM with a machine, and its place on the PCI bus"
	},
	"VmCounters": {
		"type": "object",
		"additionalProperties": {
			"type": "object",
			"additionalProperties": { "type": "integer", "format": "int64", "minimum": 0 }
		},
		"description": "for each device by its id: its counters; latencies are microseconds"
	},
	"Event": {
		"type": "object",
		"properties": {
			"timestamp": { "$ref": "#/components/schemas/EventTime" },
			"source": { "type": "string", "enum": ["vmm", "vm", "virtio-device", "guest", "bantam"] },
			"event": { "type": "string" },
			"properties": { "type": "object", "nullable": true, "additionalProperties": { "type": "string" } }
		},
		"required": ["timestamp", "source", "event", "properties"]
	},
	"EventTime": {
		"type": "object",
		"properties": {
			"secs": { "type": "integer", "format": "int64", "minimum": 0 },
			"nanos": { "type": "integer", "format": "int64", "minimum": 0, "maximum": 999999999 }
		},
		"required": ["secs", "nanos"],
		"description": "since the process started"
	},
	"Error": {
		"type": "array",
		"items": { "type": "string" },
		"minItems": 1,
		"description": "what failed, the outermost first, the cause last"
	}
});
/* clang-format on */

static const char *const state_names[VM_NSTATES] = {
	[VM_NONE] = "none",
	[VM_CREATED] = "Created",
	[VM_RUNNING] = "Running",
	[VM_PAUSED] = "Paused",
};

/* Each status that an operation may have, in the order in which the document lists them. */
enum { DONE_BODY, DONE, BAD, UNKNOWN, CONFLICT, REFUSED, ABSENT, NSTATUSES };
static const struct status {
	unsigned status;
	char name[16]; /* below components.responses; "": it differs */
	char text[80];
} statuses[NSTATUSES] = {
	[DONE_BODY] = { 200, "", "Done." },
	[DONE] = { 204, "", "Done." },
	[BAD] = { 400, "BadRequest", "The request cannot be right." },
	[UNKNOWN] = { 404, "NotFound", "There is no VM, or no device has this id." },
	[CONFLICT] = { 409, "Conflict",
		       "The VM's state does not fit, or an id or a file is in use." },
	[REFUSED] = { 500, "HostError", "The host refused what was needed." },
	[ABSENT] = { 501, "NotImplemented", "bantam does not have that." },
};

static const char description[] =
	"The HTTP API of one VM's process, on a Unix socket: the requests of Cloud Hypervisor, and "
	"a few of bantam's own. A number has 63 bits at most. A field that is absent in a request may "
	"also be null. Unknown fields are accepted. The answer to a request that is no HTTP/1.1, is too "
	"large, or comes while too many connections are busy has the status 400, 413 or 503.";

/*
 * Out of memory is seen at the end: json_object_set_new refuses a value that is NULL, and says so
 * in *rc.
 */
static void put(json_t *out, const char *key, json_t *value, int *rc)
{
	if (json_object_set_new(out, key, value))
		*rc = -ENOMEM;
}

static json_t *content_of(const char *type, const char *schema)
{
	if (!schema)
		return json_pack("{s:{s:{}}}", type, "schema");
	return json_pack("{s:{s:{s:o}}}", type, "schema", "$ref",
			 json_sprintf("#/components/schemas/%s", schema));
}

/* Can a request to this endpoint have the status, whatever it says and the host does? */
static bool may_answer(const struct api_endpoint *e, const struct status *s)
{
	bool has_body = e->body != API_NO_BODY;

	for (unsigned i = 0; i < VM_NSTATES; i++)
		if (e->status[i] == s->status)
			return true;
	switch (s->status) {
	case 400:
		return !e->get && e->body != API_ANY_BODY;
	case 404:
		return e->queued && has_body;
	case 409:
	case 501:
		return e->queued;
	case 500:
		return true;
	}
	return false;
}

static json_t *response(const struct api_endpoint *e, const struct status *s, int *rc)
{
	json_t *out = json_object();
	/* An answer without an end is no JSON text, but a sequence of them. */
	bool endless = e->answer && !strcmp(e->answer, "Event");

	if (*s->name) {
		put(out, "$ref", json_sprintf("#/components/responses/%s", s->name), rc);
		return out;
	}
	put(out, "description", json_string(s->text), rc);
	if (s->status == 200 && e->answer)
		put(out, "content",
		    content_of(endless ? "application/x-ndjson" : "application/json", e->answer),
		    rc);
	return out;
}

static json_t *operation(const struct api_endpoint *e, int *rc)
{
	json_t *out = json_object(), *responses = json_object(), *states = json_object(), *body;
	char id[64], status[8];

	snprintf(id, sizeof(id), "%s", e->name);
	for (char *at = id; (at = strpbrk(at, ".-")); at++)
		*at = '_';
	put(out, "operationId", json_string(id), rc);
	put(out, "summary", json_string(e->help), rc);
	if (e->body != API_NO_BODY) {
		body = json_object();
		put(body, "required", json_boolean(e->body != API_ANY_BODY), rc);
		put(body, "content",
		    content_of("application/json",
			       e->body == API_ANY_BODY ?
				       NULL :
				       vmconfig_object_name((enum vmconfig_object)e->body)),
		    rc);
		put(out, "requestBody", body, rc);
	}
	for (unsigned i = 0; i < NSTATUSES; i++) {
		if (!may_answer(e, &statuses[i]))
			continue;
		snprintf(status, sizeof(status), "%u", statuses[i].status);
		put(responses, status, response(e, &statuses[i], rc), rc);
	}
	put(out, "responses", responses, rc);
	for (unsigned i = 0; i < VM_NSTATES; i++)
		put(states, state_names[i], json_integer(e->status[i]), rc);
	put(out, "x-states", states, rc);
	return out;
}

static json_t *paths(int *rc)
{
	json_t *out = json_object(), *path;
	struct api_endpoint e;
	char name[64];

	for (unsigned i = 0; api_endpoint_at(i, &e); i++) {
		snprintf(name, sizeof(name), "/%s", e.name);
		path = json_object();
		put(path, e.get ? "get" : "put", operation(&e, rc), rc);
		put(out, name, path, rc);
	}
	return out;
}

static json_t *error_responses(int *rc)
{
	json_t *out = json_object();

	for (unsigned i = 0; i < NSTATUSES; i++)
		if (*statuses[i].name)
			put(out, statuses[i].name,
			    json_pack("{s:s, s:o}", "description", statuses[i].text, "content",
				      content_of("application/json", "Error")),
			    rc);
	return out;
}

static json_t *components(int *rc)
{
	json_t *out = json_object(), *schemas = NULL, *ours = json_loads(answers, 0, NULL);
	int failed = vmconfig_openapi_schemas(&schemas);

	if (failed || !ours || json_object_update(schemas, ours))
		*rc = -ENOMEM;
	json_decref(ours);
	put(out, "responses", error_responses(rc), rc);
	put(out, "schemas", schemas, rc);
	return out;
}

int api_openapi(json_t **out)
{
	int rc = 0;

	*out = json_object();
	put(*out, "openapi", json_string("3.0.3"), &rc);
	put(*out, "info",
	    json_pack("{s:s, s:s, s:s, s:{s:s, s:s}}", "title", "bantam", "version",
		      API_VERSION "-bantam-" BANTAM_VERSION, "description", description, "license",
		      "name", "Apache-2.0", "url", "https://www.apache.org/licenses/LICENSE-2.0"),
	    &rc);
	put(*out, "servers",
	    json_pack("[{s:s, s:s}]", "url", "http://localhost/api/v1", "description",
		      "the Unix socket of --api-socket"),
	    &rc);
	put(*out, "paths", paths(&rc), &rc);
	put(*out, "components", components(&rc), &rc);
	if (rc) {
		json_decref(*out);
		*out = NULL;
	}
	return rc;
}
