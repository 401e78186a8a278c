/* bantam-seed's parts: cloud-init's documents, SSH keys, environment files, new files, images made at first start. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/disk/disk.h"
#include "tests/unit/fat_reader.h"
#include "tools/bantam-seed/seed.h"
#include "vmm/core/new_file.h"

#define EACH(c, table)                                                                             \
	for (size_t i_ = 0; i_ < sizeof(table) / sizeof(table[0]) && (c = &table[i_]); i_++)

static char dir[64];

static void make_dir(void)
{
	strcpy(dir, "/var/tmp/bantam-seed-XXXXXX");
	cr_assert(mkdtemp(dir));
	cr_assert_eq(chdir(dir), 0);
}

static void remove_dir(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	cr_assert_eq(chdir("/") || system(command), 0);
}

TestSuite(seed, .init = make_dir, .fini = remove_dir);

static void write_file(const char *name, const char *text, size_t len)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	cr_assert(fd >= 0 && write(fd, text, len) == (ssize_t)len);
	close(fd);
}

/* --- cloud-init ---------------------------------------------------------------- */

Test(seed, cloud_checked)
{
	static const struct {
		const char *host, *user, *ip, *gateway, *dns, *mac, *interface, *why;
	} table[] = {
		{ "web1", "ann", "192.0.2.5/24", "192.0.2.1", "2001:db8::1", NULL, "eth0", NULL },
		{ "a.b-c.d1", "_x.y-z", "2001:db8::5/64", "fe80::1", "1.1.1.1", "52:54:00:aB:cd:EF", NULL, NULL },
		{ "-a", .why = "hostname" }, { "a-", .why = "hostname" }, { "a..b", .why = "hostname" },
		{ "", .why = "hostname" }, { "a_b", .why = "hostname" }, { "a\nb", .why = "hostname" }, { ".", .why = "hostname" },
		{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", .why = "hostname" },
		{ .user = "", .why = "user" }, { .user = "1a", .why = "user" }, { .user = "a:b", .why = "user" },
		{ .user = "a b", .why = "user" }, { .user = "abcdefghijklmnopqrstuvwxyzabcdefg", .why = "user" },
		{ .ip = "192.0.2.5", .why = "ip" }, { .ip = "192.0.2.5/33", .why = "ip" },
		{ .ip = "192.0.2.5/-1", .why = "ip" }, { .ip = "192.0.2.256/24", .why = "ip" },
		{ .ip = "::1/129", .why = "ip" }, { .ip = "/24", .why = "ip" }, { .ip = "a/24", .why = "ip" },
		{ .ip = "192.0.2.5/24x", .why = "ip" }, { .ip = "192.0.2.5/0x8", .why = "ip" },
		{ .gateway = "192.0.2.1", .why = "gateway" },
		{ .ip = "::1/64", .gateway = "192.0.2.1", .why = "family" }, { .ip = "::1/64", .gateway = "x", .why = "gateway" },
		{ .dns = "dns.example", .why = "dns" }, { .mac = "52:54:00", .dns = "1.1.1.1", .why = "mac" },
		{ .mac = "52-54-00-12-34-56", .dns = "1.1.1.1", .why = "mac" },
		{ .mac = "52:54:00:12:34:56", .why = "mac" }, { .interface = "eth0", .why = "interface" },
		{ .interface = "eth0", .mac = "52:54:00:12:34:56", .dns = "1.1.1.1", .why = "mac" },
		{ .interface = "a\"b", .dns = "1.1.1.1", .why = "interface" },
		/* No renderer but two finds a card without its name or address. */
		{ .ip = "192.0.2.5/24", .why = "give --mac 02:" }, { .dns = "1.1.1.1", .why = "give --mac 02:" },
		{ .ip = "::1/64", .interface = "e*", .why = "pattern" }, { .ip = "::1/64", .interface = "eth?", .why = "pattern" },
		{ .ip = "::1/64", .interface = "en[op]1", .why = "pattern" },
	}, *c;

	EACH(c, table)
	{
		struct cloud cloud = { .hostname = c->host,
				       .user = c->user,
				       .mac = c->mac,
				       .interface = c->interface };
		struct err err = { "" };
		int rc;

		if (c->ip)
			list_add(&cloud.ips, c->ip);
		if (c->gateway)
			list_add(&cloud.gateways, c->gateway);
		if (c->dns)
			list_add(&cloud.dns, c->dns);
		rc = cloud_check(&cloud, &err);
		cr_expect_eq(!rc, !c->why, "row %zu: %s", i_, err.text);
		if (c->why)
			cr_expect(strstr(err.text, c->why), "row %zu: %s", i_, err.text);
		list_clear(&cloud.ips);
		list_clear(&cloud.gateways);
		list_clear(&cloud.dns);
	}
}

Test(seed, login_or_warning)
{
	static const struct {
		const char *user, *meta, *vendor;
		bool in;
	} t[] = {
		{ "#cloud-config\nhostname: a\n", NULL, NULL, false },
		{ "#cloud-config\nusers:\n  - name: ann\n    lock_passwd: true\n", NULL, NULL,
		  false },
		{ "#cloud-config\nlock_passwd: 1\npasswd: x\n", NULL, NULL, true },
		{ "#cloud-config\nssh_pwauth: true\n", "instance-id: 1\n", NULL, false },
		{ "#cloud-config\n", "public-keys:\n  - k\n", NULL, true },
		{ "#cloud-config\n", NULL, "#cloud-config\n", true },
		{ "#cloud-config\npassword: x\n", NULL, NULL, true },
		{ "#cloud-config\nssh_authorized_keys: [k]\n", NULL, NULL, true },
		{ "#cloud-config\nruncmd: [x]\n", NULL, NULL, true },
		{ "#!/bin/sh\n", NULL, NULL, true },
		{ "", NULL, NULL, true },
		{ "#cloud-config", NULL, NULL, true },
	};
	static const struct {
		const char *user, *password, *key;
		bool in;
	} options[] = {
		{ NULL, NULL, NULL, false },	 { "ann", NULL, NULL, false },
		{ "ann", "secret", NULL, true }, { NULL, "secret", NULL, true },
		{ "ann", "$6$a$b", NULL, true }, { NULL, NULL, "ssh-rsa AAAA", true },
	};
	struct text none = { NULL, 0 };

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct text user = { (char *)t[i].user, strlen(t[i].user) };
		struct text meta = { (char *)t[i].meta, t[i].meta ? strlen(t[i].meta) : 0 };
		struct text vendor = { (char *)t[i].vendor, t[i].vendor ? strlen(t[i].vendor) : 0 };

		cr_expect_eq(cloud_lets_in(&user, &meta, &vendor), t[i].in, "%s", t[i].user);
	}
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		struct cloud cloud = { .user = options[i].user, .password = options[i].password };
		struct text user = none;
		struct err err;

		if (options[i].key)
			cr_assert_eq(list_add(&cloud.keys, options[i].key), 0);
		cr_assert_eq(cloud_user_data(&cloud, &user, &err), 0);
		cr_expect_eq(cloud_lets_in(&user, &none, &none), options[i].in, "%s", user.data);
		text_clear(&user);
		list_clear(&cloud.keys);
	}
}

