/*
 * fuzz_kernel: the input is a kernel file.
 *
 * boot_load gets it in 8 MiB of memory, with an initrd and no cache, with each
 * choice of the user. make-kernel-seeds makes the seeds in tests/fuzz/corpus/kernel.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot/boot.h"

#define MEM_BYTES (8u << 20)

static int file_of(const void *b, size_t len, char path[64])
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (fd < 0 || write(fd, b, len) != (ssize_t)len)
		abort();
	snprintf(path, 64, "/proc/self/fd/%d", fd);
	return fd;
}

#define check(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "broken promise: %s\n", #cond);                            \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static void load(const char *kernel, const char *initrd, enum boot_entry_kind entry,
		 enum boot_unpack unpack)
{
	static uint8_t *ram;
	struct boot_request req = { .kernel = kernel,
				    .initrd = initrd,
				    .cmdline = "quiet",
				    .entry = entry,
				    .unpack = unpack };
	struct board board = { .ncpus = 1, .sleep_control = { true, 0x600 } };
	struct boot_info info;
	struct mem mem = { 0 };
	struct err err = { "" };
	int ret;

	if (!ram)
		ram = malloc(MEM_BYTES);
	mem_add(&mem, gpa(0), MEM_BYTES, ram);
	ret = boot_load(&mem, &req, &board, &info, &err);
	check(ret <= 0);
	check((ret < 0) == (err.text[0] != 0));
	if (ret < 0)
		return;
	check(info.entry_addr >= info.kernel_base &&
	      info.entry_addr < info.kernel_base + info.kernel_bytes);
	check(info.kernel_base >= 1u << 20 && info.kernel_base + info.kernel_bytes <= MEM_BYTES);
	check(info.initrd_base >= 1u << 20 && info.initrd_base + info.initrd_bytes <= MEM_BYTES);
	check(info.initrd_base >= info.kernel_base + info.kernel_bytes ||
	      info.initrd_base + info.initrd_bytes <= info.kernel_base);
	check(info.format && info.format[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char kernel[64], initrd[64];
	int kfd = file_of(data, size, kernel), ifd = file_of("initrd", 6, initrd);

	load(kernel, initrd, BOOT_ENTRY_AUTO, BOOT_UNPACK_AUTO);
	load(kernel, initrd, BOOT_ENTRY_PVH, BOOT_UNPACK_ON);
	load(kernel, initrd, BOOT_ENTRY_LINUX64, BOOT_UNPACK_OFF);
	close(kfd);
	close(ifd);
	return 0;
}
