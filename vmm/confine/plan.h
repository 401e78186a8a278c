/* plan: what a VM's options need of the host, for confine_begin. One thread. */
#ifndef BANTAM_CONFINE_PLAN_H
#define BANTAM_CONFINE_PLAN_H

#include "vmm/config.h"
#include "vmm/confine/confine.h"

/* Fills the plan of a VM; the caller adds what the process needs beside it. 0 or -errno. */
int confine_plan_config(struct confine_plan *plan, const struct config *config, struct err *err);
/* The parts that a VM does not have (struct confine_plan); what its devices are does not change any more. */
unsigned confine_plan_lacks(const struct config *config);
/* Adds what other options need. */
int confine_plan_keys(struct confine_plan *plan, const struct keyvals *kv, struct err *err);
/* Adds the descriptor that a path names: /dev/fd/N, as a shell writes it for <(command), or /proc/self/fd/N. */
int confine_plan_path(struct confine_plan *plan, const char *path, struct err *err);

#endif