Test(seed, cloud_passwords)
{
	static const struct {
		const char *password, *user;
		bool good;
	} table[] = {
		{ "plain", NULL, true }, { "$ 5", NULL, true }, { "$6$s$h", NULL, true }, { "$y$j9T$s$h", "ann", true },
		{ "$y$j9T$s$h", NULL, false }, { "", NULL, false }, { "\xff", "ann", false },
	}, *c;

	EACH(c, table)
	{
		struct cloud cloud = { .password = c->password, .user = c->user };
		struct err err = { "" };

		cr_expect_eq(!cloud_check(&cloud, &err), c->good, "%s: %s", c->password, err.text);
	}
}

Test(seed, cloud_scalars)
{
	static const struct {
		const char *text, *want;
	} table[] = {
		{ "plain", "\"plain\"" }, { "\"\\", "\"\\\"\\\\\"" }, { "a\nb\t", "\"a\\u000Ab\\u0009\"" },
		{ "'#: {}[]&*!|>%@`", "\"'#: {}[]&*!|>%@`\"" }, { "\x7f", "\"\\u007F\"" },
		{ "\xc2\x85", "\"\\u0085\"" }, { "\xe2\x80\xa8", "\"\\u2028\"" },
		{ "\xef\xbb\xbf", "\"\\uFEFF\"" }, { "\xef\xbf\xbf", "\"\\uFFFF\"" },
		{ "ü日😀", "\"ü日😀\"" }, { "\xf4\x8f\xbf\xbf", "\"\\U0010FFFF\"" },
		{ "\xf0\x9f\xbf\xbe", "\"\\U0001FFFE\"" },
	}, *c;

	EACH(c, table)
	{
		struct cloud cloud = { .instance_id = c->text };
		struct text user = { "", 0 }, network = { NULL, 0 }, meta = { NULL, 0 };
		char want[128];
		struct err err;

		cr_assert_eq(cloud_meta_data(&cloud, &user, &network, &network, &meta, &err), 0);
		snprintf(want, sizeof(want), "instance-id: %s\n", c->want);
		cr_expect_str_eq(meta.data, want);
		text_clear(&meta);
	}
}

