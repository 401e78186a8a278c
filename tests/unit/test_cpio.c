/* cpio: the archive's bytes, its limits, and whether GNU cpio accepts it. */
#include "boot/cpio.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct archive {
	struct cpio cpio;
	char *data;
	size_t len;
	FILE *file;
};

static struct archive archive_new(void)
{
	struct archive a = { 0 };

	return a;
}

static void start(struct archive *a)
{
	*a = archive_new();
	a->file = open_memstream(&a->data, &a->len);
	cr_assert_not_null(a->file);
	cpio_init(&a->cpio, a->file);
}

static void stop(struct archive *a)
{
	fclose(a->file);
	free(a->data);
}

/* Returns field n (0 = inode … 11 = name size, 12 = check) of the header at data. */
static unsigned long field(const char *data, unsigned n)
{
	char digits[9] = { 0 };

	memcpy(digits, data + 6 + 8 * n, 8);
	return strtoul(digits, NULL, 16);
}

Test(cpio, file_header_and_padding)
{
	struct archive a;

	start(&a);
	cr_assert_eq(cpio_add_file(&a.cpio, "/etc", 0644, "hello", 5), 0);
	cr_assert_eq(cpio_finish(&a.cpio), 0);
	cr_assert_eq(memcmp(a.data, "070701", 6), 0);
	cr_expect_eq(field(a.data, 0), 1);
	cr_expect_eq(field(a.data, 1), 0100644);
	cr_expect_eq(field(a.data, 4), 1, "links");
	cr_expect_eq(field(a.data, 5), 0, "mtime");
	cr_expect_eq(field(a.data, 6), 5, "size");
	cr_expect_eq(field(a.data, 11), 4, "namesize counts the NUL");
	cr_expect_str_eq(a.data + 110, "etc");
	/* 110 + 4 is 114, the contents start at 116 and are padded to 124 */
	cr_expect_eq(memcmp(a.data + 114,
			    "\0\0hello\0\0\0"
			    "070701",
			    16),
		     0);
	cr_expect_str_eq(a.data + 124 + 110, "TRAILER!!!");
	cr_expect_eq(a.len % 512, 0);
	cr_expect_eq(a.len, a.cpio.len_bytes);
	stop(&a);
}

Test(cpio, every_name_and_content_alignment)
{
	for (unsigned name_len = 1; name_len <= 9; name_len++) {
		for (unsigned len = 0; len <= 9; len++) {
			struct archive a;
			char name[16] = { 0 };
			size_t at;

			memset(name, 'n', name_len);
			start(&a);
			cr_assert_eq(cpio_add_file(&a.cpio, name, 0600, "123456789", len), 0);
			at = a.cpio.len_bytes;
			cr_assert_eq(at % 4, 0);
			cr_assert_eq(cpio_finish(&a.cpio), 0);
			cr_assert_eq(memcmp(a.data + at, "070701", 6), 0);
			stop(&a);
		}
	}
}

Test(cpio, kinds)
{
	struct archive a;
	size_t node;

	start(&a);
	cr_assert_eq(cpio_add_dir(&a.cpio, "dev", 0755), 0);
	node = a.cpio.len_bytes;
	cr_assert_eq(cpio_add_chardev(&a.cpio, "dev/console", 0600, 5, 1), 0);
	cr_assert_eq(cpio_finish(&a.cpio), 0);
	cr_expect_eq(field(a.data, 1), 0040755);
	cr_expect_eq(field(a.data + node, 1), 0020600);
	cr_expect_eq(field(a.data + node, 9), 5);
	cr_expect_eq(field(a.data + node, 10), 1);
	stop(&a);
}

Test(cpio, links_and_block_devices)
{
	struct archive a;
	size_t node;

	start(&a);
	cr_assert_eq(cpio_add_link(&a.cpio, "sh", "/bin/busybox"), 0);
	node = a.cpio.len_bytes;
	cr_assert_eq(cpio_add_blockdev(&a.cpio, "vda", 0660, 254, 3), 0);
	cr_assert_eq(cpio_finish(&a.cpio), 0);
	cr_expect_eq(field(a.data, 1), 0120777);
	cr_expect_eq(field(a.data, 6), 12);
	cr_expect_eq(memcmp(a.data + 116, "/bin/busybox", 12), 0);
	cr_expect_eq(field(a.data + node, 1), 0060660);
	cr_expect_eq(field(a.data + node, 9), 254);
	cr_expect_eq(field(a.data + node, 10), 3);
	stop(&a);
	start(&a);
	cr_expect_eq(cpio_add_link(&a.cpio, "sh", ""), -EINVAL);
	stop(&a);
}

