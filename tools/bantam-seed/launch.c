/*
 * launch: makes the script that starts a service from its disk: `sh launch`, wherever the disk
 * is mounted.
 *
 * env(1) sets the environment, because a shell refuses names that it reserves
 * (PPID, UID) and drops names that it does not understand. All values are in single quotes,
 * inside which a shell changes nothing. FAT has no executable bits: Linux shows them set, unless
 * the disk is mounted with noexec or a mask; then the script runs a copy.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bantam-seed/seed.h"

/* ' becomes '\'' . */
static void put_quoted(FILE *out, const char *text)
{
	fputc('\'', out);
	for (; *text; text++) {
		if (*text == '\'')
			fputs("'\\''", out);
		else
			fputc(*text, out);
	}
	fputc('\'', out);
}

static size_t name_len(const char *assignment)
{
	return strcspn(assignment, "=");
}

int launch_check_env(const char *assignment, struct err *err)
{
	size_t n = name_len(assignment);
	bool good = n && assignment[n] && !isdigit((unsigned char)assignment[0]) &&
		    assignment[0] != '-' && assignment[0] != '.';

	for (size_t i = 0; good && i < n; i++)
		good = isalnum((unsigned char)assignment[i]) || strchr("_.-", assignment[i]);
	if (good)
		return 0;
	/* Show only the name: the value may be a secret. */
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)assignment[i] < ' ' || assignment[i] == 0x7f)
			return err_set(err, EINVAL, "environment: a name has a control character");
	return err_set(err, EINVAL,
		       "environment: \"%.*s\": must be NAME=VALUE, the name of letters, "
		       "digits, _, . and -, beginning with a letter or _",
		       (int)(n < 60 ? n : 60), assignment);
}

int launch_parse_env(const char *path, struct text *text, struct list *env, struct err *err)
{
	char *line = text->data, *end = text->data + text->len, *next;
	unsigned number = 1;

	if (memchr(text->data, 0, text->len))
		return err_set(err, EINVAL, "%s: has a NUL byte, which no environment can hold",
			       path);
	for (; line < end; line = next, number++) {
		char *newline = memchr(line, '\n', (size_t)(end - line));
		struct err why;
		int rc;

		next = newline ? newline + 1 : end;
		if (newline)
			*newline = 0;
		if (newline && newline > line && newline[-1] == '\r')
			newline[-1] = 0;
		if (!line[strspn(line, " \t")] || *line == '#')
			continue;
		rc = launch_check_env(line, &why);
		if (rc)
			return err_set(err, -rc, "%s: line %u: %s", path, number, why.text);
		if (list_add(env, line))
			return err_sys(err, ENOMEM, "%s", path);
	}
	return 0;
}

/* Returns true if a later item sets the same name. */
static bool overridden(const struct list *env, size_t i)
{
	size_t n = name_len(env->item[i]);

	for (size_t j = i + 1; j < env->n; j++)
		if (name_len(env->item[j]) == n && !memcmp(env->item[i], env->item[j], n))
			return true;
	return false;
}

static const char head[] =
	"#!/bin/sh\n"
	"# Starts the service of this disk: sh launch [ARGUMENT...]\n"
	"case $0 in\n"
	"*/*) service=${0%/*}/service ;;\n"
	"*) service=./service ;;\n"
	"esac\n"
	"# Mounted noexec or without x bits, or a path that env takes for a variable: run a copy.\n"
	"case $service in *=*) copy=1 ;; *) copy= ;; esac\n"
	"if [ \"$copy\" ] || [ ! -x \"$service\" ]; then\n"
	"\tcopy=\n"
	"\tfor dir in /run \"${TMPDIR:-/tmp}\" /tmp /dev/shm /var/tmp; do\n"
	"\t\tdir=$(mktemp -d \"$dir/service-XXXXXX\" 2>/dev/null) || continue\n"
	"\t\tcase $dir in *=*) ;; *)\n"
	"\t\t\tcp \"$service\" \"$dir/service\" && chmod 755 \"$dir\" \"$dir/service\" &&\n"
	"\t\t\t\t[ -x \"$dir/service\" ] && copy=$dir/service && break ;;\n"
	"\t\tesac\n"
	"\t\trm -rf \"$dir\"\n"
	"\tdone\n"
	"\t[ \"$copy\" ] || { echo \"launch: cannot run $service from here, and found no place"
	" for a copy\" >&2; exit 126; }\n"
	"\tservice=$copy\n"
	"fi\n";

int launch_script(const struct list *env, const struct list *args, struct text *text,
		  struct err *err)
{
	FILE *out = open_memstream(&text->data, &text->len);
	bool any = false, failed;

	if (!out)
		return err_sys(err, ENOMEM, "launch");
	fputs(head, out);
	fputs("exec ", out);
	for (size_t i = 0; i < env->n; i++) {
		if (overridden(env, i))
			continue;
		fputs(any ? " \\\n\t" : "env \\\n\t", out);
		any = true;
		put_quoted(out, env->item[i]);
	}
	fputs(any ? " \\\n\t\"$service\"" : "\"$service\"", out);
	for (size_t i = 0; i < args->n; i++) {
		fputs(" \\\n\t", out);
		put_quoted(out, args->item[i]);
	}
	fputs(" \"$@\"\n", out);
	failed = ferror(out);
	if (fclose(out) || failed) {
		text_clear(text);
		return err_sys(err, ENOMEM, "launch");
	}
	return 0;
}
