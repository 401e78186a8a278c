/* fuzz_qcow2_check: checks and repairs any image: no crash, and a repaired image that
 * the check calls clean stays clean. The first byte chooses the repair. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/backend/qcow2_image/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct qcow2_check first = { .repair = QCOW2_REPAIR_NONE }, again = first;
	struct err err;
	char path[64];
	int fd;

	if (len < 2 || len > 65536)
		return 0;
	first.repair = (enum qcow2_repair)(data[0] % 3);
	fd = memfd_create("image", MFD_CLOEXEC);
	if (fd < 0 || write(fd, data + 1, len - 1) != (ssize_t)(len - 1))
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (!qcow2_check(&first, path, &err)) {
		BUG_ON(qcow2_check(&again, path, &err));
		BUG_ON(again.corruptions != first.corruptions || again.leaks != first.leaks);
	}
	close(fd);
	return 0;
}
