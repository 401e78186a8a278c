/* image: functions that the commands share. See image.h. */
#include "tools/bantam-image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/store/backing.h"
#include "vmm/core/parse.h"

#define THREADS_MAX 64u
#define THREADS_DEFAULT_MAX 8u
/* Also with fewer CPUs: some threads wait for the medium. */
#define THREADS_DEFAULT_MIN 4u

int image_fail(const struct err *err, int status)
{
	fflush(stdout);
	fprintf(stderr, "bantam: %s\n", err->text);
	return status;
}

bool image_args(const struct args_table *table, int argc, char **argv, struct args *args,
		int usage_status, int *status)
{
	struct err err = { "" };

	if (args_parse(table, argc, argv, args, &err)) {
		*status = image_fail(&err, usage_status);
		return true;
	}
	if (args->help) {
		args_help(table);
		*status = IMAGE_OK;
		return true;
	}
	for (unsigned i = 0; i < args->nmany; i++) {
		if (!store_allow_folder(args->many[i], &err))
			continue;
		*status = image_fail(&err, usage_status);
		return true;
	}
	return false;
}

int image_parse_format(const char *option, const char *text, enum store_format *out,
		       struct err *err)
{
	*out = STORE_AUTO;
	if (!text || !store_format_parse(text, out))
		return 0;
	return err_set(err, EINVAL, "%s %.40s: no such format; use raw or qcow2", option, text);
}

int image_parse_size(const char *text, uint64_t *out, struct err *err)
{
	int rc = parse_size(text, out);

	if (rc == -ERANGE || (!rc && *out > (uint64_t)INT64_MAX / 2))
		return err_set(err, ERANGE, "size %.40s: is too large; the limit is 4 EiB", text);
	if (rc)
		return err_set(err, EINVAL, "size %.40s: is not a size; examples: 512M, 20G, 1T",
			       text);
	if (!*out)
		return err_set(err, EINVAL, "size %.40s: a disk needs at least 512 bytes", text);
	if (*out % 512)
		return err_set(err, EINVAL,
			       "size %.40s: is not a multiple of 512 bytes (a disk's sector)",
			       text);
	return 0;
}

int image_parse_mode(const char *text, unsigned *out, struct err *err)
{
	*out = 0;
	if (text && parse_mode(text, out))
		return err_set(err, EINVAL, "--mode %.40s: must be a file's mode, such as 640",
			       text);
	return 0;
}

int image_parse_threads(const char *text, unsigned *out, struct err *err)
{
	cpu_set_t set;
	uint64_t n;

	if (text) {
		if (parse_u64(text, &n) || !n || n > THREADS_MAX)
			return err_set(err, EINVAL, "--threads %.40s: is not a number from 1 to %u",
				       text, THREADS_MAX);
		*out = (unsigned)n;
		return 0;
	}
	*out = sched_getaffinity(0, sizeof(set), &set) ? 1 : (unsigned)CPU_COUNT(&set);
	if (*out < THREADS_DEFAULT_MIN)
		*out = THREADS_DEFAULT_MIN;
	if (*out > THREADS_DEFAULT_MAX)
		*out = THREADS_DEFAULT_MAX;
	return 0;
}

/* --- opening ------------------------------------------------------------------------- */

bool image_same_file(const char *a, const char *b)
{
	struct stat sa, sb;

	return !stat(a, &sa) && !stat(b, &sb) && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

int image_detect(const char *path, const char *via, enum store_format *out, struct err *err)
{
	struct store_looks looks;

	store_look(path, via, &looks);
	if (looks.foreign && store_format_of_name(path) == STORE_RAW)
		return store_refuse_foreign(path, &looks, NULL, err);
	*out = looks.qcow2 ? STORE_QCOW2 : STORE_RAW;
	return 0;
}

int image_open_store(const char *path, enum store_format format, bool readonly, struct store **out,
		     struct err *err)
{
	struct store_options options = { .path = path, .format = format, .readonly = readonly };
	enum store_format content;
	int rc;

	*out = NULL;
	if (format == STORE_AUTO) {
		rc = image_detect(path, NULL, &content, err);
		if (rc)
			return rc;
		/* A guest can write a qcow2 header that names any backing file into a raw disk. */
		if (store_format_guess(path, &options.format))
			return store_format_refuse("disk", path, "-f ", err);
	}
	return store_open(&options, out, err);
}

void image_note_backing(const char *path, const char *backing)
{
	struct store_folder own = { 0 };
	struct store_found found;
	struct err err = { "" };
	int rc = store_folder_open(&own, path, &err);

	if (!rc)
		rc = store_backing_find(&own, path, backing, &found, &err);
	if (!rc)
		close(found.fd);
	else
		fprintf(stderr, "bantam: note: %s\n", err.text);
	store_folder_close(&own);
}

/* --- being stopped --------------------------------------------------------------------- */

static volatile sig_atomic_t stopped;

static void on_signal(int n)
{
	stopped = n;
}

int image_stopped(void)
{
	return stopped;
}

void image_catch_signals(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction act = { .sa_handler = on_signal }, old;

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		/* nohup has made the program ignore SIGHUP: that stays. */
		if (!sigaction(signals[i], NULL, &old) && old.sa_handler != SIG_IGN)
			sigaction(signals[i], &act, NULL);
	}
}

/* --- bytes and text ----------------------------------------------------------------------- */

bool image_is_zero(const void *bytes, uint64_t n)
{
	typedef uint64_t quad __attribute__((vector_size(32), aligned(1), may_alias));
	const uint8_t *p = bytes;

	while (n >= 128) {
		const quad *v = (const void *)p;
		quad any = v[0] | v[1] | v[2] | v[3];

		if (any[0] | any[1] | any[2] | any[3])
			return false;
		p += 128;
		n -= 128;
	}
	while (n--)
		if (*p++)
			return false;
	return true;
}

void image_json_string(FILE *f, const char *text)
{
	const uint8_t *at = (const uint8_t *)text;

	putc('"', f);
	while (*at) {
		const uint8_t *from = at;
		int32_t c = parse_utf8(&at);

		/* JSON allows C1 controls, but the output may go to a terminal. */
		if (c < ' ' || (c >= 0x7f && c < 0xa0))
			fprintf(f, "\\u%04x", c < 0 ? *at++ : (unsigned)c);
		else if (c == '"' || c == '\\')
			fprintf(f, "\\%c", c);
		else
			fwrite(from, 1, (size_t)(at - from), f);
	}
	putc('"', f);
}
