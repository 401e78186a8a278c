/*
 * doctor_impl: what the parts of doctor share: doctor.c looks at the host (checks), doctor_uses.c says what
 * that means for a user (uses), doctor_report.c writes both. One thread.
 */
#ifndef BANTAM_DOCTOR_IMPL_H
#define BANTAM_DOCTOR_IMPL_H

#include <stdbool.h>

#include "vmm/doctor.h"

#define DOCTOR_LINES_MAX 48u

/* How the names of the rows of --confine begin. */
#define CONFINE_ROW "confine: "

enum doctor_status { OK, MISSING, SLOW, ABSENT };
extern const char *const doctor_report_status[];

struct doctor_line {
	char name[48];
	enum doctor_status status;
	char value[320];
	char advice[320]; /* what the user can do, or "" */
};

struct doctor_lines {
	struct doctor_line line[DOCTOR_LINES_MAX];
	unsigned n;
};

struct doctor_report {
	struct doctor_lines checks; /* capabilities, devices, settings: --verbose */
	struct doctor_lines uses;   /* what works here */
	bool ok;		    /* VMs can run: no check is MISSING */
	bool stock_kernels;
	char reason[320]; /* why stock kernels do not run; "" if they do */
	double mips;
};

/* --- doctor_report.c --- */

/* Adds a line with the formatted value. The advice may be NULL; a line that is OK drops it. */
void doctor_report_add(struct doctor_lines *l, const char *name, enum doctor_status status,
		       const char *advice, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* Fills uses; checks, ok and stock_kernels are complete. */
void doctor_uses_find(struct doctor_report *r);

/* Each returns 0, or what is not 0 if memory was short. */
int doctor_report_json(const struct doctor_report *r);
/* Lines of at most 80 columns, unless one word is longer. */
void doctor_report_text(const struct doctor_report *r, bool verbose);

/* The exit status, and the line that says why. */
int doctor_report_verdict(const struct doctor_report *r, const char **text);

#endif
