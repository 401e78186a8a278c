/*
 * nodes: device nodes in /dev, where neither devtmpfs nor udev makes them.
 */
#ifndef GUEST_NODES_H
#define GUEST_NODES_H

#include "guest/sys.h"

#define NODE_CHAR 0020000u
#define NODE_BLOCK 0060000u

/* Makes /dev/NAME and the folders above it. */
static inline void node_make(const char *name, unsigned mode, unsigned major, unsigned minor)
{
	char path[128] = "/dev/";

	str_join(path, sizeof(path), "/dev/", name, "");
	for (char *c = path + 5; *c; c++) {
		if (*c != '/')
			continue;
		*c = 0;
		SYS(mkdirat, AT_FDCWD, path, 0755);
		*c = '/';
	}
	/* dev_t of the system call: 20 bits of minor, the upper 12 of them above the major's. */
	SYS(mknodat, AT_FDCWD, path, mode,
	    (minor & 0xff) | major << 8 | (unsigned long)(minor & ~0xffu) << 12);
}

/* The value of KEY= in the lines of a uevent file, as a string of its own; NULL: there is none. */
static inline const char *node_value(char *text, const char *key, char *out, size_t size)
{
	size_t len = strlen(key), n = 0;

	while (*text && !(str_starts(text, key) && text[len] == '='))
		while (*text && *text++ != '\n')
			;
	if (!*text)
		return NULL;
	for (text += len + 1; *text && *text != '\n' && n + 1 < size; text++)
		out[n++] = *text;
	out[n] = 0;
	return out;
}

struct node_class {
	const char *dir;
	unsigned type;
};

/* number: "MAJOR:MINOR" */
static inline void node_of_device(const char *number, void *arg)
{
	const struct node_class *class = arg;
	char path[128], text[1024], name[96], octal[16];
	const char *minor = number;
	unsigned perm = 0;

	str_join(path, sizeof(path), class->dir, "/", number);
	str_join(path + strlen(path), sizeof(path) - strlen(path), "/uevent", "", "");
	if (file_read(path, text, sizeof(text)) <= 0 ||
	    !node_value(text, "DEVNAME", name, sizeof(name)))
		return;
	if (node_value(text, "DEVMODE", octal, sizeof(octal)))
		for (const char *c = octal; *c >= '0' && *c <= '7'; c++)
			perm = perm * 8 + (unsigned)(*c - '0');
	while (*minor && *minor != ':')
		minor++;
	node_make(name, class->type | (perm ? perm : 0600u), (unsigned)str_number(number),
		  (unsigned)str_number(minor + !!*minor));
}

/* All devices of /sys/dev/char or /sys/dev/block. */
static inline void nodes_of_class(const char *dir, unsigned type)
{
	struct node_class class = { dir, type };

	dir_each(dir, node_of_device, &class);
}

/*
 * Device files of modules that are not loaded yet: opening one loads its module (depmod's modules.devname). A
 * line: "fuse fuse c10:229".
 */
static inline void nodes_of_modules(const char *path)
{
	static char list[16384];
	char *at = list;

	if (file_read(path, list, sizeof(list)) <= 0)
		return;
	while (*at) {
		char *line = at, *name, *number;

		while (*at && *at != '\n')
			at++;
		if (*at)
			*at++ = 0;
		for (name = line; *name && *name != ' ';)
			name++;
		name += !!*name;
		for (number = name; *number && *number != ' ';)
			number++;
		if (*line == '#' || !*number)
			continue;
		*number++ = 0;
		line = number;
		while (*line && *line != ':')
			line++;
		node_make(name, (*number == 'b' ? NODE_BLOCK : NODE_CHAR) | 0600,
			  (unsigned)str_number(number + !!*number),
			  (unsigned)str_number(line + !!*line));
	}
}

#endif
