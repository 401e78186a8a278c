/*
 * seed: what the parts of bantam-seed share: lists of arguments, small files, and the
 * texts that it writes: cloud-init's documents (cloud.c) and a launch script (launch.c).
 */
#ifndef BANTAM_SEED_H
#define BANTAM_SEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/err.h"

/* The arguments of an option that may be given more than once. They are argv's or text_load's. */
struct list {
	const char **item;
	size_t n;
};

/* -ENOMEM */
int list_add(struct list *list, const char *item);
void list_clear(struct list *list);

/* Owned bytes; a NUL follows them. */
struct text {
	char *data;
	size_t len;
};

void text_clear(struct text *text);
/* A whole file, pipe or "-" (standard input), of at most 64 MiB. */
int text_load(const char *path, struct text *out, struct err *err);

/* --- cloud.c: NoCloud's documents ---------------------------------------------- */

struct cloud {
	const char *hostname, *user, *password, *instance_id, *mac, *interface;
	struct list keys; /* SSH public keys, one each */
	struct list ips, gateways, dns, packages, runs;
};

/* --ssh-key: a key as such, or a file with some; keeps the file's text in *hold. */
int cloud_add_key(struct cloud *cloud, const char *arg, struct text *hold, struct err *err);
/* All that can be wrong with it, before anything is written. */
int cloud_check(const struct cloud *cloud, struct err *err);
int cloud_user_data(const struct cloud *cloud, struct text *out, struct err *err);
/* Nothing (out->data NULL) if the guest shall ask DHCP for everything. */
int cloud_network_config(const struct cloud *cloud, struct text *out, struct err *err);
/* The other two make the instance's id if none was given. network may be empty. */
int cloud_meta_data(const struct cloud *cloud, const struct text *user, const struct text *network,
		    struct text *out, struct err *err);

/* --- launch.c: the service's start --------------------------------------------- */

/* K=V, the last of each name wins. -EINVAL */
int launch_check_env(const char *assignment, struct err *err);
/* A file of such lines; blank ones and those that begin with # do not count. Changes text. */
int launch_parse_env(const char *path, struct text *text, struct list *env, struct err *err);
int launch_script(const struct list *env, const struct list *args, struct text *out,
		  struct err *err);

#endif
