/*
 * libraries: see libraries.h, and ld.so(8) for the order of the search.
 *
 * Theory of operation: `walk` reads one object after the other, the program first, and looks for each
 * library that it needs: below its DT_RPATH and those of the objects that asked for it (unless the object
 * has a DT_RUNPATH), below its DT_RUNPATH, and in the system's folders, which are those of
 * /etc/ld.so.conf and those that the linker has built in. A file that is no ELF object for the program's
 * processor is passed over, as the linker does. A library is known by the name by which it was asked for.
 *
 * $ORIGIN is the folder of the object that asks: on the host while we look, in the archive for the name that
 * the library gets, so a program that is packed elsewhere takes its own libraries with it. All others keep
 * their paths. The linker in the guest finds them in its built-in folders, or through the host's
 * /etc/ld.so.cache (musl: /etc/ld-musl-ARCH.path), which is packed if a library lies elsewhere.
 */
#include "boot/pack/libraries.h"

#include <errno.h>
#include <glob.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot/pack/pack_impl.h"
#include "boot/pack/source.h"

#define OBJECTS_MAX 1024u
#define DIRS_MAX 128u
#define CONF_DEPTH 4u
#define CONF_FILES_MAX 256u

struct object {
	char *name, *host, *guest;
	struct pack_object parts;
	unsigned asked_by; /* the first object: itself */
};

struct search {
	struct pack *pack;
	bool musl;
	bool listed;   /* a library is found only because list says where */
	char list[64]; /* what the linker in the guest reads */
	bool is64;
	unsigned machine, files;
	char *dirs[DIRS_MAX]; /* the system's; built-in ones from builtin on */
	unsigned ndirs, builtin;
	struct object objects[OBJECTS_MAX];
	unsigned nobjects;
	struct err *err;
};

/* A place where a library may be. */
struct place {
	char host[PATH_MAX], guest[PATH_MAX];
};

static int no_memory(struct search *s)
{
	return err_sys(s->err, ENOMEM, "cannot build an initrd");
}

/* --- the system's folders --------------------------------------------------------------- */

static void add_dir(struct search *s, const char *dir, size_t len)
{
	while (len > 1 && dir[len - 1] == '/')
		len--;
	if (!len || *dir != '/' || s->ndirs == DIRS_MAX)
		return;
	s->dirs[s->ndirs] = strndup(dir, len);
	s->ndirs += s->dirs[s->ndirs] != NULL;
}

static void read_conf(struct search *s, const char *path, unsigned depth);

static void include_conf(struct search *s, const char *dir, const char *pattern, unsigned depth)
{
	char path[PATH_MAX];
	glob_t found;

	if ((size_t)snprintf(path, sizeof(path), "%s%s%s", *pattern == '/' ? "" : dir,
			     *pattern == '/' ? "" : "/", pattern) >= sizeof(path))
		return;
	if (glob(path, 0, NULL, &found) == 0)
		for (size_t i = 0; i < found.gl_pathc; i++)
			read_conf(s, found.gl_pathv[i], depth + 1);
	globfree(&found);
}

/* ldconfig(8): a folder in each line, or "include PATTERN"; '#' begins a comment. musl: also apart by ':'. */
static void read_conf(struct search *s, const char *path, unsigned depth)
{
	FILE *in = depth < CONF_DEPTH && s->files++ < CONF_FILES_MAX ? fopen(path, "re") : NULL;
	char line[PATH_MAX], *rest, *dir;

	while (in && s->ndirs < DIRS_MAX && fgets(line, sizeof(line), in)) {
		line[strcspn(line, "#\n")] = 0;
		rest = line;
		dir = strtok_r(line, s->musl ? ":" : " \t,:=", &rest);
		if (dir && !s->musl && !strcmp(dir, "include")) {
			while ((dir = strtok_r(NULL, " \t", &rest)))
				include_conf(s, "/etc", dir, depth);
			continue;
		}
		for (; dir; dir = s->musl ? strtok_r(NULL, ":", &rest) : NULL)
			add_dir(s, dir, strlen(dir));
	}
	if (in)
		fclose(in);
}

