/* ctl: messages and requests, see ctl.h. */
#include "tools/bantam-ctl/ctl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/printable.h"

static void begin_message(const struct ctl *ctl)
{
	fputs("bantam: ctl", stderr);
	if (ctl->command)
		fprintf(stderr, " %s", ctl->command->name);
	fputs(": ", stderr);
}

int ctl_fail(const struct ctl *ctl, int status, const char *fmt, ...)
{
	struct err err;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err.text, sizeof(err.text), fmt, ap);
	va_end(ap);
	begin_message(ctl);
	printable_put(stderr, err.text);
	fputc('\n', stderr);
	return status;
}

int ctl_refused(const struct ctl *ctl, const struct answer *a)
{
	json_t *causes = json_loadb(a->body, a->body_bytes, 0, NULL), *cause;
	size_t i;

	begin_message(ctl);
	json_array_foreach(causes, i, cause)
	{
		if (i)
			fputs(": ", stderr);
		printable_put(stderr, json_is_string(cause) ? json_string_value(cause) : "?");
	}
	if (!json_array_size(causes))
		fprintf(stderr, "refused with status %d", a->status);
	if (!causes && a->body_bytes) {
		fputs(": ", stderr);
		a->body[strcspn(a->body, "\r\n")] = 0;
		printable_put(stderr, a->body);
	}
	fputc('\n', stderr);
	json_decref(causes);
	return CTL_ERROR;
}

int ctl_ask(struct ctl *ctl, const char *method, const char *request, const char *body,
	    struct answer *out)
{
	struct err err = { "" };
	int status = CTL_OK;

	if (client_request(&ctl->client, method, request, body, out, &err))
		status = ctl_fail(ctl, CTL_ERROR, "%s", err.text);
	else if (!client_ok(out))
		status = ctl_refused(ctl, out);
	if (status) {
		free(out->body);
		out->body = NULL;
	}
	return status;
}

int ctl_ask_json(struct ctl *ctl, const char *request, json_t **out)
{
	struct answer a;
	int status = ctl_ask(ctl, "GET", request, NULL, &a);

	*out = NULL;
	if (status)
		return status;
	*out = json_loadb(a.body, a.body_bytes, 0, NULL);
	free(a.body);
	if (json_is_object(*out))
		return CTL_OK;
	json_decref(*out);
	*out = NULL;
	return ctl_fail(ctl, CTL_ERROR, "%s: the answer to %s is no JSON object", ctl->socket,
			request);
}
