/*
 * verdict/tap: the result as TAP 13, one point, with a YAML block about it; see verdict.h.
 *
 * In a description "#" begins a directive and "\" escapes; YAML's strings are double-quoted, with
 * the escapes of C.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/verdict/verdict.h"

static int put_description(const char *text, FILE *out)
{
	char *valid = verdict_utf8(text ? text : "", true);

	if (!valid)
		return -ENOMEM;
	for (const char *p = valid; *p; p++) {
		if (*p == '#' || *p == '\\')
			fputc('\\', out);
		/* A line feed would begin another line of TAP. */
		fputc(*p == '\n' || *p == '\r' ? ' ' : *p, out);
	}
	free(valid);
	return 0;
}

static int put_quoted(const char *text, FILE *out)
{
	char *valid = verdict_utf8(text ? text : "", true);

	if (!valid)
		return -ENOMEM;
	fputc('"', out);
	for (const char *p = valid; *p; p++) {
		uint8_t c = (uint8_t)*p;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			fprintf(out, "\\x%02x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
	free(valid);
	return 0;
}

static int put_key(const char *key, const char *text, FILE *out)
{
	int rc;

	fprintf(out, "  %s: ", key);
	rc = put_quoted(text, out);
	fputc('\n', out);
	return rc;
}

static int put_block(const struct verdict_report *report, FILE *out)
{
	const struct verdict_result *r = report->result;
	int rc;

	fprintf(out, "  ---\n  verdict: %s\n  phase: %s\n  exit_status: %d\n  duration_ms: %llu\n",
		verdict_name(r->kind), verdict_phase_name(r->phase), report->exit_status,
		(unsigned long long)(r->total_usec / 1000));
	rc = put_key("message", r->reason, out);
	if (!rc && r->because && r->kind != VERDICT_SPLAT)
		rc = put_key("because", r->because->heading, out);
	if (!rc && r->nevidence)
		fputs("  evidence:\n", out);
	for (size_t i = 0; !rc && i < r->nevidence; i++) {
		fprintf(out, "    - source: %s\n      line: %llu\n      text: ",
			verdict_source_name(r->evidence[i].source),
			(unsigned long long)r->evidence[i].number);
		rc = put_quoted(r->evidence[i].text, out);
		fputc('\n', out);
	}
	fputs("  ...\n", out);
	return rc;
}

int verdict_tap(const struct verdict_report *report, FILE *out)
{
	const struct verdict_result *r = report->result;
	bool ok = r->kind == VERDICT_PASSED || r->kind == VERDICT_SKIPPED;
	int rc;

	fprintf(out, "TAP version 13\n1..1\n%sok 1 - ", ok ? "" : "not ");
	rc = put_description(report->name, out);
	if (!rc && r->kind == VERDICT_SKIPPED) {
		fputs(" # SKIP ", out);
		rc = put_description(r->reason, out);
	}
	fputc('\n', out);
	if (!rc)
		rc = put_block(report, out);
	if (rc)
		return rc;
	return fflush(out) || ferror(out) ? -EIO : 0;
}
