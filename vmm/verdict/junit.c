/*
 * verdict/junit: the result as JUnit's XML, one suite with one case; see verdict.h.
 *
 * What failed by the test's own doing is a <failure>, what could not run an <error>, as the readers of
 * Jenkins, GitLab and GitHub tell them apart. The kernel's reports are in <system-err>.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/verdict/verdict.h"

/* Writes text in an attribute or an element. */
static int put_text(const char *text, FILE *out)
{
	char *valid = verdict_utf8(text ? text : "", true);

	if (!valid)
		return -ENOMEM;
	for (const char *p = valid; *p; p++) {
		switch (*p) {
		case '&':
			fputs("&amp;", out);
			break;
		case '<':
			fputs("&lt;", out);
			break;
		case '>':
			fputs("&gt;", out);
			break;
		case '"':
			fputs("&quot;", out);
			break;
		case '\r': /* a reader would make a newline of it */
			fputs("&#13;", out);
			break;
		default:
			fputc(*p, out);
		}
	}
	free(valid);
	return 0;
}

static int put_evidence(const struct verdict_result *r, FILE *out)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < r->nevidence; i++) {
		const struct verdict_evidence *e = &r->evidence[i];

		fprintf(out, "%s:%llu: ", verdict_source_name(e->source),
			(unsigned long long)e->number);
		if (e->timed)
			fprintf(out, "[%5llu.%06llu] ", (unsigned long long)(e->usec / 1000000),
				(unsigned long long)(e->usec % 1000000));
		rc = put_text(e->text, out);
		fputc('\n', out);
	}
	return rc;
}

static int put_splats(const struct verdict_result *r, FILE *out)
{
	size_t n = r->splats ? verdict_splats_count(r->splats) : 0;
	int rc = 0;

	if (!n)
		return 0;
	fputs("      <system-err>", out);
	for (size_t i = 0; !rc && i < n; i++)
		rc = put_text(verdict_splats_get(r->splats, i)->report, out);
	fputs("</system-err>\n", out);
	return rc;
}

/* "failure", "error", "skipped" or NULL. */
static const char *element(enum verdict_kind kind)
{
	switch (kind) {
	case VERDICT_PASSED:
		return NULL;
	case VERDICT_SKIPPED:
		return "skipped";
	case VERDICT_ERROR:
	case VERDICT_INTERRUPTED:
		return "error";
	default:
		return "failure";
	}
}

static int put_cause(const struct verdict_result *r, FILE *out)
{
	const char *name = element(r->kind);
	int rc;

	if (!name)
		return 0;
	fprintf(out, "      <%s message=\"%s in phase %s: ", name, verdict_name(r->kind),
		verdict_phase_name(r->phase));
	rc = put_text(r->reason, out);
	if (!strcmp(name, "skipped")) {
		fputs("\"/>\n", out);
		return rc;
	}
	fprintf(out, "\" type=\"%s\">", verdict_name(r->kind));
	if (!rc && r->because && r->kind != VERDICT_SPLAT) {
		fputs("first mistake of the kernel: ", out);
		rc = put_text(r->because->heading, out);
		fputc('\n', out);
	}
	if (!rc)
		rc = put_evidence(r, out);
	fprintf(out, "</%s>\n", name);
	return rc;
}

int verdict_junit(const struct verdict_report *report, FILE *out)
{
	const struct verdict_result *r = report->result;
	const char *name = element(r->kind);
	char counts[120], time[32];
	int rc;

	snprintf(counts, sizeof(counts), "tests=\"1\" failures=\"%d\" errors=\"%d\" skipped=\"%d\"",
		 name && name[0] == 'f', name && name[0] == 'e', name && name[0] == 's');
	snprintf(time, sizeof(time), "%llu.%03llu", (unsigned long long)(r->total_usec / 1000000),
		 (unsigned long long)(r->total_usec / 1000 % 1000));
	fprintf(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites %s time=\"%s\">\n",
		counts, time);
	fprintf(out, "  <testsuite name=\"bantam test\" %s time=\"%s\">\n    <testcase name=\"",
		counts, time);
	rc = put_text(report->name, out);
	fprintf(out, "\" classname=\"bantam.%s\" time=\"%s\">\n", r->command ? "command" : "boot",
		time);
	if (!rc)
		rc = put_cause(r, out);
	if (!rc)
		rc = put_splats(r, out);
	fputs("    </testcase>\n  </testsuite>\n</testsuites>\n", out);
	if (rc)
		return rc;
	return fflush(out) || ferror(out) ? -EIO : 0;
}
