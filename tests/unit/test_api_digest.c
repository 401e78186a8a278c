/* digest: canonical JSON, what a definition covers, sums of files, and the thread that finds them. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/store/store.h"
#include "tests/unit/proc.h"
#include "vmm/digest/canonical.h"
#include "vmm/digest/definition.h"
#include "vmm/digest/digest.h"
#include "vmm/digest/sums.h"
#include "vmm/core/clock.h"

static char dir[64];
static struct err err;

/* --- a read that hangs until the test lets it go, as of a dead network file system ------- */

static atomic_int hang; /* 1: the next read hangs; 2: it does */

ssize_t __real_read(int fd, void *buf, size_t len);
ssize_t __wrap_read(int fd, void *buf, size_t len);

ssize_t __wrap_read(int fd, void *buf, size_t len)
{
	int one = 1;

	if (atomic_compare_exchange_strong(&hang, &one, 2))
		while (atomic_load(&hang))
			usleep(1000);
	return __real_read(fd, buf, len);
}

static void setup(void)
{
	strcpy(dir, "/var/tmp/digest-XXXXXX");
	cr_assert(mkdtemp(dir));
}

static void teardown(void)
{
	char command[96];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	cr_expect_eq(system(command), 0);
}

TestSuite(api_digest, .init = setup, .fini = teardown, .timeout = 60);

static const char *path_of(const char *name)
{
	static char paths[8][128];
	static unsigned next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static const char *put_file(const char *name, const char *text)
{
	const char *path = path_of(name);
	FILE *f = fopen(path, "w");

	fputs(text, f);
	fclose(f);
	return path;
}

/* --- canonical JSON ---------------------------------------------------------------------- */

static const struct {
	const char *in, *out;
} canonical_rows[] = {
	/* RFC 8785, 3.2.2, without its numbers that are no integers, and 3.2.4 */
	{ "{\"numbers\": [4, -7, 0, 30], \"string\": "
	  "\"\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\\"\\/\", "
	  "\"literals\": [null, true, false]}",
	  "{\"literals\":[null,true,false],\"numbers\":[4,-7,0,30],\"string\":\"€$\\u000f\\nA'B\\\"\\\\"
	  "\\\\\\\"/\"}" },
	/* RFC 8785, 3.2.3 */
	{ "{\"\\u20ac\": \"Euro Sign\", \"\\r\": \"Carriage Return\", \"\\ufb33\": \"Hebrew Letter "
	  "Dalet With Dagesh\", \"1\": \"One\", \"\\ud83d\\ude00\": \"Emoji: Grinning Face\", "
	  "\"\\u0080\": \"Control\", \"\\u00f6\": \"Latin Small Letter O With Diaeresis\"}",
	  "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\xc2\x80\":\"Control\",\"ö\":\"Latin Small "
	  "Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\"\xef\xac\xb3"
	  "\":\"Hebrew Letter Dalet With Dagesh\"}" },
	{ "{\"b\": {\"z\": 1, \"a\": [ ]}, \"aa\": { }, \"a\": 2, \"\": 3}",
	  "{\"\":3,\"a\":2,\"aa\":{},\"b\":{\"a\":[],\"z\":1}}" },
	{ "[[3, 1, 2], \"\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f\\u007f \"]",
	  "[[3,1,2],\"\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f\x7f \"]" },
	/* RFC 8785, appendix B: as doubles */
	{ "[9007199254740992, -9007199254740992, 9007199254740991]",
	  "[9007199254740992,-9007199254740992,9007199254740991]" },
	{ "[9007199254740993, 9007199254740994, 9007199254740995]",
	  "[9007199254740992,9007199254740994,9007199254740996]" },
	{ "[9223372036854775807, -9223372036854775808, 1152921504606846976, 1000000000000000000]",
	  "[9223372036854776000,-9223372036854776000,1152921504606847000,1000000000000000000]" },
	{ "[-0, 0]", "[0,0]" },
};

Test(api_digest, canonical)
{
	for (size_t i = 0; i < sizeof(canonical_rows) / sizeof(canonical_rows[0]); i++) {
		json_t *value = json_loads(canonical_rows[i].in, JSON_ALLOW_NUL, NULL);
		char *text;

		cr_assert(value, "%s", canonical_rows[i].in);
		cr_assert_eq(canonical_json(value, &text, &err), 0, "%s", err.text);
		cr_expect_str_eq(text, canonical_rows[i].out);
		free(text);
		json_decref(value);
	}
}

Test(api_digest, canonical_refuses)
{
	static const char *const rows[] = { "[1.5]", "{\"a\":[1e3]}", "[-0.0]" };
	json_t *deep = json_array(), *value;
	char *text;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		value = json_loads(rows[i], 0, NULL);
		cr_expect_eq(canonical_json(value, &text, &err), -EINVAL);
		cr_expect(!text && strstr(err.text, "no integer"), "%s", err.text);
		json_decref(value);
	}
	for (int i = 0; i < 100; i++) {
		value = json_array();
		json_array_append_new(value, deep);
		deep = value;
	}
	cr_expect_eq(canonical_json(deep, &text, &err), -EINVAL);
	cr_expect(strstr(err.text, "levels"), "%s", err.text);
	json_decref(deep);
}

