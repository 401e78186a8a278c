/*
 * fuzz_config: option strings and JSON text, with the real registry.
 *
 * The input is lines, one argument each; from a line "{" on, the input is
 * the JSON file that --config @ names. For any input, config_parse either
 * fills a checked config or gives one clean line of text.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text)
{
	size_t len = strnlen(text, sizeof(((struct err *)0)->text));

	BUG_ON(!len || len == sizeof(((struct err *)0)->text));
	for (size_t i = 0; i < len; i++)
		BUG_ON((unsigned char)text[i] < ' ');
}

/* Checks what a device may rely on. */
static void check_values(const struct keyvals *kv)
{
	for (unsigned i = 0; kv->table[i].name; i++) {
		const struct key *key = &kv->table[i];
		uint64_t num = keys_num(kv, i);

		BUG_ON(((key->flags & KEY_REQUIRED) || key->def) && !keys_has(kv, i));
		if (!keys_has(kv, i))
			continue;
		BUG_ON(!*keys_text(kv, i));
		BUG_ON(key->kind == KEY_BOOL && num > 1);
		if (key->kind == KEY_NUM || key->kind == KEY_SIZE)
			BUG_ON(num < key->min || (key->max && num > key->max));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	static char path[64];
	char *argv[64], *copy = malloc(size + 1), *rest = copy, *json = NULL;
	struct config config;
	struct err err;
	int argc = 0;

	if (fd < 0) {
		fd = memfd_create("json", MFD_CLOEXEC);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	}
	memcpy(copy, data, size);
	copy[size] = 0;
	while (rest && !json && argc < 64) {
		if (*rest == '{' || *rest == '[') {
			json = rest;
			break;
		}
		argv[argc] = strsep(&rest, "\n");
		if (!strcmp(argv[argc], "@"))
			argv[argc] = path;
		else if (strstr(argv[argc], "config=") || argv[argc][0] == '/')
			argv[argc][0] = 0; /* allow no other file */
		argc++;
	}
	if (json) {
		size_t len = size - (size_t)(json - copy);

		BUG_ON(ftruncate(fd, 0) || pwrite(fd, json, len, 0) != (ssize_t)len);
	}
	memset(&err, 0xff, sizeof(err));
	if (config_parse(&config, argc, argv, &err)) {
		check_text(err.text);
	} else {
		check_values(&config.vm);
		for (unsigned i = 0; i < config.ndevices; i++)
			check_values(&config.device[i].kv);
	}
	config_clear(&config);
	free(copy);
	return 0;
}
