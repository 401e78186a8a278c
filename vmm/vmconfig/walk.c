/* vmconfig/walk: where a check is in a VmConfig, and the lines that it tells. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vmm/core/printable.h"
#include "vmm/vmconfig/vmconfig_impl.h"

#define TEXT_BYTES sizeof(((struct err *)0)->text)

static void append(struct vmconfig_walk *w, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(w->path + w->len, sizeof(w->path) - w->len, fmt, ap);
	va_end(ap);
	if (n > 0)
		w->len += (size_t)n;
	/* Keys come from the tables, whose depth is small, but a too long path is only cut. */
	if (w->len >= sizeof(w->path))
		w->len = sizeof(w->path) - 1;
}

size_t vmconfig_enter(struct vmconfig_walk *w, const char *key)
{
	size_t len = w->len;

	append(w, "%s%s", len ? "." : "", key);
	return len;
}

size_t vmconfig_enter_item(struct vmconfig_walk *w, size_t index)
{
	size_t len = w->len;

	append(w, "[%zu]", index);
	return len;
}

void vmconfig_leave(struct vmconfig_walk *w, size_t len)
{
	w->len = len;
	w->path[len] = 0;
}

/* "disks[1].serial: TEXT", or TEXT for the whole body. */
static void line(const struct vmconfig_walk *w, const char *key, char *buf, size_t len,
		 const char *fmt, va_list ap)
{
	int n = snprintf(buf, len, "%s%s%s%s", w->path, w->len && key ? "." : "", key ? key : "",
			 w->len || key ? ": " : "");

	if (n < 0 || (size_t)n >= len)
		return;
	vsnprintf(buf + n, len - (size_t)n, fmt, ap);
}

int vmconfig_fail(struct vmconfig_walk *w, int code, const char *key, const char *fmt, ...)
{
	char buf[TEXT_BYTES];
	va_list ap;

	va_start(ap, fmt);
	line(w, key, buf, sizeof(buf), fmt, ap);
	va_end(ap);
	return err_set(w->err, code, "%s", buf);
}

int vmconfig_fail_item(struct vmconfig_walk *w, int code, const char *list, size_t index,
		       const char *key, const char *fmt, ...)
{
	char path[64], buf[TEXT_BYTES];
	va_list ap;

	snprintf(path, sizeof(path), "%s[%zu].%s", list, index, key);
	va_start(ap, fmt);
	line(w, path, buf, sizeof(buf), fmt, ap);
	va_end(ap);
	return err_set(w->err, code, "%s", buf);
}

void vmconfig_warn(struct vmconfig_walk *w, const char *key, const char *fmt, ...)
{
	char buf[TEXT_BYTES];
	va_list ap;

	if (!w->notes || !w->notes->warn || w->warnings > VMCONFIG_WARNINGS_MAX)
		return;
	if (w->warnings++ == VMCONFIG_WARNINGS_MAX) {
		w->notes->warn(w->notes->opaque, "further warnings are left out");
		return;
	}
	va_start(ap, fmt);
	line(w, key, buf, sizeof(buf), fmt, ap);
	va_end(ap);
	w->notes->warn(w->notes->opaque, printable(buf));
}

int vmconfig_no_memory(struct vmconfig_walk *w)
{
	return err_sys(w->err, ENOMEM, "%s", w->len ? w->path : "the configuration");
}

const char *vmconfig_show(const json_t *value, char *buf, size_t len)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		snprintf(buf, len, "an object");
		break;
	case JSON_ARRAY:
		snprintf(buf, len, "a list");
		break;
	case JSON_STRING:
		snprintf(buf, len, json_string_length(value) > 60 ? "\"%.60s…\"" : "\"%s\"",
			 json_string_value(value));
		break;
	case JSON_INTEGER:
		snprintf(buf, len, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		break;
	case JSON_REAL:
		snprintf(buf, len, "%.17g", json_real_value(value));
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		snprintf(buf, len, "%s", json_is_true(value) ? "true" : "false");
		break;
	case JSON_NULL:
		snprintf(buf, len, "null");
		break;
	}
	return buf;
}

const char *vmconfig_text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

uint64_t vmconfig_num(const json_t *object, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(object, key));

	return n < 0 ? 0 : (uint64_t)n;
}

bool vmconfig_bool(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}
