/* qcow2/free_list: lists of cluster runs: freed, settled, in limbo, zeroed. See free.h. */
#include "devices/backend/qcow2/qcow2_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* More freed runs than this ask for a commit. */
#define FREED_MAX 4096u

int qcow2_free_add(struct qcow2 *q, struct qcow2_free_list *list, uint64_t offset, uint64_t n)
{
	struct qcow2_free *last = list->n ? &list->run[list->n - 1] : NULL;
	struct qcow2_free *more;

	if (last && last->offset + (last->nclusters << q->file.cluster_bits) == offset) {
		last->nclusters += n;
		return 0;
	}
	if (list->n == list->room) {
		size_t room = list->room ? list->room * 2 : 16;

		/* No realloc: a worker's list of system calls has no mremap. */
		more = malloc(room * sizeof(*more));
		if (!more)
			return -ENOMEM;
		if (list->n)
			memcpy(more, list->run, list->n * sizeof(*more));
		free(list->run);
		list->run = more;
		list->room = room;
	}
	list->run[list->n++] = (struct qcow2_free){ offset, n };
	if (list == &q->freeing.freed && list->n > FREED_MAX)
		q->changes.want_commit = true;
	return 0;
}