/* --- sums of files ------------------------------------------------------------------------- */

static const char *sum(struct sums *sums, const char *path, bool disk, const char *format)
{
	static char hex[DEFINITION_HEX_BYTES];
	struct definition_file file = { .path = path, .disk = disk, .format = format };

	cr_assert_eq(sums_of(sums, &file, hex, &err), 0, "%s", err.text);
	return hex;
}

/* What sha256sum prints for the file. */
static const char *oracle(const char *path)
{
	static char hex[DEFINITION_HEX_BYTES];
	char command[160];
	FILE *f;

	snprintf(command, sizeof(command), "sha256sum <%s", path);
	f = popen(command, "r");
	cr_assert_eq(fread(hex, 1, 64, f), 64);
	pclose(f);
	return hex;
}

/* A file with data and holes, of a size that is no multiple of anything. */
static const char *sparse_file(const char *name, off_t size)
{
	const char *path = path_of(name);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	cr_assert_eq(ftruncate(fd, size), 0);
	for (off_t at = 0; at + 4096 < size; at += size / 5)
		cr_assert_eq(pwrite(fd, path, strlen(path), at), (ssize_t)strlen(path));
	close(fd);
	return path;
}

static void make_qcow2(const char *path, const char *backing, uint64_t bytes)
{
	struct store_create create = { .path = path,
				       .format = STORE_QCOW2,
				       .size_bytes = bytes,
				       .backing = backing,
				       .backing_format = backing ? STORE_RAW : STORE_AUTO };

	cr_assert_eq(store_create(&create, &err), 0, "%s", err.text);
}

static void write_disk(const char *path, uint64_t at, const char *text)
{
	struct store_options options = { .path = path, .format = STORE_QCOW2 };
	struct store *s;

	cr_assert_eq(store_open(&options, &s, &err), 0, "%s", err.text);
	cr_assert_eq(store_write(s, text, at, strlen(text)), 0);
	cr_assert_eq(store_close(s), 0);
}

Test(api_digest, sums_are_those_of_sha256sum)
{
	static const off_t sizes[] = { 0, 1, 55, 56, 64, 100000, 262144, 262145, 5000001 };
	struct sums *sums = calloc(1, sizeof(*sums));
	char hex[DEFINITION_HEX_BYTES];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		const char *path = sparse_file("f", sizes[i]);

		cr_expect_str_eq(sum(sums, path, false, NULL), oracle(path));
		cr_expect_str_eq(sum(sums, path, true, "Raw"), oracle(path));
		cr_expect_str_eq(sum(sums, path, true, NULL), oracle(path));
	}
	sums_of_text("abc", hex);
	cr_expect_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	free(sums);
}