Test(seed, cloud_id_follows_content)
{
	struct text texts[] = { { "a", 1 }, { "b", 1 }, { NULL, 0 } };
	/* Numbers of texts; hosts; whether the id is that of the first row. */
	static const struct {
		unsigned user, network, vendor;
		const char *host;
		bool same;
	} table[] = {
		{ 0, 2, 2, NULL, true }, { 0, 2, 2, NULL, true }, { 1, 2, 2, NULL, false },
		{ 0, 1, 2, NULL, false }, { 0, 2, 1, NULL, false }, { 0, 2, 2, "h", false },
		{ 0, 1, 1, NULL, false },
	}, *c;
	char first[100] = "";

	EACH(c, table)
	{
		struct cloud cloud = { .hostname = c->host };
		struct text meta;
		struct err err;

		cr_assert_eq(cloud_meta_data(&cloud, &texts[c->user], &texts[c->network],
					     &texts[c->vendor], &meta, &err),
			     0);
		*strchr(meta.data, '\n') = 0;
		if (!*first)
			strcpy(first, meta.data);
		cr_expect_eq(!strcmp(meta.data, first), c->same, "%u %u %u", c->user, c->network,
			     c->vendor);
		text_clear(&meta);
	}
}

Test(seed, ssh_keys)
{
	/* From a file; where given is set, as the argument itself, too. */
	static const struct {
		const char *text;
		unsigned keys;
		const char *why;
		bool given;
	} table[] = {
		{ "ssh-ed25519 AAAA me@host\n", 1, NULL, true },
		{ "# mine\n\nssh-rsa AAAA\r\necdsa-sha2-nistp256 BBBB x\n", 2, NULL, true },
		{ "no-pty,command=\"x y\" ssh-ed25519 AAAA\n", 1, NULL, true },
		{ "ssh-rsa\tAAAA\tx", 1, NULL, true },
		{ " \t ssh-rsa  AAAA", 1, NULL, true },
		{ "  # a comment\n\t# another\n  ssh-rsa AAAA\n \n", 1, NULL, true },
		{ "sk-ssh-ed25519@openssh.com AAAA\nsk-ecdsa-sha2-nistp256@openssh.com AAAA", 2, NULL, true },
		{ "webauthn-sk-ecdsa-sha2-nistp256@openssh.com AAAA", 1, NULL, true },
		{ "cert-authority ssh-ed25519-cert-v01@openssh.com AAAA", 1, NULL, true },
		{ "ssh-rsa-cert-v01@openssh.com AAAA ca", 1, NULL, true },
		{ "ssh-dss AAAA", 1, NULL, true },
		{ "command=\"echo \\\"a b\\\"\",no-pty\tssh-rsa AAAA", 1, NULL, true },
		{ "ssh-rsa AAAA\nhello\n", 0, "no SSH public key", true },
		{ "command=\"ssh-rsa AAAA\" hello", 0, "no SSH public key" },
		{ "a b ssh-rsa AAAA", 0, "no SSH public key" },
		{ "ssh-rsa # AAAA", 0, "no SSH public key" }, { "ssh- AAAA", 0, "no SSH public key" },
		{ "", 0, "no SSH public key" }, { "# none\n", 0, "no SSH public key" },
		{ "ssh-rsa", 0, "no SSH public key" }, { "hello world\n", 0, "no SSH public key" },
		{ "-----BEGIN OPENSSH PRIVATE KEY-----\n", 0, "private key" },
	}, *c;

	EACH(c, table)
	{
		write_file("key", c->text, strlen(c->text));
		for (int given = 0; given <= c->given; given++) {
			struct cloud cloud = { NULL };
			struct text hold;
			struct err err = { "" };
			int rc = cloud_add_key(&cloud, given ? c->text : "key", &hold, &err);

			cr_expect_eq(!rc, !c->why, "%s: %s", c->text, err.text);
			if (!rc)
				cr_expect_eq(cloud.keys.n, c->keys, "%s: %zu", c->text,
					     cloud.keys.n);
			else
				cr_expect(c->why && strstr(err.text, c->why), "%s", err.text);
			list_clear(&cloud.keys);
			text_clear(&hold);
		}
	}
}

