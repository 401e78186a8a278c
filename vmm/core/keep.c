/* keep: see keep.h. A list, because a VM has few devices; drops run without the lock. */
#include "vmm/core/keep.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct keep {
	pthread_mutex_t lock; /* protects the list; a leaf */
	struct kept *first;
};

int keep_create(struct keep **out)
{
	struct keep *k = calloc(1, sizeof(*k));

	*out = k;
	if (!k)
		return -ENOMEM;
	pthread_mutex_init(&k->lock, NULL);
	return 0;
}

/* Is name "ID/…"? Every name is of "". */
static bool is_of(const char *name, const char *id)
{
	size_t len = strlen(id);

	return !len || (!strncmp(name, id, len) && name[len] == '/');
}

/* Unlink all whose name is of id; returns them as a list. */
static struct kept *unlink_all(struct keep *k, const char *id)
{
	struct kept *found = NULL, **at = &k->first;

	pthread_mutex_lock(&k->lock);
	while (*at) {
		struct kept *kept = *at;

		if (!is_of(kept->name, id)) {
			at = &kept->next;
			continue;
		}
		*at = kept->next;
		kept->next = found;
		found = kept;
	}
	pthread_mutex_unlock(&k->lock);
	return found;
}

void keep_drop(struct keep *k, const char *id)
{
	struct kept *kept = unlink_all(k, id);

	while (kept) {
		struct kept *next = kept->next;

		kept->drop(kept);
		kept = next;
	}
}

void keep_destroy(struct keep *k)
{
	if (!k)
		return;
	keep_drop(k, "");
	pthread_mutex_destroy(&k->lock);
	free(k);
}

/* Lock held. */
static struct kept *unlink_named(struct keep *k, const char *name)
{
	struct kept **at = &k->first, *kept;

	while (*at && strcmp((*at)->name, name))
		at = &(*at)->next;
	kept = *at;
	if (kept)
		*at = kept->next;
	return kept;
}

void keep_put(struct keep *k, const char *id, const char *kind, struct kept *kept)
{
	int len = snprintf(kept->name, sizeof(kept->name), "%s/%s", id, kind);
	struct kept *old = kept;

	if (len >= 0 && (size_t)len < sizeof(kept->name)) {
		pthread_mutex_lock(&k->lock);
		old = unlink_named(k, kept->name);
		kept->next = k->first;
		k->first = kept;
		pthread_mutex_unlock(&k->lock);
	}
	if (old)
		old->drop(old);
}

struct kept *keep_take(struct keep *k, const char *id, const char *kind)
{
	char name[KEEP_NAME_BYTES];
	struct kept *kept;

	if (!k)
		return NULL;
	snprintf(name, sizeof(name), "%s/%s", id, kind);
	pthread_mutex_lock(&k->lock);
	kept = unlink_named(k, name);
	pthread_mutex_unlock(&k->lock);
	return kept;
}