Test(api_digest, sum_of_qcow2_is_of_what_the_guest_reads)
{
	struct sums *sums = calloc(1, sizeof(*sums));
	const char *raw = sparse_file("base", 1 << 20), *image = path_of("over.qcow2");
	char first[DEFINITION_HEX_BYTES], second[DEFINITION_HEX_BYTES];
	int fd;

	make_qcow2(image, raw, 1 << 20);
	strcpy(first, sum(sums, image, true, "Qcow2"));
	cr_expect_str_eq(first, oracle(raw));
	cr_expect_str_eq(sum(sums, image, true, NULL), first, "by its name");
	write_disk(image, 70000, "changed");
	strcpy(second, sum(sums, image, true, "Qcow2"));
	cr_expect_str_neq(second, first);
	fd = open(raw, O_RDWR);
	cr_assert_eq(pwrite(fd, "changed", 7, 70000), 7);
	close(fd);
	cr_expect_str_eq(second, oracle(raw), "the same bytes, in the backing file now");
	/* The image's own file is as it was; its backing file is not. */
	fd = open(raw, O_RDWR);
	cr_assert_eq(pwrite(fd, "below", 5, 300000), 5);
	close(fd);
	cr_expect_str_eq(sum(sums, image, true, "Qcow2"), oracle(raw));
	free(sums);
}

Test(api_digest, unchanged_files_are_not_read_again)
{
	struct sums *sums = calloc(1, sizeof(*sums));
	const char *file = sparse_file("f", 1 << 20), *image = path_of("i.qcow2");
	char was[DEFINITION_HEX_BYTES];
	uint64_t before;
	struct stat st;
	int fd;

	make_qcow2(image, NULL, 1 << 20);
	strcpy(was, sum(sums, file, false, NULL));
	sum(sums, image, true, NULL);
	before = sums->read_bytes;
	cr_expect_eq(before, 2 << 20);
	cr_expect_str_eq(sum(sums, file, false, NULL), was);
	sum(sums, image, true, NULL);
	cr_expect_eq(sums->read_bytes, before);
	/* The same size, and the old modification time. */
	cr_assert_eq(stat(file, &st), 0);
	fd = open(file, O_RDWR);
	cr_assert_eq(pwrite(fd, "X", 1, 5), 1);
	cr_assert_eq(futimens(fd, (struct timespec[]){ st.st_atim, st.st_mtim }), 0);
	close(fd);
	cr_expect_str_neq(sum(sums, file, false, NULL), was);
	/* More files than are kept. */
	for (unsigned i = 0; i < 3 * SUMS_KEPT; i++) {
		char name[16];

		snprintf(name, sizeof(name), "n%u", i);
		sum(sums, put_file(name, name), false, NULL);
	}
	cr_expect_eq(sums->n, SUMS_KEPT);
	before = sums->read_bytes;
	sum(sums, path_of("n191"), false, NULL);
	cr_expect_eq(sums->read_bytes, before);
	free(sums);
}

Test(api_digest, sums_refused)
{
	struct sums *sums = calloc(1, sizeof(*sums));
	struct definition_file rows[] = {
		{ .path = path_of("none") },
		{ .path = dir },
		{ .path = "/dev/zero" },
		{ .path = path_of("fifo") },
		{ .path = path_of("none"), .disk = true },
		{ .path = put_file("text", "no image"), .disk = true, .format = "Qcow2" },
	};
	static const char *const texts[] = { "No such file",	   "not a regular file",
					     "not a regular file", "not a regular file",
					     "No such file",	   "text" };
	unsigned fds = proc_fds(0);
	char hex[DEFINITION_HEX_BYTES];

	cr_assert_eq(mkfifo(path_of("fifo"), 0600), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		err.text[0] = 0;
		cr_expect_lt(sums_of(sums, &rows[i], hex, &err), 0, "%s", rows[i].path);
		cr_expect(strstr(err.text, texts[i]), "%s: %s", rows[i].path, err.text);
	}
	cr_expect_eq(proc_fds(0), fds);
	free(sums);
}

static void *touch_later(void *opaque)
{
	int fd = open(opaque, O_RDWR);

	while (atomic_load(&hang) != 2)
		usleep(1000);
	cr_assert_eq(pwrite(fd, "Y", 1, 900000), 1);
	close(fd);
	atomic_store(&hang, 0);
	return NULL;
}

Test(api_digest, a_file_that_changes_meanwhile)
{
	struct sums *sums = calloc(1, sizeof(*sums));
	struct definition_file file = { .path = sparse_file("f", 1 << 20) };
	char hex[DEFINITION_HEX_BYTES];
	pthread_t thread;

	/* The clock of files ticks every few milliseconds. */
	usleep(20000);
	atomic_store(&hang, 1);
	pthread_create(&thread, NULL, touch_later, (void *)file.path);
	cr_expect_eq(sums_of(sums, &file, hex, &err), -EBUSY);
	cr_expect(strstr(err.text, "changed while it was read"), "%s", err.text);
	pthread_join(thread, NULL);
	cr_expect_str_eq(sum(sums, file.path, false, NULL), oracle(file.path));
	free(sums);
}

