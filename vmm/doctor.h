/*
 * doctor: checks which of bantam's needs the host meets, and advises on the others.
 *
 * It reads a few files, opens a few devices and runs one tiny guest. This takes
 * milliseconds and changes nothing. It prints to stdout: one line per check ("ok",
 * "missing", "slow", or "absent" for an optional part), or one JSON object. Thread:
 * the first one, before any other exists.
 */
#ifndef BANTAM_DOCTOR_H
#define BANTAM_DOCTOR_H

#include <stdbool.h>

/*
 * Returns 0 if the host has everything that a VM needs, else 1. A host that cannot run
 * stock kernels also gets 0; "stock_kernels" in the JSON tells them apart.
 */
int doctor_run(bool json);

#endif
