/* executable: see executable.h, execve(2), and linux/fs/binfmt_script.c for the form of "#!" lines. */
#include "boot/pack/executable.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/cpio.h"
#include "boot/pack/libraries.h"
#include "boot/pack/object.h"
#include "boot/pack/pack_impl.h"
#include "boot/pack/source.h"

#define DEPTH_MAX 5u	/* interpreters of interpreters, as the kernel has it */
#define LINE_BYTES 256u /* BINPRM_BUF_SIZE */
#define SHELL "/bin/sh"
#define BLANKS " \t"

static int add(struct pack *pack, const char *name, const char *source, unsigned depth,
	       struct err *err);

static bool is_program(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && access(path, R_OK) == 0;
}

bool pack_find_program(const char *name, char path[PATH_MAX])
{
	const char *at = getenv("PATH");

	if (strchr(name, '/')) {
		snprintf(path, PATH_MAX, "%s", name);
		return strlen(name) < PATH_MAX && is_program(path);
	}
	for (at = at ? at : "/usr/bin:/bin"; *name; at++) {
		size_t len = strcspn(at, ":");

		if (len && len + strlen(name) + 2 <= PATH_MAX) {
			snprintf(path, PATH_MAX, "%.*s/%s", (int)len, at, name);
			if (is_program(path) && access(path, X_OK) == 0)
				return true;
		}
		at += len;
		if (!*at)
			break;
	}
	return false;
}

/* Adds a program that another one names, unless it is there. */
static int add_needed(struct pack *pack, const char *by, const char *path, unsigned depth,
		      struct err *err)
{
	if (pack_has(pack, path))
		return 0;
	if (!is_program(path))
		return err_set(err, ENOENT, "%.150s needs %.150s, which is not on this host", by,
			       path);
	/* A foreign script may name a file with keys. */
	if (access(path, X_OK))
		return err_set(err, ENOEXEC, "%.150s needs %.150s, which is no program", by, path);
	return add(pack, NULL, path, depth + 1, err);
}

/* The program that env(1) is told to run. words are its arguments as the kernel gives them: as one. */
static int add_env_program(struct pack *pack, const char *by, char *words, unsigned depth,
			   struct err *err)
{
	char path[PATH_MAX], *rest = words, *word = strtok_r(words, BLANKS, &rest);

	while (word && (*word == '-' || strchr(word, '=')))
		word = strtok_r(NULL, BLANKS, &rest);
	if (!word || pack_has(pack, word))
		return 0;
	return pack_find_program(word, path) ?
		       add_needed(pack, by, path, depth, err) :
		       err_set(err, ENOENT, "%.150s needs %.100s, which is not on this host", by,
			       word);
}

/* line: the first one of a file, behind "#!" */
static int add_interpreter(struct pack *pack, const char *by, char *line, unsigned depth,
			   struct err *err)
{
	char *name, *rest;
	int ret;

	line += strspn(line, BLANKS);
	rest = line + strcspn(line, BLANKS);
	if (*rest)
		*rest++ = 0;
	if (!*line)
		return add_needed(pack, by, SHELL, depth, err);
	if (*line != '/')
		return 0; /* relative to the folder in which it will be started: the guest's */
	ret = add_needed(pack, by, line, depth, err);
	name = strrchr(line, '/') + 1;
	return ret || strcmp(name, "env") ? ret : add_env_program(pack, by, rest, depth, err);
}