Test(seed, keys_that_sshd_refuses)
{
#define ED "AAAAC3NzaC1lZDI1NTE5AAAAIPOCVRXWxyyVyrxK1QNOOoQH85Sq4rigXPQmuP8Qlly3"
	static const struct {
		const char *line, *why;
	} table[] = {
		{ "ssh-ed25519 " ED, NULL },
		{ "ssh-ed25519\t" ED " a comment, with = and \"", NULL },
		{ "restrict,pty,command=\"a \\\"b\\\", c\",FROM=\"1.2.3.4,!5.6.7.8\" ssh-ed25519 " ED, NULL },
		{ "cert-authority ssh-ed25519 " ED, NULL },
		{ "no-X11-forwarding ssh-ed25519 " ED, NULL },
		{ "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIA==", NULL },
		{ "webauthn-sk-ecdsa-sha2-nistp256@openssh.com "
		  "AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5jb20AAAAIbmlzdHAyNTY=", NULL },
		{ "ssh-ed25519 AAAA", "no key of type ssh-ed25519" },
		{ "ssh-rsa " ED, "no key of type ssh-rsa" },
		{ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPOCVRXW\xe2\x80\xa6", "was it cut" },
		{ "ssh-ed25519 " ED "A", "was it cut" },
		{ "ssh-ed25519 " ED "====", "was it cut" },
		{ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE", "was it cut" },
		{ "pty,foo-bar ssh-ed25519 " ED, "the option \"foo-bar\"" },
		{ "command=\"x\",commands=\"y\" ssh-ed25519 " ED, "the option \"commands\"" },
		{ ",pty ssh-ed25519 " ED, "the option \"\"" },
	}, *c;

	EACH(c, table)
	{
		char why[160] = "";

		cr_expect_eq(cloud_key_fault(c->line, why, sizeof(why)), c->why != NULL, "%s: %s",
			     c->line, why);
		cr_expect(!c->why || strstr(why, c->why), "%s: %s", c->line, why);
	}
}

/* --- launch -------------------------------------------------------------------- */

Test(seed, env_names)
{
	static const struct {
		const char *text;
		bool good;
	} table[] = {
		{ "A=1", true }, { "A=", true }, { "_x.y-z=1", true }, { "A==", true }, { "PPID=1", true },
		{ "", false }, { "A", false }, { "=1", false }, { "1A=1", false }, { "-A=1", false },
		{ ".A=1", false }, { "A B=1", false }, { "A'=1", false }, { "Ä=1", false }, { "A\n=1", false },
	}, *c;

	EACH(c, table)
	{
		struct err err = { "" };

		cr_expect_eq(!launch_check_env(c->text, &err), c->good, "%s", c->text);
		cr_expect_eq(!err.text[0], c->good);
		cr_expect(!strchr(err.text, '\n'));
	}
}

Test(seed, env_files)
{
	static const struct {
		const char *text;
		size_t len;
		const char *items[4];
		const char *why;
	} table[] = {
		{ "A=1\nB=two words\n", 16, { "A=1", "B=two words" }, NULL },
		{ "\n  \n# x\nA='q' # no\n", 19, { "A='q' # no" }, NULL },
		{ "A=1\r\nB=2", 8, { "A=1", "B=2" }, NULL },
		{ "", 0, { NULL }, NULL },
		{ "A=1\nB\n", 6, { NULL }, "line 2" },
		{ "A=1\nB=\0\n", 8, { NULL }, "NUL" },
	}, *c;

	EACH(c, table)
	{
		struct list env = { NULL, 0 };
		struct text text;
		struct err err = { "" };
		int rc;

		write_file("env", c->text, c->len);
		cr_assert_eq(text_load("env", &text, &err), 0);
		rc = launch_parse_env("env", &text, &env, &err);
		cr_expect_eq(!rc, !c->why, "row %zu: %s", i_, err.text);
		if (c->why)
			cr_expect(strstr(err.text, c->why), "%s", err.text);
		for (unsigned i = 0; !rc && i < 4 && c->items[i]; i++)
			cr_expect(i < env.n && !strcmp(env.item[i], c->items[i]), "row %zu", i_);
		list_clear(&env);
		text_clear(&text);
	}
}

Test(seed, last_of_a_name_wins)
{
	struct list env = { NULL, 0 }, args = { NULL, 0 };
	struct text out;
	struct err err;

	list_add(&env, "A=first");
	list_add(&env, "AB=other");
	list_add(&env, "A=it's");
	list_add(&args, "$(x)");
	cr_assert_eq(launch_script(&env, &args, &out, &err), 0);
	cr_expect(!strstr(out.data, "first"));
	cr_expect(
		strstr(out.data,
		       "exec env \\\n\t'AB=other' \\\n\t'A=it'\\''s' \\\n\t\"$service\" \\\n\t'$(x)' \"$@\"\n"),
		"%s", out.data);
	text_clear(&out);
	list_clear(&env);
	list_clear(&args);
}

Test(seed, lists_grow)
{
	struct list list = { NULL, 0 };
	char text[8];

	for (unsigned i = 0; i < 1000; i++)
		cr_assert_eq(list_add(&list, i % 2 ? "odd" : "even"), 0);
	for (unsigned i = 0; i < 1000; i++)
		cr_assert_str_eq(list.item[i], i % 2 ? "odd" : "even");
	snprintf(text, sizeof(text), "%zu", list.n);
	cr_expect_str_eq(text, "1000");
	list_clear(&list);
}

/* --- new files ----------------------------------------------------------------- */

static unsigned names_here(void)
{
	FILE *out = popen("ls -A | wc -l", "r");
	unsigned n = 99;

	cr_assert_eq(fscanf(out, "%u", &n), 1);
	pclose(out);
	return n;
}

static void content(const char *name, const char *want)
{
	struct text text;
	struct err err;

	cr_assert_eq(text_load(name, &text, &err), 0, "%s", err.text);
	cr_expect_str_eq(text.data, want);
	text_clear(&text);
}

Test(seed, new_file_appears_when_complete)
{
	struct new_file file;
	struct err err;

	cr_assert_eq(new_file_open(&file, "out", false, &err), 0, "%s", err.text);
	cr_assert_eq(write(file.fd, "new", 3), 3);
	cr_expect_neq(access("out", F_OK), 0);
	cr_assert_eq(new_file_finish(&file, true, &err), 0, "%s", err.text);
	content("out", "new");
	/* A second file of that name is refused, and replaces the first with force. */
	cr_expect_eq(new_file_open(&file, "out", false, &err), -EEXIST);
	cr_expect(strstr(err.text, "--force"), "%s", err.text);
	cr_assert_eq(new_file_open(&file, "out", true, &err), 0);
	cr_assert_eq(write(file.fd, "newer", 5), 5);
	content("out", "new");
	cr_assert_eq(new_file_finish(&file, false, &err), 0, "%s", err.text);
	content("out", "newer");
	/* An abandoned file changes nothing. */
	cr_assert_eq(new_file_open(&file, "out", true, &err), 0);
	new_file_abandon(&file);
	new_file_abandon(&file);
	content("out", "newer");
	/* Another process creates the name first. */
	cr_assert_eq(new_file_open(&file, "race", false, &err), 0);
	write_file("race", "theirs", 6);
	cr_expect_eq(new_file_finish(&file, false, &err), -EEXIST);
	content("race", "theirs");
	cr_expect_eq(names_here(), 2);
}

Test(seed, new_file_refuses)
{
	static const struct {
		const char *path;
		int rc;
	} table[] = {
		{ "folder", -EEXIST }, { "link", -EEXIST }, { "fifo", -EEXIST }, { "no/where", -ENOENT },
		{ "", -EISDIR }, { "x/", -EISDIR },
	}, *c;
	struct new_file file;
	struct err err;

	cr_assert_eq(mkdir("folder", 0700) || symlink("target", "link") || mkfifo("fifo", 0600), 0);
	EACH(c, table)
	cr_expect_eq(new_file_open(&file, c->path, true, &err), c->rc, "%s: %s", c->path, err.text);
	cr_expect_eq(names_here(), 3);
}

Test(seed, new_file_published)
{
	char *temp = new_file_temp("some/where/data.img");

	cr_expect_eq(strncmp(temp, "some/where/.data.img.", 21), 0, "%s", temp);
	free(temp);
	write_file("a", "1", 1);
	write_file("b", "2", 1);
	cr_expect_eq(new_file_publish("a", "b", false), -EEXIST);
	content("b", "2");
	cr_expect_eq(new_file_publish("a", "c", false), 0);
	content("c", "1");
	cr_expect_eq(new_file_publish("b", "c", true), 0);
	content("c", "2");
	cr_expect_eq(names_here(), 1);
}

/* --- disks --------------------------------------------------------------------- */

Test(seed, disk_made_once)
{
	struct stat st;
	struct err err;

	cr_expect_eq(disk_make("d.img", STORE_RAW, 1 << 20, true, &err), 1);
	cr_expect_eq(names_here(), 0);
	cr_expect_eq(disk_make("d.img", STORE_RAW, 1 << 20, false, &err), 1);
	cr_assert_eq(stat("d.img", &st), 0);
	cr_expect_eq(st.st_size, 1 << 20);
	cr_expect_eq(disk_make("d.img", STORE_RAW, 2 << 20, false, &err), 0);
	cr_assert_eq(stat("d.img", &st), 0);
	cr_expect_eq(st.st_size, 1 << 20);
	cr_expect_eq(disk_make("no/d.img", STORE_RAW, 1 << 20, true, &err), -ENOENT);
	cr_expect_eq(disk_make("no/d.img", STORE_RAW, 1 << 20, false, &err), -ENOENT);
	cr_expect(strstr(err.text, "disk no/d.img: "), "%s", err.text);
	cr_expect_eq(disk_make("d.img/x", STORE_RAW, 1 << 20, false, &err), -ENOTDIR);
	cr_expect_lt(disk_make("e.img", STORE_RAW, 1ull << 63, false, &err), 0);
	cr_expect(strstr(err.text, "disk e.img: "), "%s", err.text);
	cr_expect_eq(names_here(), 1);
}

static void wake(void *opaque)
{
	struct disk *disk = opaque;

	disk->ops->reap(disk);
}

static int result;

static void req_done(struct disk_req *req, int rc)
{
	result = rc;
}

Test(seed, disk_of_a_folder)
{
	struct disk_config cfg = { .engine = DISK_ENGINE_THREADS };
	struct disk_req req = { .op = DISK_READ, .done = req_done };
	struct fat_seen seen;
	struct iovec iov;
	struct disk *disk;
	struct err err;
	char *img;

	cr_assert_eq(loop_create(&cfg.loop, NULL), 0);
	cr_assert_eq(mkdir("d", 0700), 0);
	write_file("d/user-data", "#cloud-config\n", 14);
	cr_assert_eq(disk_seed_open(&cfg, "d", "CIDATA", &disk, &err), 0, "%s", err.text);
	/* The guest sees the content at the time of the start. */
	write_file("d/user-data", "#cloud-changed\n", 15);
	cr_expect(disk->readonly && disk->size_bytes == 1 << 20);
	img = malloc(disk->size_bytes);
	iov = (struct iovec){ img, disk->size_bytes };
	req.iov = &iov;
	req.niov = 1;
	req.len_bytes = disk->size_bytes;
	disk->wake = wake;
	disk->wake_opaque = disk;
	result = -1;
	disk->ops->submit(disk, &req);
	disk->ops->commit(disk);
	disk->ops->drain(disk);
	cr_assert_eq(result, 0);
	cr_assert(fat_read_image(&seen, img, disk->size_bytes), "%s", seen.fault);
	cr_expect_str_eq(seen.root_label, "CIDATA");
	cr_assert(fat_seen_find(&seen, "user-data"));
	cr_expect_eq(fat_seen_byte(&seen, fat_seen_find(&seen, "user-data"), 7), 'c');
	cr_expect_eq(fat_seen_byte(&seen, fat_seen_find(&seen, "user-data"), 8), 'o');
	fat_seen_clear(&seen);
	free(img);
	disk_close(disk);
	cr_expect_eq(disk_seed_open(&cfg, "nowhere", "CIDATA", &disk, &err), -ENOENT);
	cr_expect_eq(disk_seed_open(&cfg, "d", "TOO LONG A LABEL", &disk, &err), -EINVAL);
	cr_assert_eq(open("d/large", O_WRONLY | O_CREAT, 0600) < 0 ||
			     truncate("d/large", 1100 << 20),
		     0);
	cr_expect_eq(disk_seed_open(&cfg, "d", NULL, &disk, &err), -EFBIG);
	loop_destroy(cfg.loop);
}