/* --- what a definition covers ----------------------------------------------------------------- */

/* The files' names stand for paths in dir. */
static const char base_vm[] =
	"{'cpus':{'boot_vcpus':2,'max_vcpus':2},'memory':{'size':536870912,'shared':false},"
	"'payload':{'kernel':'@kernel','initramfs':'@initrd','cmdline':'console=ttyS0'},"
	"'disks':[{'id':'_disk0','path':'@disk','readonly':false,'image_type':'Raw','num_queues':1},"
	"{'id':'_disk1','path':'@seed','readonly':true,'image_type':'Raw'}],"
	"'net':[{'id':'_net2','tap':'vmtap0','mac':'02:00:00:00:00:01','ip':'10.0.0.1','mtu':1500}],"
	"'fs':[{'tag':'share','socket':'/run/fs'}],'vsock':{'cid':3,'socket':'/run/v'},"
	"'rng':{'src':'/dev/urandom'},'serial':{'mode':'Pty','file':'/dev/pts/3'},"
	"'console':{'mode':'Off'},'metadata':{'owner':'ann'},'platform':{'uuid':'1'}}";

/* Loads the VM with the first piece replaced by the second; ' is ". */
static json_t *vm_with(const char *from, const char *to)
{
	static char text[4096];
	const char *at = base_vm, *found = from ? strstr(base_vm, from) : NULL;
	char *p = text;
	json_t *vm;

	cr_assert(!from || found, "%s", from);
	while (*at) {
		if (at == found) {
			const char *piece = to;

			for (; *piece; piece++)
				p += *piece == '@' ? sprintf(p, "%s/", dir) :
						     sprintf(p, "%c", *piece);
			at += strlen(from);
		} else {
			p += *at == '@' ? sprintf(p, "%s/", dir) : sprintf(p, "%c", *at);
			at++;
		}
	}
	for (p = text; (p = strchr(p, '\''));)
		*p = '"';
	vm = json_loads(text, 0, NULL);
	cr_assert(vm, "%s", text);
	return vm;
}

static void put_files(void)
{
	put_file("kernel", "a kernel");
	put_file("other-kernel", "a kernel");
	put_file("new-kernel", "another kernel");
	put_file("initrd", "an initrd");
	put_file("disk", "a disk");
	put_file("seed", "a seed");
	put_file("seed2", "a seed");
	put_file("seed3", "a seed!");
}

static void digest_of(const char *from, const char *to, char hex[DEFINITION_HEX_BYTES])
{
	json_t *vm = vm_with(from, to), *before = json_deep_copy(vm);

	cr_assert_eq(digest_now(vm, hex, &err), 0, "%s", err.text);
	cr_expect(json_equal(vm, before), "the configuration stays as it is");
	json_decref(before);
	json_decref(vm);
}

