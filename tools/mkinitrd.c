/*
 * mkinitrd: packs an init, kernel modules and files into an initrd.
 *
 * It resolves modules by the tree's own modules.dep (hard dependencies) and
 * modules.softdep ("pre", such as ext4's crc32c), unpacks compressed ones,
 * and lists them in load order in /modules.list, which guest/init reads.
 * It runs nothing of the initrd's contents except through the host's ldd, to find
 * a program's libraries. The same input gives the same bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lzma.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "boot/cpio.h"

#define MAX_MODULE_BYTES (256u << 20)

enum kind { DIRECTORY, REGULAR, CONSOLE };

struct entry {
	char *name; /* no leading slash */
	enum kind kind;
	unsigned perm;
	char *data;
	size_t len;
};

struct module {
	char *name;  /* with '_' in place of '-' */
	char *path;  /* within the tree */
	char *needs; /* paths; the one to load first is last */
	bool listed;
};

static const char usage[] =
	"usage: mkinitrd -o FILE [options]\n"
	"  -i FILE             program to run first, as /init\n"
	"  -M DIR              tree with modules.dep (/lib/modules/RELEASE)\n"
	"  -m NAME[?][:ARGS]   module with what it needs; '?': if this kernel has it;\n"
	"                      several apart by commas when they have no arguments\n"
	"  -f SRC:DST          host file and its path in the initrd\n"
	"  -l                  with the shared libraries of each -f that follows\n"
	"  -t DST=TEXT         file with that text and a newline\n"
	"  -z, -Z              compress with gzip, with zstd\n";

static struct {
	struct entry *entries;
	size_t nentries;
	struct module *modules;
	size_t nmodules;
	const char *moddir;
	char *list; /* /modules.list */
	size_t list_len;
	FILE *list_file;
} rd;

static _Noreturn void die_line(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	exit(1);
}

#define die(fmt, ...) die_line("mkinitrd: " fmt "\n", ##__VA_ARGS__)

static void *need(void *p)
{
	if (!p)
		die("out of memory");
	return p;
}

static char *format(const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		die("out of memory");
	va_end(ap);
	return text;
}