/* Contents in parts give the bytes that they give at once, and must be as long as announced. */
Test(cpio, contents_in_parts)
{
	struct archive whole, parts;

	start(&whole);
	cpio_add_file(&whole.cpio, "f", 0644, "hello", 5);
	cpio_finish(&whole.cpio);
	start(&parts);
	cr_assert_eq(cpio_begin_file(&parts.cpio, "f", 0644, 5), 0);
	cr_assert_eq(cpio_write(&parts.cpio, "hel", 3), 0);
	cr_assert_eq(cpio_write(&parts.cpio, "lo", 2), 0);
	cr_assert_eq(cpio_finish(&parts.cpio), 0);
	cr_assert_eq(parts.len, whole.len);
	cr_expect_eq(memcmp(parts.data, whole.data, whole.len), 0);
	stop(&whole);
	stop(&parts);

	start(&parts);
	cpio_begin_file(&parts.cpio, "f", 0644, 5);
	cr_expect_eq(cpio_write(&parts.cpio, "hello!", 6), -EINVAL);
	stop(&parts);
	start(&parts);
	cpio_begin_file(&parts.cpio, "f", 0644, 5);
	cr_expect_eq(cpio_write(&parts.cpio, "hell", 4), 0);
	cr_expect_eq(cpio_finish(&parts.cpio), -EINVAL);
	stop(&parts);
}

Test(cpio, bad_names_are_refused_and_the_error_sticks)
{
	static const char *const bad[] = { "",	   "/",	     "///",	      ".",
					   "..",   "a/../b", "a/..",	      "./a",
					   "a//b", "a/",     "/../etc/passwd" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct archive a;

		start(&a);
		cr_expect_eq(cpio_add_dir(&a.cpio, bad[i], 0755), -EINVAL, "'%s'", bad[i]);
		cr_expect_eq(a.cpio.len_bytes, 0);
		cr_expect_eq(cpio_add_dir(&a.cpio, "good", 0755), -EINVAL);
		cr_expect_eq(cpio_finish(&a.cpio), -EINVAL);
		stop(&a);
	}
}

Test(cpio, names_up_to_path_max)
{
	static char name[PATH_MAX + 1];
	struct archive a;

	for (unsigned i = 0; i < PATH_MAX; i++)
		name[i] = i % 200 == 199 ? '/' : 'x';
	start(&a);
	name[PATH_MAX - 1] = 0;
	cr_expect_eq(cpio_add_file(&a.cpio, name, 0644, "", 0), 0);
	name[PATH_MAX - 1] = 'x';
	cr_expect_eq(cpio_add_file(&a.cpio, name, 0644, "", 0), -EINVAL);
	stop(&a);
}

Test(cpio, contents_of_4_gib_are_refused_before_they_are_read)
{
	struct archive a;

	start(&a);
	cr_expect_eq(cpio_add_file(&a.cpio, "big", 0644, "", 1ull << 32), -EFBIG);
	cr_expect_eq(a.cpio.len_bytes, 0);
	stop(&a);
}

Test(cpio, a_full_disk_is_an_error)
{
	FILE *full = fopen("/dev/full", "w");
	struct cpio cpio;

	cr_assert_not_null(full);
	cpio_init(&cpio, full);
	cpio_add_file(&cpio, "a", 0644, "b", 1);
	cr_expect_eq(cpio_finish(&cpio), -ENOSPC);
	fclose(full);
}

/* GNU cpio lists and verifies our archive. */
Test(cpio, gnu_cpio_agrees)
{
	static const char want[] = "drwxr-xr-x dir\n"
				   "-rw-r----- dir/file\n"
				   "-rwxr-xr-x init\n";
	char path[] = "/tmp/bantam-cpio-XXXXXX", command[256], text[1024] = { 0 };
	int fd = mkstemp(path);
	struct cpio cpio;
	FILE *out, *list;

	if (system("command -v cpio >/dev/null"))
		cr_skip_test("no cpio here");
	cr_assert(fd >= 0);
	out = fdopen(fd, "w");
	cpio_init(&cpio, out);
	cpio_add_dir(&cpio, "dir", 0755);
	cpio_add_file(&cpio, "dir/file", 0640, "odd", 3);
	cpio_add_file(&cpio, "init", 0755, "#!/bin/true\n", 12);
	cr_assert_eq(cpio_finish(&cpio), 0);
	fclose(out);
	snprintf(command, sizeof(command),
		 "cpio --quiet -itv < %s 2>&1 | awk '{print $1, $9, $10, $11}' | sed 's/ *$//'",
		 path);
	list = popen(command, "r");
	cr_assert_not_null(list);
	cr_assert_gt(fread(text, 1, sizeof(text) - 1, list), 0);
	cr_expect_eq(pclose(list), 0);
	cr_expect_str_eq(text, want);
	unlink(path);
}
