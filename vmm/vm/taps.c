/* taps: descriptors of the cards that came with requests. See vm_impl.h. */
#include "vmm/vm/vm_impl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void collect(struct vm_taps *taps, int fd)
{
	int *grown = realloc(taps->fd, (taps->nfds + 1) * sizeof(int));

	if (!grown)
		return;
	taps->fd = grown;
	taps->fd[taps->nfds++] = fd;
}

void vm_list_taps(const json_t *config, const char *id, struct vm_taps *out)
{
	json_t *net, *fd;
	size_t i, k;

	*out = (struct vm_taps){ 0 };
	json_array_foreach(json_object_get(config, "net"), i, net)
	{
		const char *its = json_string_value(json_object_get(net, "id"));

		if (id && (!its || strcmp(id, its) != 0))
			continue;
		json_array_foreach(json_object_get(net, "fds"), k, fd)
			collect(out, (int)json_integer_value(fd));
	}
}

/* Each once: the options of bantam run may give two cards the same descriptor. */
void vm_close_taps(const json_t *config, const char *id)
{
	struct vm_taps taps;

	vm_list_taps(config, id, &taps);
	for (unsigned i = 0; i < taps.nfds; i++) {
		bool closed = false;

		for (unsigned k = 0; k < i; k++)
			closed |= taps.fd[k] == taps.fd[i];
		if (!closed)
			close(taps.fd[i]);
	}
	free(taps.fd);
}