static void find_dirs(struct search *s, const char *interpreter)
{
	static const char *const glibc[] = { "/lib64", "/usr/lib64", "/lib", "/usr/lib" };
	static const char *const musl[] = { "/lib", "/usr/local/lib", "/usr/lib" };
	const char *base = strrchr(interpreter, '/') + 1;
	size_t stem = strcspn(base, "."); /* ld-musl-x86_64 */
	char path[PATH_MAX];

	s->musl = !strncmp(base, "ld-musl", 7);
	if (s->musl) {
		/* Its folders are in this file, if it is there. */
		snprintf(s->list, sizeof(s->list), "/etc/%.*s.path", stem < 40 ? (int)stem : 40,
			 base);
		read_conf(s, s->list, 0);
		s->builtin = s->ndirs;
		for (size_t i = 0; !s->ndirs && i < sizeof(musl) / sizeof(musl[0]); i++)
			add_dir(s, musl[i], strlen(musl[i]));
		return;
	}
	strcpy(s->list, "/etc/ld.so.cache");
	read_conf(s, "/etc/ld.so.conf", 0);
	s->builtin = s->ndirs;
	/* Where the linker itself lies, the C library does, too: /usr/lib/x86_64-linux-gnu. */
	if (realpath(interpreter, path))
		add_dir(s, path, (size_t)(strrchr(path, '/') - path));
	for (size_t i = 0; i < sizeof(glibc) / sizeof(glibc[0]); i++)
		add_dir(s, glibc[i], strlen(glibc[i]));
}

/* Does the linker in the guest look there without a cache? */
static bool is_builtin(const struct search *s, const char *dir)
{
	char real[PATH_MAX], other[PATH_MAX];

	for (unsigned i = s->builtin; i < s->ndirs; i++)
		if (!strcmp(dir, s->dirs[i]) ||
		    (realpath(dir, real) && realpath(s->dirs[i], other) && !strcmp(real, other)))
			return true;
	return false;
}

/* --- one library ------------------------------------------------------------------------- */

/* Opens what may be the library. Returns 1 if it is not, else 0 with *parts, or -errno. */
static int try_place(const struct search *s, const struct place *place, struct pack_object *parts)
{
	struct pack_source source;
	int ret = pack_source_open(&source, place->host, false, NULL);

	if (ret)
		return 1;
	ret = pack_object_read(&source, parts, NULL);
	pack_source_close(&source);
	if (ret)
		return ret == -ENOMEM ? ret : 1;
	if (parts->is64 == s->is64 && parts->machine == s->machine)
		return 0;
	pack_object_free(parts);
	return 1;
}

/* Takes "." and ".." out of an absolute path: no name in an archive may have them. */
static void normalise(char *path)
{
	char *to = path, *from = path;

	while (*from) {
		size_t n;

		while (*from == '/')
			from++;
		n = strcspn(from, "/");
		if (n == 2 && !memcmp(from, "..", 2)) {
			while (to > path && *--to != '/')
				;
		} else if (n && !(n == 1 && *from == '.')) {
			*to++ = '/';
			memmove(to, from, n);
			to += n;
		}
		from += n;
	}
	*to = 0;
}

/*
 * Writes DIR/name for one folder of a run-time path of object by; dir has len bytes. Returns false for one
 * that cannot be meant: relative, too long, or with a variable other than $ORIGIN.
 */
static bool place_in(const struct object *by, const char *dir, size_t len, const char *name,
		     struct place *place)
{
	static const char *const origin[] = { "$ORIGIN", "${ORIGIN}" };
	size_t skip = 0;
	int a, b;

	for (size_t i = 0; i < 2 && !skip; i++) {
		size_t n = strlen(origin[i]);

		if (len >= n && !memcmp(dir, origin[i], n) && (len == n || dir[n] == '/'))
			skip = n;
	}
	if (memchr(dir + skip, '$', len - skip) || (!skip && (!len || *dir != '/')))
		return false;
	dir += skip;
	len -= skip;
	a = snprintf(place->host, sizeof(place->host), "%.*s%.*s/%s",
		     skip ? (int)(strrchr(by->host, '/') - by->host) : 0, by->host, (int)len, dir,
		     name);
	b = snprintf(place->guest, sizeof(place->guest), "%.*s%.*s/%s",
		     skip ? (int)(strrchr(by->guest, '/') - by->guest) : 0, by->guest, (int)len,
		     dir, name);
	normalise(place->guest);
	return a < PATH_MAX && b < PATH_MAX;
}

/* Looks in the folders of a run-time path. As try_place. */
static int try_path(const struct search *s, const struct object *by, const char *path,
		    const char *name, struct place *place, struct pack_object *parts)
{
	while (path && *path) {
		size_t len = strcspn(path, ":");
		int ret = place_in(by, path, len, name, place) ? try_place(s, place, parts) : 1;

		if (ret <= 0)
			return ret;
		path += len + (path[len] == ':');
	}
	return 1;
}

static int try_all(struct search *s, unsigned by, const char *name, struct place *place,
		   struct pack_object *parts)
{
	const struct object *o = &s->objects[by];
	int ret = 1;