Test(api_digest, what_counts)
{
	static const struct {
		bool same;
		const char *from, *to;
	} rows[] = {
		/* places, and what the host chose */
		{ true, "@kernel", "@other-kernel" },
		{ true, "@seed", "@seed2" },
		{ true, "@disk", "@disk-that-is-not-there" },
		{ true, "vmtap0", "vmtap7" },
		{ true, "02:00:00:00:00:01", "02:00:00:00:00:02" },
		{ true, "'ip':'10.0.0.1',", "'fds':[7,8],'mask':'255.0.0.0','host_mac':'02::'," },
		{ true, "/run/fs", "/run/other" },
		{ true, "/run/v", "/tmp/v" },
		{ true, "/dev/urandom", "/dev/hwrng" },
		{ true, "/dev/pts/3", "/dev/pts/4" },
		{ true, "'metadata':{'owner':'ann'}", "'metadata':[1.5,'x']" },
		{ true, "'max_vcpus':2", "'affinity':[{'vcpu':0,'host_cpus':[3]}],'max_vcpus':2" },
		{ true, "'boot_vcpus':2,'max_vcpus':2", "'max_vcpus':2,'boot_vcpus':2" },
		/* content, and what the guest can see */
		{ false, "@kernel", "@new-kernel" },
		{ false, "'initramfs':'@initrd',", "" },
		{ false, "@initrd", "@seed" },
		{ false, "@seed", "@seed3" },
		{ false, "console=ttyS0", "console=ttyS1" },
		{ false, "'boot_vcpus':2", "'boot_vcpus':1" },
		{ false, "536870912", "536870913" },
		{ false, "'shared':false", "'shared':true" },
		{ false, "'readonly':false", "'readonly':true" },
		{ false, "'readonly':true", "'readonly':false" },
		{ false, "'path':'@disk'", "'vhost_user':true,'vhost_socket':'/x'" },
		{ false, "'num_queues':1", "'num_queues':2" },
		{ false, "'mtu':1500", "'mtu':1400" },
		{ false, "'tag':'share'", "'tag':'other'" },
		{ false, "'cid':3", "'cid':4" },
		{ false, "'Pty'", "'Null'" },
		{ false, "'uuid':'1'", "'uuid':'2'" },
		{ false, "'tap':'vmtap0'", "'stream':'/run/x'" },
		{ false, "'id':'_disk0'", "'id':'root'" },
	};
	char base[DEFINITION_HEX_BYTES], hex[DEFINITION_HEX_BYTES];

	put_files();
	digest_of(NULL, NULL, base);
	cr_expect_eq(strspn(base, "0123456789abcdef"), 64);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		digest_of(rows[i].from, rows[i].to, hex);
		cr_expect_eq(!strcmp(hex, base), rows[i].same, "%s -> %s", rows[i].from,
			     rows[i].to);
	}
}

/* Known text and digest: they change by intent only. */
Test(api_digest, stays_the_same)
{
	json_t *vm = json_pack("{s:{s:s,s:s},s:[{s:s,s:b}]}", "payload", "kernel",
			       put_file("kernel", "abc"), "cmdline", "quiet", "disks", "path",
			       put_file("disk", "abc"), "readonly", 1);
	char hex[DEFINITION_HEX_BYTES], expected[DEFINITION_HEX_BYTES];

	cr_assert_eq(digest_now(vm, hex, &err), 0, "%s", err.text);
	sums_of_text("{\"definition\":1,\"vm\":{\"disks\":[{\"path\":\"sha256:"
		     "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\","
		     "\"readonly\":true}],\"payload\":{\"cmdline\":\"quiet\",\"kernel\":\"sha256:"
		     "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"}}}",
		     expected);
	cr_expect_str_eq(hex, expected);
	json_decref(vm);
}

Test(api_digest, wrong_types_do_no_harm)
{
	static const char *const rows[] = {
		"[]",
		"{}",
		"null",
		"{\"payload\":[1,{\"kernel\":7}],\"disks\":{\"path\":true}}",
		"{\"disks\":[[],null,{\"readonly\":true,\"path\":[]}],\"net\":\"x\"}",
	};
	char hex[DEFINITION_HEX_BYTES];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *vm = json_loads(rows[i], JSON_DECODE_ANY, NULL);

		cr_expect_eq(digest_now(vm, hex, &err), 0, "%s: %s", rows[i], err.text);
		json_decref(vm);
	}
}

/* Options of bantam run, with | between them; @ is the folder. */
static void digest_of_run(const char *options, char hex[DEFINITION_HEX_BYTES])
{
	char text[1024], *argv[32], *p = text;
	struct config config;
	json_t *vm;
	int argc = 0;

	for (; *options; options++)
		p += *options == '@' ? sprintf(p, "%s/", dir) : sprintf(p, "%c", *options);
	for (char *word = strtok(text, "|"); word; word = strtok(NULL, "|"))
		argv[argc++] = word;
	cr_assert_eq(config_parse(&config, argc, argv, &err), 0, "%s", err.text);
	cr_assert_eq(definition_of_run(&config, &vm, &err), 0, "%s", err.text);
	cr_assert_eq(digest_now(vm, hex, &err), 0, "%s", err.text);
	json_decref(vm);
	config_clear(&config);
}