static int add_elf_needs(struct pack *pack, const char *host, const char *guest,
			 const struct pack_source *source, struct err *err)
{
	struct pack_object object, linker;
	struct pack_source file;
	int ret = pack_object_read(source, &object, NULL);

	if (ret == -ENOMEM)
		return err_sys(err, ENOMEM, "%s", host);
	if (ret)
		return 0; /* no kernel runs it */
	if (!object.interpreter)
		goto out; /* it is static */
	ret = pack_source_open(&file, object.interpreter, false, NULL);
	if (ret) {
		ret = pack_has(pack, object.interpreter) ?
			      0 :
			      err_set(err, ENOENT, "%.150s needs %.150s, which is not on this host",
				      host, object.interpreter);
		goto out;
	}
	ret = pack_object_read(&file, &linker, err);
	pack_source_close(&file);
	if (!ret && (linker.is64 != object.is64 || linker.machine != object.machine))
		ret = err_set(err, ENOEXEC,
			      "%.150s: its interpreter %.150s is for another processor", host,
			      object.interpreter);
	if (!ret && !pack_has(pack, object.interpreter))
		ret = pack_add_file(pack, object.interpreter, object.interpreter, err);
	if (!ret)
		ret = pack_add_libraries(pack, &object, host, guest, err);
	pack_object_free(&linker);
out:
	pack_object_free(&object);
	return ret;
}

/* Adds what the file host needs, which is at guest in the archive. */
static int add_needs(struct pack *pack, const char *host, const char *guest, unsigned depth,
		     struct err *err)
{
	char head[LINE_BYTES + 1] = { 0 };
	struct pack_source source;
	size_t len;
	int ret = pack_source_open(&source, host, false, err);

	if (ret)
		return ret;
	len = source.size_bytes < LINE_BYTES ? (size_t)source.size_bytes : LINE_BYTES;
	ret = pack_source_read(&source, 0, head, len, err);
	if (ret || !(source.file.st.st_mode & 0111)) {
		pack_source_close(&source);
		return ret;
	}
	if (len >= SELFMAG && !memcmp(head, ELFMAG, SELFMAG)) {
		ret = add_elf_needs(pack, host, guest, &source, err);
	} else if (!memcmp(head, "#!", 2)) {
		head[strcspn(head, "\n")] = 0;
		for (size_t n = strlen(head); n && strchr(BLANKS, head[n - 1]); n--)
			head[n - 1] = 0;
		ret = add_interpreter(pack, host, head + 2, depth, err);
	} else if (!memchr(head, 0, len)) {
		ret = add_needed(pack, host, SHELL, depth, err);
	}
	pack_source_close(&source);
	return ret;
}

static int add(struct pack *pack, const char *name, const char *source, unsigned depth,
	       struct err *err)
{
	char real[PATH_MAX];
	int ret = 0;

	if (depth > DEPTH_MAX)
		return err_set(err, ELOOP, "%s: its interpreters need more than %u others", source,
			       DEPTH_MAX);
	if (!realpath(source, real))
		return err_sys(err, errno, "%s", source);
	if (name || !pack_has(pack, real)) {
		ret = pack_add_file(pack, name ? name : real, real, err);
		if (!ret)
			ret = add_needs(pack, real, name ? name : real, depth, err);
	}
	if (!ret && !name && *source == '/' && cpio_name_ok(source + 1) && !pack_has(pack, source))
		ret = pack_add_link(pack, source, real, err);
	return ret;
}

int pack_complete_executable(struct pack *pack, const char *name, struct err *err)
{
	const struct entry *e = pack_entry_find(pack, name, true);
	struct pack_object object;
	struct pack_source source;
	bool alien = false;
	char *host;
	int ret;

	if (!e || e->kind != ENTRY_FILE || e->below)
		return 0;
	ret = pack_source_open(&source, e->data, false, err);
	if (ret)
		return ret;
	/* A root file system with an interpreter of its own has the libraries for it. */
	if (!pack_object_read(&source, &object, NULL)) {
		alien = object.interpreter && pack_has(pack, object.interpreter);
		pack_object_free(&object);
	}
	pack_source_close(&source);
	if (alien)
		return 0;
	host = strdup(e->data); /* entries move when others come */
	ret = host ? add_needs(pack, host, name, 0, err) : err_sys(err, ENOMEM, "%s", name);
	free(host);
	return ret;
}

int pack_add_executable(struct pack *pack, const char *name, const char *source, struct err *err)
{
	return add(pack, name, source, 0, err);
}