	if (strchr(name, '/')) {
		if (*name != '/' || strlen(name) >= PATH_MAX)
			return 1;
		strcpy(place->host, name);
		strcpy(place->guest, name);
		normalise(place->guest);
		return try_place(s, place, parts);
	}
	for (unsigned i = by; ret > 0 && !o->parts.runpath; i = s->objects[i].asked_by) {
		const struct object *at = &s->objects[i];

		if (!at->parts.runpath)
			ret = try_path(s, at, at->parts.rpath, name, place, parts);
		if (!i)
			break;
	}
	if (ret > 0)
		ret = try_path(s, o, o->parts.runpath, name, place, parts);
	for (unsigned i = 0; ret > 0 && i < s->ndirs; i++) {
		if (place_in(o, s->dirs[i], strlen(s->dirs[i]), name, place))
			ret = try_place(s, place, parts);
		s->listed |= !ret && i < s->builtin && !is_builtin(s, s->dirs[i]);
	}
	return ret;
}

/* musl is all of its libraries itself (ldso/dynlink.c: load_library). */
static bool is_musl_itself(const char *name)
{
	static const char *const parts[] = {
		"c.", "pthread.", "rt.", "m.", "dl.", "util.", "xnet."
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (!strncmp(name, "lib", 3) && !strncmp(name + 3, parts[i], strlen(parts[i])))
			return true;
	return false;
}

/* Has the user given a file of that name, wherever? */
static bool is_given(const struct pack *pack, const char *name)
{
	for (size_t i = 0; i < pack->nentries; i++) {
		const char *slash = strrchr(pack->entries[i].name, '/');

		if (slash && !strcmp(slash + 1, name))
			return true;
	}
	return false;
}

static bool is_known(const struct search *s, const char *name)
{
	const char *interpreter = strrchr(s->objects[0].parts.interpreter, '/') + 1;

	for (unsigned i = 1; i < s->nobjects; i++)
		if (!strcmp(s->objects[i].name, name))
			return true;
	return !strcmp(name, interpreter) || (s->musl && is_musl_itself(name));
}

/* Appends an object, and takes its parts over. */
static int append(struct search *s, const char *name, const struct place *place,
		  struct pack_object *parts, unsigned by)
{
	struct object *o = &s->objects[s->nobjects];

	if (s->nobjects == OBJECTS_MAX) {
		pack_object_free(parts);
		return err_set(s->err, E2BIG, "%s: needs more than %u libraries",
			       s->objects[0].host, OBJECTS_MAX - 1);
	}
	*o = (struct object){ strdup(name), strdup(place->host), strdup(place->guest), *parts, by };
	*parts = (struct pack_object){ 0 };
	s->nobjects++;
	return o->name && o->host && o->guest ? 0 : no_memory(s);
}

static int add(struct search *s, unsigned by, const char *name)
{
	struct pack_object parts = { 0 };
	struct place place;
	int ret;

	if (is_known(s, name))
		return 0;
	ret = try_all(s, by, name, &place, &parts);
	if (ret > 0)
		return is_given(s->pack, name) ?
			       0 :
			       err_set(s->err, ENOENT,
				       "%.150s needs %.100s, which is not on this host",
				       s->objects[by].host, name);
	if (ret)
		return no_memory(s);
	if (!pack_has(s->pack, place.guest)) {
		ret = pack_add_file(s->pack, place.guest, place.host, s->err);
		if (ret) {
			pack_object_free(&parts);
			return ret;
		}
	}
	return append(s, name, &place, &parts, by);
}

static int walk(struct search *s)
{
	for (unsigned i = 0; i < s->nobjects; i++) {
		/* objects do not move */
		const struct pack_object *parts = &s->objects[i].parts;

		for (size_t n = 0; n < parts->nneeded; n++) {
			int ret = add(s, i, parts->needed[n]);

			if (ret)
				return ret;
		}
	}
	return 0;
}

static void destroy(struct search *s)
{
	for (unsigned i = 0; i < s->nobjects; i++) {
		free(s->objects[i].name);
		free(s->objects[i].host);
		free(s->objects[i].guest);
		pack_object_free(&s->objects[i].parts);
	}
	for (unsigned i = 0; i < s->ndirs; i++)
		free(s->dirs[i]);
	free(s);
}

int pack_add_libraries(struct pack *pack, struct pack_object *program, const char *host,
		       const char *guest, struct err *err)
{
	struct search *s = calloc(1, sizeof(*s));
	struct place place;
	int ret;

	if (!s) {
		pack_object_free(program);
		return err_sys(err, ENOMEM, "cannot build an initrd");
	}
	s->pack = pack;
	s->err = err;
	s->is64 = program->is64;
	s->machine = program->machine;
	find_dirs(s, program->interpreter);
	snprintf(place.host, sizeof(place.host), "%s", host);
	snprintf(place.guest, sizeof(place.guest), "%s%s", *guest == '/' ? "" : "/", guest);
	ret = append(s, "", &place, program, 0);
	if (!ret)
		ret = walk(s);
	if (!ret && s->listed && !pack_has(pack, s->list) && access(s->list, R_OK) == 0)
		ret = pack_add_file(pack, s->list, s->list, err);
	destroy(s);
	return ret;
}
