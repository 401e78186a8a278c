/*
 * fuzz_seed: the texts that bantam-seed reads and writes. The first byte chooses:
 * an environment file that becomes a launch script, from which a shell must read exactly the
 * same words; a file of SSH keys; a string that becomes a YAML scalar; a document of the user's.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tools/bantam-seed/cloud.c"
#include "tools/bantam-seed/document.c"
#include "tools/bantam-seed/launch.c"
#include "tools/bantam-seed/sshkey.c"
#include "tools/bantam-seed/text.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_line(const char *text)
{
	BUG_ON(!*text || strpbrk(text, "\n\r\x1b"));
}

/* Returns the next word as a POSIX shell reads it, made only of '…' and \'; NULL at the end. */
static char *next_word(const char **at)
{
	char *word = malloc(strlen(*at) + 1), *to = word;

	*at += strspn(*at, " \t\n\\");
	BUG_ON(**at != '\'');
	while (**at == '\'' || **at == '\\') {
		if (**at == '\\') {
			BUG_ON((*at)[1] != '\'');
			*to++ = '\'';
			*at += 2;
			continue;
		}
		for ((*at)++; **at != '\''; (*at)++) {
			BUG_ON(!**at);
			*to++ = **at;
		}
		(*at)++;
	}
	*to = 0;
	return word;
}

static void fuzz_env(struct text *text)
{
	struct list env = { NULL, 0 }, args = { NULL, 0 };
	struct text script;
	struct err err = { "" };
	const char *at;

	if (launch_parse_env("env", text, &env, &err)) {
		check_line(err.text);
		list_clear(&env);
		return;
	}
	/* Use the values as arguments, too. */
	for (size_t i = 0; i < env.n; i++)
		BUG_ON(list_add(&args, strchr(env.item[i], '=') + 1));
	BUG_ON(launch_script(&env, &args, &script, &err));
	at = strstr(script.data, "\nexec ") + 6;
	if (env.n) {
		BUG_ON(strncmp(at, "env ", 4));
		at += 4;
	}
	for (size_t i = 0; i < env.n; i++) {
		char *word;

		if (overridden(&env, i))
			continue;
		word = next_word(&at);
		BUG_ON(strcmp(word, env.item[i]));
		free(word);
	}
	at = strstr(at, "\"$service\"") + 10;
	for (size_t i = 0; i < args.n; i++) {
		char *word = next_word(&at);

		BUG_ON(strcmp(word, args.item[i]));
		free(word);
	}
	BUG_ON(strcmp(at, " \"$@\"\n"));
	text_clear(&script);
	list_clear(&env);
	list_clear(&args);
}

static void fuzz_keys(const struct text *text)
{
	int fd = memfd_create("keys", MFD_CLOEXEC);
	struct cloud cloud = { NULL };
	struct text hold, user;
	struct err err = { "" };
	char path[64];

	BUG_ON(write(fd, text->data, text->len) != (ssize_t)text->len);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (cloud_add_key(&cloud, path, &hold, &err)) {
		check_line(err.text);
	} else if (cloud_check(&cloud, &err)) {
		check_line(err.text);
	} else {
		BUG_ON(!cloud.keys.n || cloud_user_data(&cloud, &user, &err));
		text_clear(&user);
	}
	text_clear(&hold);
	list_clear(&cloud.keys);
	close(fd);
}

/* A scalar must be one line of printable characters in quotes; no other quote ends it. */
static void fuzz_scalar(const struct text *text)
{
	struct cloud cloud = { .instance_id = text->data };
	struct text user = { "", 0 }, network = { NULL, 0 }, meta;
	struct err err = { "" };
	const char *at, *end;

	if (cloud_check(&cloud, &err)) {
		check_line(err.text);
		return;
	}
	BUG_ON(cloud_meta_data(&cloud, &user, &network, &network, &meta, &err));
	at = meta.data + strlen("instance-id: \"");
	end = meta.data + meta.len - 2;
	BUG_ON(end[0] != '"' || end[1] != '\n');
	for (; at < end; at++) {
		BUG_ON((uint8_t)*at < ' ' || *at == 0x7f || *at == '"');
		if (*at == '\\')
			at++;
	}
	BUG_ON(at != end);
	text_clear(&meta);
}

static void fuzz_document(const struct text *text, unsigned kind)
{
	char why[200] = "";

	if (cloud_document_fault(kind, text, why, sizeof(why)))
		BUG_ON(!*why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct text text;

	if (!size)
		return 0;
	text.len = size - 1;
	text.data = malloc(size);
	memcpy(text.data, data + 1, text.len);
	text.data[text.len] = 0;
	if (data[0] & 0x80)
		fuzz_document(&text, data[0] % 4);
	else if (data[0] % 3 == 0)
		fuzz_env(&text);
	else if (data[0] % 3 == 1)
		fuzz_keys(&text);
	else
		fuzz_scalar(&text);
	free(text.data);
	return 0;
}
