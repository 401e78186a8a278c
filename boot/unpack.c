/* unpack: see unpack.h. */
#include "boot/unpack.h"

#include <errno.h>
#include <string.h>

int unpack_open(struct unpack **out, enum unpack_kind kind, const struct file *file,
		uint64_t off, uint64_t len_bytes, struct err *err)
{
	*out = NULL;
	return err_set(err, ENOTSUP, "not yet");
}
int64_t unpack_read(struct unpack *unpack, void *dst, uint64_t len_bytes, struct err *err)
{
	return -ENOTSUP;
}
void unpack_close(struct unpack *unpack)
{
}
