/*
 * seed: interface between the parts of bantam-seed: lists of arguments, small files, and the
 * texts that it writes: cloud-init's documents (cloud.c, document.c) and a launch script (launch.c).
 */
#ifndef BANTAM_SEED_H
#define BANTAM_SEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/err.h"

/*
 * confine.c: no program, process or socket from now on, and no folder to write to but that of output, a file's name. Call it
 * before the first folder or document is read.
 */
void seed_confine(const char *output);

/* The arguments of a repeatable option. argv or a text of text_load owns the strings. */
struct list {
	const char **item;
	size_t n;
};

/* Returns 0 or -ENOMEM. */
int list_add(struct list *list, const char *item);
void list_clear(struct list *list);

/* Bytes that the struct owns; a NUL follows them. */
struct text {
	char *data;
	size_t len;
};

void text_clear(struct text *text);
/* Reads a whole file, pipe or "-" (standard input) of at most 64 MiB. Returns 0 or -errno. */
int text_load(const char *path, struct text *out, struct err *err);

/* --- cloud.c: NoCloud's documents ---------------------------------------------- */

struct cloud {
	const char *hostname, *user, *password, *instance_id, *mac, *interface;
	struct list keys; /* SSH public keys, one each */
	struct list ips, gateways, dns, packages, runs;
};

/* --ssh-key: arg is a key or a file of keys. *hold gets the file's text, which the caller keeps. */
int cloud_add_key(struct cloud *cloud, const char *arg, struct text *hold, struct err *err);
/* Would sshd refuse this key of cloud_add_key? Then why says why: "has the option "x"". */
bool cloud_key_fault(const char *line, char *why, size_t len);
/* Checks all options, before anything is written. */
int cloud_check(const struct cloud *cloud, struct err *err);
int cloud_user_data(const struct cloud *cloud, struct text *out, struct err *err);
/* out->data is NULL if the guest gets everything from DHCP. */
int cloud_network_config(const struct cloud *cloud, struct text *out, struct err *err);
/* Derives the instance id from user, network and vendor, if none is given. The last two may be empty. */
int cloud_meta_data(const struct cloud *cloud, const struct text *user, const struct text *network,
		    const struct text *vendor, struct text *out, struct err *err);

/*
 * Do these documents let a user log in, as far as a look for words can tell? user: made of options or the
 * user's own. true if in doubt: a script, an included or packed document, a command may do anything.
 */
bool cloud_lets_in(const struct text *user, const struct text *meta, const struct text *vendor);

/* --- document.c: documents that the user gives ---------------------------------- */

enum cloud_document { CLOUD_USER_DATA, CLOUD_META_DATA, CLOUD_NETWORK_CONFIG, CLOUD_VENDOR_DATA };

/*
 * Would cloud-init ignore text, of text_load, because of its form? Then true, and in why what is
 * wrong, to follow the document's name.
 */
bool cloud_document_fault(enum cloud_document kind, const struct text *text, char *why, size_t len);

/* --- launch.c: the service's start --------------------------------------------- */

/* Checks NAME=VALUE. Returns 0 or -EINVAL. The last assignment of a name wins. */
int launch_check_env(const char *assignment, struct err *err);
/* Reads a file of assignments, one per line; skips blank lines and comments (#). Changes text. */
int launch_parse_env(const char *path, struct text *text, struct list *env, struct err *err);
int launch_script(const struct list *env, const struct list *args, struct text *out,
		  struct err *err);

#endif