Test(api_digest, options_of_run)
{
	static const struct {
		const char *a, *b;
		bool same;
	} rows[] = {
		{ "", "--quiet|--stats|--dry-run|-v|--exit-with-parent", true },
		{ "", "--uid|1|--gid|2|--chroot|/x|--netns|n|--cgroup|g|--limit|pids=9", true },
		{ "", "--transport|pci|--entry=auto|--memory|512M", true },
		{ "", "--transport|mmio", false },
		{ "", "--entry|pvh", false },
		{ "", "--unpack|off", false },
		{ "", "--cpus|2", false },
		{ "--memory|1G", "--memory|1024M", true },
		{ "--disk|@seed,ro", "--disk|@seed2,readonly,ro", false },
		{ "--disk|@seed,ro", "--disk|path=@seed2,ro", true },
		{ "--disk|@seed,ro", "--disk|path=@seed3,ro", false },
		{ "--disk|@seed", "--disk|@seed3", true },
		{ "--disk|@disk", "--disk|@disk,discard=off", false },
		{ "--disk|@disk", "--disk|@disk,discard=on", true },
		{ "--disk|seed=@", "--disk|seed=/tmp", true },
		{ "--disk|seed=@", "--disk|seed=@,label=X", false },
		{ "--net|tap=a", "--net|tap=b,mac=02:00:00:00:00:01", true },
		{ "--net|tap=a", "--net|user", false },
		{ "--console|null", "--console|null|--console|null", false },
		{ "--serial|file=/a", "--serial|file=/b", true },
		{ "--serial|file=/a", "--serial|null", false },
		{ "--serial|file=/a", "--serial|file=/a|--serial|null", false },
		{ "--kernel|@other-kernel", "", true },
		{ "--kernel|@new-kernel", "", false },
	};
	char a[DEFINITION_HEX_BYTES], b[DEFINITION_HEX_BYTES], options[2][256];

	put_files();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(options[0], sizeof(options[0]), "%s%s",
			 strstr(rows[i].a, "--kernel") ? "" : "--kernel|@kernel|", rows[i].a);
		snprintf(options[1], sizeof(options[1]), "--kernel|@kernel|%s", rows[i].b);
		digest_of_run(options[0], a);
		digest_of_run(options[1], b);
		cr_expect_eq(!strcmp(a, b), rows[i].same, "%s / %s", rows[i].a, rows[i].b);
	}
}

/* --- the job --------------------------------------------------------------------------------- */

struct result {
	atomic_uint count;
	char hex[DEFINITION_HEX_BYTES];
	char text[512];
};

static void done(void *opaque, const char *hex, const struct err *why)
{
	struct result *r = opaque;

	snprintf(r->hex, sizeof(r->hex), "%s", hex ? hex : "");
	snprintf(r->text, sizeof(r->text), "%s", hex ? "" : why->text);
	atomic_fetch_add(&r->count, 1);
}

static void wait_for(struct result *r, unsigned count)
{
	for (int i = 0; i < 20000 && atomic_load(&r->count) < count; i++)
		usleep(1000);
	cr_assert_eq(atomic_load(&r->count), count);
}

static unsigned threads_here(void)
{
	FILE *f = popen("ls /proc/$PPID/task | wc -l", "r");
	unsigned n = 0;

	cr_assert_eq(fscanf(f, "%u", &n), 1);
	pclose(f);
	return n;
}

static void expect_threads(unsigned n)
{
	for (int i = 0; i < 5000 && threads_here() != n; i++)
		usleep(1000);
	cr_expect_eq(threads_here(), n);
}

Test(api_digest, job)
{
	struct result r = { 0 };
	struct digest *d;
	char hex[DEFINITION_HEX_BYTES];
	json_t *vm;
	unsigned threads = threads_here(), fds = proc_fds(0);

	put_files();
	digest_of(NULL, NULL, hex);
	vm = vm_with(NULL, NULL);
	cr_assert_eq(digest_create(done, &r, &d, &err), 0);
	for (unsigned i = 1; i < 20; i++) {
		cr_assert_eq(digest_start(d, vm, &err), 0);
		wait_for(&r, i);
		cr_expect_str_eq(r.hex, hex);
	}
	json_decref(vm);
	vm = vm_with("@kernel", "@none");
	cr_assert_eq(digest_start(d, vm, &err), 0);
	wait_for(&r, 20);
	cr_expect_str_eq(r.hex, "");
	cr_expect(strstr(r.text, "none: No such file"), "%s", r.text);
	json_decref(vm);
	digest_cancel(d);
	digest_destroy(d);
	digest_destroy(NULL);
	expect_threads(threads);
	cr_expect_eq(proc_fds(0), fds);
}

