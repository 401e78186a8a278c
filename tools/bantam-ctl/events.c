/*
 * events: the commands that read vm.events: events and wait.
 *
 * wait. The reason of a VM's end (bantam:shutdown-reason) comes before vm:shutdown, which comes when
 * its disks are closed. A reset that starts a new machine has a reason, too, but no vm:shutdown. So
 * wait remembers the last reason and ends with vm:shutdown, or when the process ends.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bantam-ctl/ctl.h"
#include "vmm/core/parse.h"

/* Asks for the stream. Returns the exit status. */
static int begin(struct ctl *ctl)
{
	struct err err = { "" };
	struct answer a;
	int status = CTL_OK;

	if (client_stream(&ctl->client, "vm.events", &a, &err))
		return ctl_fail(ctl, CTL_ERROR, "%s", err.text);
	if (a.status == 404)
		status = ctl_fail(ctl, CTL_ERROR,
				  "%s: the server has no vm.events; only bantam has them",
				  ctl->socket);
	else if (!client_ok(&a))
		status = ctl_refused(ctl, &a);
	free(a.body);
	return status;
}

/* Returns CTL_OK and the next event, NULL at the end of the stream; the caller drops it. */
static int next(struct ctl *ctl, char **line, json_t **event)
{
	struct err err = { "" };
	int rc;

	*event = NULL;
	do {
		rc = client_line(&ctl->client, line, &err);
		if (rc < 0)
			return ctl_fail(ctl, CTL_ERROR, "%s", err.text);
		if (!rc)
			return CTL_OK;
		*event = json_loads(*line, 0, NULL);
		if (!json_is_object(*event)) {
			json_decref(*event);
			*event = NULL;
			free(*line);
		}
	} while (!*event);
	return CTL_OK;
}

static void show(const struct ctl *ctl, const char *line, json_t *event)
{
	if (ctl->option[CTL_JSON])
		puts(line);
	else
		ctl_show_event(event);
	fflush(stdout);
}

int ctl_events(struct ctl *ctl)
{
	json_t *event;
	char *line;
	int status = begin(ctl);

	while (!status && !(status = next(ctl, &line, &event)) && event) {
		show(ctl, line, event);
		json_decref(event);
		free(line);
		/* Standard output may be a file on a full disk. */
		if (ferror(stdout))
			break;
	}
	return status;
}

/* --- wait ---------------------------------------------------------------------------- */

/* The reasons of bantam:shutdown-reason, with the exit status that bantam run has for them. */
static const struct reason {
	const char *why;
	int status;
	const char *text;
} reasons[] = {
	{ "acpi", 0, "the guest powered off" },
	{ "error", 1, "the machine failed; its process has logged why" },
	{ "request", 0, "a request of the API stopped the machine" },
	{ "reset", 3, "the guest asked for a reboot" },
	{ "panic", 4, "the guest's kernel panicked" },
	{ "watchdog", 3, "the guest's watchdog expired" },
	{ "triple-fault", 6, "triple fault in the guest" },
	{ "signal", 128 + 15, "a signal ended the VM" },
};

static const struct reason *find_reason(json_t *event)
{
	const char *why = json_string_value(
		json_object_get(json_object_get(event, "properties"), "why"));

	for (size_t i = 0; why && i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (!strcmp(reasons[i].why, why))
			return &reasons[i];
	return NULL;
}

/* One reason may have several statuses; then the event has it. */
static int status_of(const struct reason *reason, json_t *event)
{
	const char *text = json_string_value(
		json_object_get(json_object_get(event, "properties"), "status"));
	uint64_t status;

	return text && !parse_u64(text, &status) && status < 256 ? (int)status : reason->status;
}

static bool is(json_t *event, const char *source, const char *name)
{
	const char *s = json_string_value(json_object_get(event, "source"));
	const char *n = json_string_value(json_object_get(event, "event"));

	return s && n && !strcmp(s, source) && !strcmp(n, name);
}

/* Once the stream has begun: is there a VM at all? It uses a connection of its own. */
static int look(struct ctl *ctl)
{
	struct ctl other = *ctl;
	struct err err = { "" };
	struct answer a = { 0 };
	int status = CTL_OK;

	if (client_connect(&other.client, ctl->socket, &err) ||
	    client_request(&other.client, "GET", "vm.info", NULL, &a, &err))
		status = ctl_fail(ctl, CTL_ERROR, "%s", err.text);
	else if (a.status == 404)
		status = ctl_fail(ctl, CTL_ERROR,
				  "%s: there is no VM: it has ended before, or is not created yet",
				  ctl->socket);
	else if (!client_ok(&a))
		status = ctl_refused(ctl, &a);
	free(a.body);
	client_close(&other.client);
	return status;
}

int ctl_wait(struct ctl *ctl)
{
	const struct reason *reason = NULL;
	bool over = false;
	json_t *event;
	char *line;
	int end = CTL_ERROR, status = begin(ctl);

	if (!status)
		status = look(ctl);
	if (status)
		return status;
	while (!over && !(status = next(ctl, &line, &event)) && event) {
		if (is(event, "bantam", "shutdown-reason")) {
			reason = find_reason(event);
			end = reason ? status_of(reason, event) : CTL_ERROR;
			if (ctl->option[CTL_JSON])
				puts(line);
		}
		over = is(event, "vm", "shutdown");
		json_decref(event);
		free(line);
	}
	if (status)
		return status;
	if (!reason)
		return ctl_fail(ctl, CTL_ERROR,
				"the VM has ended, and its process did not say why%s",
				over ? "" : "; was it killed?");
	if (!ctl->option[CTL_JSON])
		puts(reason->text);
	return end;
}
