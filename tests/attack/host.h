/*
 * host: what an attacker would like to reach, and whether it is as it was: files, a process, sockets, the host's name,
 * mounts and interfaces.
 *
 * The test's own namespaces are the host, so that an attack that works harms no other program. Root, one thread.
 */
#ifndef ATTACK_HOST_H
#define ATTACK_HOST_H

#include <stdbool.h>
#include <sys/types.h>

#include "tests/attack/attacks.h"

/* Enters the namespaces and makes the folder's content: vm/ and tools/ for the programs, host/ for nobody. */
bool host_begin(const char *folder);
/* Starts the process of this user that must not be reached. */
bool host_start_other(uid_t uid);
void host_end_other(void);
/* Fills what attacks know of the host. */
void host_facts(struct facts *f);
/* Tells, in a line each, what has changed; and forgets it. Returns true if nothing has. */
bool host_unharmed(const char *when);
void host_forget(void);

#endif
