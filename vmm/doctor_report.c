/* doctor_report: the report its lines, its verdict, as text and as JSON; see doctor_impl.h. */
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vmm/doctor_impl.h"

#define COLUMNS 80u
/* Where the value of a line begins; names are shorter, but for some capabilities. */
#define VALUE_AT 26u

const char *const doctor_report_status[] = { "ok", "missing", "slow", "absent" };

void doctor_report_add(struct doctor_lines *l, const char *name, enum doctor_status status,
		       const char *advice, const char *fmt, ...)
{
	struct doctor_line *c;
	va_list ap;

	if (l->n == DOCTOR_LINES_MAX)
		return;
	c = &l->line[l->n++];
	snprintf(c->name, sizeof(c->name), "%s", name);
	c->status = status;
	va_start(ap, fmt);
	vsnprintf(c->value, sizeof(c->value), fmt, ap);
	va_end(ap);
	if (status != OK && advice)
		snprintf(c->advice, sizeof(c->advice), "%s", advice);
}

/*
 * Writes text from column *at on, in lines that are broken at blanks; the others begin at column from.
 * A word that is longer than a line has a line of its own.
 */
static void put_words(unsigned *at, unsigned from, const char *text)
{
	while (*(text += strspn(text, " "))) {
		unsigned len = (unsigned)strcspn(text, " ");

		if (*at > from && *at + 1 + len > COLUMNS) {
			printf("\n%*s", (int)from, "");
			*at = from;
		} else if (*at > from) {
			putchar(' ');
			++*at;
		}
		fwrite(text, 1, len, stdout);
		*at += len;
		text += len;
	}
}

static void put_line(const struct doctor_line *l)
{
	unsigned at = VALUE_AT;
	int n = printf("%-8s %s", doctor_report_status[l->status], l->name);

	if (n < (int)VALUE_AT)
		printf("%*s", (int)VALUE_AT - n, "");
	else
		printf("\n%*s", (int)VALUE_AT, "");
	put_words(&at, VALUE_AT, l->value);
	if (l->advice[0]) {
		at = VALUE_AT + 2;
		printf("\n%*s->", (int)VALUE_AT, "");
		put_words(&at, VALUE_AT, l->advice);
	}
	putchar('\n');
}

int doctor_report_verdict(const struct doctor_report *r, const char **text)
{
	if (!r->ok) {
		*text = "not ready: no VM can run here; see the lines that say \"missing\"";
		return DOCTOR_NO_VMS;
	}
	if (!r->stock_kernels) {
		*text = "ready for guests that this KVM can run; stock kernels do not run here";
		return DOCTOR_OTHER_GUESTS;
	}
	*text = "ready: stock kernels run here";
	return DOCTOR_STOCK_KERNELS;
}

void doctor_report_text(const struct doctor_report *r, bool verbose)
{
	const char *text;

	for (unsigned i = 0; i < r->uses.n; i++)
		put_line(&r->uses.line[i]);
	if (verbose) {
		puts("\nWhat was looked at:");
		for (unsigned i = 0; i < r->checks.n; i++)
			put_line(&r->checks.line[i]);
	}
	doctor_report_verdict(r, &text);
	printf("\n%s\n", text);
}

static int add_lines(json_t *root, const char *key, const struct doctor_lines *l)
{
	json_t *array = json_array();
	int rc = json_object_set_new(root, key, array);

	for (unsigned i = 0; i < l->n; i++) {
		const struct doctor_line *c = &l->line[i];

		rc |= json_array_append_new(array,
					    json_pack("{s:s, s:s, s:s, s:s}", "name", c->name,
						      "status", doctor_report_status[c->status],
						      "value", c->value, "advice", c->advice));
	}
	return rc;
}

int doctor_report_json(const struct doctor_report *r)
{
	const char *text;
	int status = doctor_report_verdict(r, &text);
	json_t *root = json_pack("{s:b, s:i, s:s, s:b, s:s, s:f}", "ok", r->ok, "exit_status",
				 status, "verdict", text, "stock_kernels", r->stock_kernels,
				 "reason", r->reason, "kernel_mode_mips", r->mips);
	int rc = add_lines(root, "uses", &r->uses) | add_lines(root, "checks", &r->checks);

	rc |= json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(4));
	putchar('\n');
	json_decref(root);
	return rc;
}
