/*
 * doctor: says which of bantam's uses work on this host, and what to do about the others.
 *
 * It reads a few files, opens a few devices, looks for helper programs and daemons, and runs one tiny
 * guest. This takes milliseconds and changes nothing. It prints to stdout: a line for each use ("ok",
 * "missing", "slow", or "absent" for an optional part) and the verdict, or one JSON object. Thread:
 * the first one, before any other exists.
 */
#ifndef BANTAM_DOCTOR_H
#define BANTAM_DOCTOR_H

#include <stdbool.h>

/* Exit statuses. The last is that of bantam run for a guest that this KVM cannot run. */
enum { DOCTOR_STOCK_KERNELS = 0, DOCTOR_NO_VMS = 1, DOCTOR_OTHER_GUESTS = 7 };

/* verbose: with each capability, device and setting that was looked at; the JSON always has them. */
int doctor_run(bool json, bool verbose);

#endif