static atomic_bool busy;

static void *burn(void *opaque)
{
	while (atomic_load(&busy))
		;
	return NULL;
}

/* On a host whose processors are busy, of a disk that takes minutes to read. */
Test(api_digest, cancel)
{
	struct result r = { 0 };
	struct digest *d;
	pthread_t burner[8];
	json_t *vm;
	unsigned threads = threads_here(), fds = proc_fds(0);

	put_files();
	cr_assert_eq(truncate(path_of("seed"), 1ll << 40), 0);
	vm = vm_with(NULL, NULL);
	atomic_store(&busy, true);
	for (int i = 0; i < 8; i++)
		pthread_create(&burner[i], NULL, burn, NULL);
	cr_assert_eq(digest_create(done, &r, &d, &err), 0);
	for (unsigned i = 0; i < 6; i++) {
		uint64_t start;

		cr_assert_eq(digest_start(d, vm, &err), 0);
		usleep(i * 5000);
		start = clock_now_ms();
		if (i % 2)
			digest_cancel(d);
		else
			cr_assert_eq(digest_start(d, vm, &err), 0);
		/* Itself this thread may wait for a processor. */
		cr_expect_lt(clock_now_ms() - start, 300);
	}
	digest_destroy(d);
	cr_expect_eq(atomic_load(&r.count), 0);
	atomic_store(&busy, false);
	for (int i = 0; i < 8; i++)
		pthread_join(burner[i], NULL);
	expect_threads(threads);
	cr_expect_eq(proc_fds(0), fds);
	json_decref(vm);
}

/* A client may write a disk after it has created the VM. */
Test(api_digest, others_may_write_meanwhile)
{
	struct store_options options = { .format = STORE_RAW };
	struct result r = { 0 };
	struct store *s = NULL;
	struct digest *d;
	json_t *vm;
	unsigned fds = proc_fds(0);
	int rc = -1;

	put_files();
	options.path = path_of("seed");
	cr_assert_eq(truncate(options.path, 1ll << 40), 0);
	vm = vm_with(NULL, NULL);
	cr_assert_eq(digest_create(done, &r, &d, &err), 0);
	cr_assert_eq(digest_start(d, vm, &err), 0);
	while (proc_fds(0) == fds)
		usleep(1000);
	/* The thread may just have opened the file, and not yet unlocked it. */
	for (int i = 0; i < 200 && rc; i++) {
		usleep(5000);
		rc = store_open(&options, &s, &err);
	}
	cr_expect_eq(rc, 0, "%s", err.text);
	store_close(s);
	cr_expect_eq(atomic_load(&r.count), 0, "it still reads");
	digest_destroy(d);
	json_decref(vm);
}

Test(api_digest, a_read_that_hangs_is_left_behind)
{
	struct result r = { 0 };
	struct digest *d;
	json_t *vm;
	unsigned threads = threads_here(), fds = proc_fds(0);
	char hex[DEFINITION_HEX_BYTES];

	put_files();
	digest_of(NULL, NULL, hex);
	vm = vm_with(NULL, NULL);
	for (unsigned destroy = 0; destroy < 2; destroy++) {
		uint64_t start;

		cr_assert_eq(digest_create(done, &r, &d, &err), 0);
		atomic_store(&hang, 1);
		cr_assert_eq(digest_start(d, vm, &err), 0);
		while (atomic_load(&hang) != 2)
			usleep(1000);
		start = clock_now_ms();
		if (!destroy) {
			/* The next one does not wait for it. */
			cr_assert_eq(digest_start(d, vm, &err), 0);
			cr_expect_lt(clock_now_ms() - start, 300);
			wait_for(&r, 1);
			cr_expect_str_eq(r.hex, hex);
		}
		digest_destroy(d);
		cr_expect_lt(clock_now_ms() - start, 3000);
		atomic_store(&hang, 0);
		expect_threads(threads);
	}
	cr_expect_eq(atomic_load(&r.count), 1);
	cr_expect_eq(proc_fds(0), fds);
	json_decref(vm);
}