/* Maps a whole file, so that a large one costs no memory until it is written out. */
static char *map_file(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *data = NULL;

	if (fd < 0 || fstat(fd, &st))
		die("%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		die("%s: not a regular file", path);
	*len = (size_t)st.st_size;
	if (*len)
		data = mmap(NULL, *len, PROT_READ, MAP_PRIVATE, fd, 0);
	if (data == MAP_FAILED)
		die("%s: %s", path, strerror(errno));
	close(fd);
	return data;
}

/* --- entries --------------------------------------------------------------- */

static struct entry *find_entry(const char *name)
{
	for (size_t i = 0; i < rd.nentries; i++)
		if (!strcmp(rd.entries[i].name, name))
			return &rd.entries[i];
	return NULL;
}

/* Adds an entry and the directories above it. Keeps data, without a copy. */
static void add_entry(const char *name, enum kind kind, unsigned perm, char *data, size_t len)
{
	struct entry *old;
	char *copy, *slash;

	while (*name == '/')
		name++;
	old = find_entry(name);
	if (old) {
		if (kind != DIRECTORY || old->kind != DIRECTORY)
			die("/%s is given twice", name);
		return;
	}
	copy = need(strdup(name));
	slash = strrchr(copy, '/');
	if (slash) {
		*slash = 0;
		add_entry(copy, DIRECTORY, 0755, NULL, 0);
		*slash = '/';
	}
	rd.entries = need(realloc(rd.entries, (rd.nentries + 1) * sizeof(*rd.entries)));
	rd.entries[rd.nentries++] = (struct entry){ copy, kind, perm, data, len };
}

static void add_host_file(const char *source, const char *name)
{
	struct stat st;
	size_t len;
	char *data = map_file(source, &len);

	if (stat(source, &st))
		die("%s: %s", source, strerror(errno));
	add_entry(name, REGULAR, st.st_mode & 0111 ? 0755 : 0644, data, len);
}

/* Adds the shared libraries of a program, at the same paths as on this host. */
static void add_libraries(const char *program)
{
	int ends[2];
	char line[PATH_MAX + 128];
	FILE *in;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		die("pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (pid == 0) {
		dup2(ends[1], 1);
		if (freopen("/dev/null", "w", stderr))
			execlp("ldd", "ldd", program, (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	in = need(fdopen(ends[0], "r"));
	while (fgets(line, sizeof(line), in)) {
		char *path = strchr(line, '/'), *end;

		if (strstr(line, "not found"))
			die("%s: needs a library that is missing:%s", program, line);
		end = path ? strstr(path, " (0x") : NULL;
		if (!end)
			continue; /* the vDSO, or "statically linked" */
		*end = 0;
		if (!find_entry(path + 1))
			add_host_file(path, path);
	}
	fclose(in);
	waitpid(pid, NULL, 0);
}

/* --- modules --------------------------------------------------------------- */

/* Returns "virtio_blk" for kernel/drivers/block/virtio_blk.ko.xz. The caller frees it. */
static char *module_name(const char *path)
{
	const char *base = strrchr(path, '/');
	char *name = need(strdup(base ? base + 1 : path));
	char *ko = strstr(name, ".ko");

	if (ko)
		*ko = 0;
	for (char *c = name; *c; c++)
		*c = *c == '-' ? '_' : *c;
	return name;
}

static struct module *find_module(const char *name)
{
	for (size_t i = 0; i < rd.nmodules; i++)
		if (!strcmp(rd.modules[i].name, name))
			return &rd.modules[i];
	return NULL;
}

/* Calls fn for every line of a file of the module tree; a missing file counts as empty. */
static void each_line(const char *file, void (*fn)(char *line, void *arg), void *arg)
{
	char *path = format("%s/%s", rd.moddir, file), *line = NULL;
	FILE *in = fopen(path, "re");
	size_t size = 0;

	if (!in && errno != ENOENT)
		die("%s: %s", path, strerror(errno));
	while (in && getline(&line, &size, in) > 0) {
		line[strcspn(line, "\n")] = 0;
		fn(line, arg);
	}
	if (in)
		fclose(in);
	free(line), free(path);
}

static void read_dep(char *line, void *arg)
{
	char *colon = strchr(line, ':');

	(void)arg;
	if (!colon)
		return;
	*colon = 0;
	rd.modules = need(realloc(rd.modules, (rd.nmodules + 1) * sizeof(*rd.modules)));
	rd.modules[rd.nmodules++] = (struct module){ .name = module_name(line),
						     .path = need(strdup(line)),
						     .needs = need(strdup(colon + 1)) };
}

/* arg points to the name sought, and sets it to NULL when found. */
static void match_builtin(char *line, void *arg)
{
	const char **sought = arg;
	char *name = module_name(line);

	if (*sought && !strcmp(name, *sought))
		*sought = NULL;
	free(name);
}

/* Of the modules with an alias, takes the generic one, which works on every CPU. */
struct alias_query {
	const char *alias;
	char *name;
};

static void match_alias(char *line, void *arg)
{
	struct alias_query *query = arg;
	char alias[128], name[128];

	if (sscanf(line, "alias %127s %127s", alias, name) != 2 || strcmp(alias, query->alias))
		return;
	if (query->name && !strstr(name, "_generic"))
		return;
	free(query->name);
	query->name = module_name(name);
}

static char *unpack_xz(const char *path, const char *data, size_t len, size_t *out_len)
{
	uint64_t limit = MAX_MODULE_BYTES;
	size_t size = len * 4 + 65536, in = 0, at = 0;
	char *buf = need(malloc(size));
	lzma_ret ret;

	while ((ret = lzma_stream_buffer_decode(&limit, 0, NULL, (const uint8_t *)data, &in, len,
						(uint8_t *)buf, &at, size)) == LZMA_BUF_ERROR &&
	       size < MAX_MODULE_BYTES) {
		size *= 2;
		buf = need(realloc(buf, size));
		in = at = 0;
	}
	if (ret != LZMA_OK)
		die("%s: damaged xz data", path);
	*out_len = at;
	return buf;
}

static char *unpack_zstd(const char *path, const char *data, size_t len, size_t *out_len)
{
	unsigned long long size = ZSTD_getFrameContentSize(data, len);
	char *buf;

	if (size > MAX_MODULE_BYTES) /* or one of the two error values */
		die("%s: damaged zstd data", path);
	buf = need(malloc(size + 1));
	*out_len = ZSTD_decompress(buf, size, data, len);
	if (ZSTD_isError(*out_len))
		die("%s: damaged zstd data", path);
	return buf;
}

/* Packs the module and appends it to the load list, unless it is there already. */
static void list_module(struct module *module, const char *args)
{
	char *source = format("%s/%s", rd.moddir, module->path);
	char *name = format("modules/%s.ko", module->name);
	size_t len;
	char *data;

	if (module->listed)
		return;
	module->listed = true;
	data = map_file(source, &len);
	if (len > 6 && !memcmp(data,
			       "\xfd"
			       "7zXZ",
			       6))
		data = unpack_xz(source, data, len, &len);
	else if (len > 4 && !memcmp(data, "\x28\xb5\x2f\xfd", 4))
		data = unpack_zstd(source, data, len, &len);
	add_entry(name, REGULAR, 0644, data, len);
	fprintf(rd.list_file, "/%s%s%s\n", name, *args ? " " : "", args);
	free(source);
	free(name);
}

static void add_module(const char *spec);

static void add_softdep(char *line, void *arg)
{
	const char *name = arg;
	char *save = NULL, *word = strtok_r(line, " ", &save), *of, *end;
	bool pre = false;

	if (!word || strcmp(word, "softdep"))
		return;
	word = strtok_r(NULL, " ", &save);
	of = word ? module_name(word) : NULL;
	if (of && !strcmp(of, name)) {
		while ((word = strtok_r(NULL, " ", &save)) != NULL) {
			if (!strcmp(word, "pre:") || !strcmp(word, "post:")) {
				pre = word[1] == 'r';
			} else if (pre) {
				end = format("%s?", word);
				add_module(end);
				free(end);
			}
		}
	}
	free(of);
}

/* NAME[?][:ARGS]: with '?', a kernel without the module is no error. */
static void add_module(const char *spec)
{
	size_t len = strcspn(spec, "?:");
	char *plain = need(strndup(spec, len)), *name = module_name(plain), *save = NULL,
	     *paths[64];
	const char *colon = strchr(spec, ':');
	const char *sought = name;
	struct alias_query alias = { .alias = plain };
	struct module *module = find_module(name);
	size_t n = 0;

	if (!module) {
		each_line("modules.builtin", match_builtin, &sought);
		if (sought) {
			each_line("modules.alias", match_alias, &alias);
			module = alias.name ? find_module(alias.name) : NULL;
			if (!module && spec[len] != '?')
				die("no module %s in %s", name, rd.moddir);
		}
	}
	if (module && !module->listed) {
		char *needs = need(strdup(module->needs));

		for (char *p = strtok_r(needs, " ", &save); p && n < 64;
		     p = strtok_r(NULL, " ", &save))
			paths[n++] = p;
		while (n--) {
			char *dep = module_name(paths[n]);
			struct module *found = find_module(dep);

			if (!found)
				die("%s needs %s, which modules.dep does not have", name, paths[n]);
			if (!found->listed)
				each_line("modules.softdep", add_softdep, found->name);
			list_module(found, "");
			free(dep);
		}
		each_line("modules.softdep", add_softdep, module->name);
		list_module(module, colon ? colon + 1 : "");
		free(needs);
	}
	free(alias.name);
	free(name);
	free(plain);
}

/* --- the archive ------------------------------------------------------------ */

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static void write_archive(FILE *out)
{
	struct cpio cpio;

	qsort(rd.entries, rd.nentries, sizeof(*rd.entries), by_name);
	cpio_init(&cpio, out);
	for (size_t i = 0; i < rd.nentries; i++) {
		const struct entry *e = &rd.entries[i];
		int ret;

		if (e->kind == DIRECTORY)
			ret = cpio_add_dir(&cpio, e->name, e->perm);
		else if (e->kind == CONSOLE)
			ret = cpio_add_chardev(&cpio, e->name, e->perm, 5, 1);
		else
			ret = cpio_add_file(&cpio, e->name, e->perm, e->data, e->len);
		if (ret)
			die("/%s: %s", e->name, strerror(-ret));
	}
	if (cpio_finish(&cpio))
		die("cannot write: %s", strerror(-cpio.error));
}

static void *compress_gzip(const char *data, size_t len, size_t *out_len)
{
	z_stream z = { 0 };
	void *buf;

	if (len > UINT_MAX ||
	    deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY) != Z_OK)
		die("gzip: cannot compress %zu bytes", len);
	*out_len = deflateBound(&z, len);
	buf = need(malloc(*out_len));
	z.next_in = (Bytef *)data;
	z.avail_in = (unsigned)len;
	z.next_out = buf;
	z.avail_out = (unsigned)*out_len;
	if (deflate(&z, Z_FINISH) != Z_STREAM_END)
		die("gzip: compression failed");
	*out_len = z.total_out;
	deflateEnd(&z);
	return buf;
}

static void *compress_zstd(const char *data, size_t len, size_t *out_len)
{
	size_t bound = ZSTD_compressBound(len);
	void *buf = need(malloc(bound));

	*out_len = ZSTD_compress(buf, bound, data, len, 6);
	if (ZSTD_isError(*out_len))
		die("zstd: %s", ZSTD_getErrorName(*out_len));
	return buf;
}

/* Writes a new file beside path and renames it, so that no reader sees an incomplete initrd. */
static void write_out(const char *path, char compression)
{
	char *temp = format("%s.%d", path, (int)getpid()), *data = NULL;
	FILE *out = fopen(temp, "we"), *memory;
	size_t len = 0;
	void *packed = NULL;

	if (!out)
		die("%s: %s", temp, strerror(errno));
	if (compression) {
		memory = need(open_memstream(&data, &len));
		write_archive(memory);
		fclose(memory);
		packed = compression == 'z' ? compress_gzip(data, len, &len) :
					      compress_zstd(data, len, &len);
		fwrite(packed, 1, len, out);
	} else {
		write_archive(out);
	}
	if (fflush(out) || ferror(out) || fclose(out) || rename(temp, path)) {
		unlink(temp);
		die("%s: %s", path, strerror(errno));
	}
	free(packed);
	free(data);
	free(temp);
}

static void set_modules_dir(const char *path)
{
	rd.moddir = path;
	each_line("modules.dep", read_dep, NULL);
	if (!rd.nmodules)
		die("%s: no modules.dep", path);
}

/* --module: one module with arguments, or several separated by commas. */
static void add_modules(char *spec)
{
	char *save = NULL;

	if (!rd.moddir)
		die("--module %s: give --modules-dir first", spec);
	if (strchr(spec, ':')) {
		add_module(spec);
		return;
	}
	for (char *one = strtok_r(spec, ",", &save); one; one = strtok_r(NULL, ",", &save))
		add_module(one);
}

/* Splits SRC:DST or DST=TEXT in place. Returns the second part. */
static char *split(const char *option, char *arg, char *sep)
{
	if (!sep || sep == arg)
		die("%s %s: must be %s", option, arg, option[1] == 'f' ? "SRC:DST" : "DST=TEXT");
	*sep = 0;
	return sep + 1;
}

int main(int argc, char **argv)
{
	const char *output = NULL;
	bool libs = false;
	char compression = 0, *rest;
	int opt;

	rd.list_file = need(open_memstream(&rd.list, &rd.list_len));
	add_entry("dev", DIRECTORY, 0755, NULL, 0);
	add_entry("dev/console", CONSOLE, 0600, NULL, 0);
	while ((opt = getopt(argc, argv, "o:i:M:m:f:t:lzZh")) != -1) {
		switch (opt) {
		case 'o':
			output = optarg;
			break;
		case 'i':
			add_host_file(optarg, "/init");
			break;
		case 'M':
			set_modules_dir(optarg);
			break;
		case 'm':
			add_modules(optarg);
			break;
		case 'f':
			rest = split("-f", optarg, strrchr(optarg, ':'));
			add_host_file(optarg, rest);
			if (libs)
				add_libraries(optarg);
			break;
		case 't':
			rest = format("%s\n", split("-t", optarg, strchr(optarg, '=')));
			add_entry(optarg, REGULAR, 0644, rest, strlen(rest));
			break;
		case 'l':
			libs = true;
			break;
		case 'z':
		case 'Z':
			compression = (char)opt;
			break;
		default:
			fputs(usage, opt == 'h' ? stdout : stderr);
			return opt == 'h' ? 0 : 2;
		}
	}
	if (!output || optind < argc) {
		fputs(usage, stderr);
		return 2;
	}
	fclose(rd.list_file);
	if (rd.list_len)
		add_entry("modules.list", REGULAR, 0644, rd.list, rd.list_len);
	write_out(output, compression);
	return 0;
}
