/*
 * doctor: what this host can do for bantam, and what to do about the rest.
 *
 * Reads a few files, opens a few devices and runs one tiny guest: milliseconds,
 * nothing is changed. Prints on stdout, one line a check ("ok", "missing",
 * "slow", "absent": optional and not there) or one JSON object. Called by main.
 */
#ifndef BANTAM_DOCTOR_H
#define BANTAM_DOCTOR_H

#include <stdbool.h>

/*
 * 0: everything that a VM needs is there (a host that cannot run stock kernels
 * still counts: JSON's "stock_kernels" tells); else 1.
 */
int doctor_run(bool json);

#endif
