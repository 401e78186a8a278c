/* keys: accepted values, and the exact text of every refusal. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/device.h"
#include "vmm/core/keys.h"

enum { PATH, RO, SERIAL, QUEUES, BYTES, CACHE, MANY, RING, UNIT };

static const struct key disk[] = {
	[PATH] = { "path", KEY_PATH, KEY_BARE | KEY_REQUIRED, .meta = "FILE" },
	[RO] = { "ro", KEY_BOOL, .def = "off" },
	[SERIAL] = { "serial", KEY_TEXT },
	[QUEUES] = { "queues", KEY_NUM, .def = "1", .min = 1, .max = 16, .meta = "N" },
	[BYTES] = { "bytes", KEY_SIZE, .min = 1 << 20, .max = 1ull << 40, .meta = "SIZE" },
	[CACHE] = { "cache", KEY_CHOICE, .choices = "none|writeback|through", .def = "none" },
	[MANY] = { "many", KEY_NUM, .min = 3 },
	[RING] = { "ring", KEY_NUM, KEY_POWER2, .min = 4, .max = 64 },
	[UNIT] = { "unit", KEY_SIZE, KEY_POWER2 },
	{ 0 },
};

static const struct key top[] = {
	{ "kernel", KEY_PATH, .meta = "FILE" },
	{ "cpus", KEY_NUM, .def = "1", .min = 1, .max = 254, .meta = "N" },
	{ "memory", KEY_SIZE, .def = "512M", .min = 4 << 20, .max = 1ull << 42 },
	{ "dry-run", KEY_BOOL, .def = "off" },
	{ "unpack", KEY_CHOICE, .choices = "auto|on|off", .def = "auto" },
	{ "must", KEY_NUM, KEY_REQUIRED, .meta = "N" },
	{ "wait", KEY_DURATION, .def = "60s", .meta = "TIME" },
	{ 0 },
};

static const struct key no_bare[] = { { "seed", KEY_NUM }, { 0 } };

Test(keys, defaults_and_values)
{
	struct keyvals kv;
	struct err err;

	cr_assert_eq(keys_parse(&kv, "--disk", disk, "path=/a=b,,c,ro,cache=through,bytes=1.5G",
				&err),
		     0, "%s", err.text);
	cr_expect_str_eq(keys_text(&kv, PATH), "/a=b,c");
	cr_expect(kv.val[PATH].set);
	cr_expect_eq(keys_num(&kv, RO), 1);
	cr_expect_not(keys_has(&kv, SERIAL));
	cr_expect_null(keys_text(&kv, SERIAL));
	cr_expect_eq(keys_num(&kv, QUEUES), 1);
	cr_expect(keys_has(&kv, QUEUES) && !kv.val[QUEUES].set, "a default is no user's word");
	cr_expect_eq(keys_num(&kv, BYTES), 3ull << 29);
	cr_expect_eq(keys_num(&kv, CACHE), 2);
	keys_clear(&kv);
	keys_clear(&kv); /* a second call does no harm */
}

Test(keys, by_name)
{
	struct keyvals kv;
	struct err err;

	cr_assert_eq(keys_parse(&kv, "--disk", disk, "x,queues=7,cache=through", &err), 0);
	cr_expect_eq(keys_find(disk, "path"), PATH);
	cr_expect_eq(keys_find(disk, "unit"), UNIT);
	cr_expect_eq(keys_find(disk, "pat"), -1);
	cr_expect_eq(keys_find(disk, ""), -1);
	cr_expect_str_eq(keys_text_of(&kv, "path"), "x");
	cr_expect_null(keys_text_of(&kv, "serial"), "no value");
	cr_expect_null(keys_text_of(&kv, "other"), "no such key");
	cr_expect_eq(keys_num_of(&kv, "queues"), 7);
	cr_expect_eq(keys_num_of(&kv, "cache"), 2);
	cr_expect_eq(keys_num_of(&kv, "bytes"), 0);
	cr_expect_eq(keys_num_of(&kv, "other"), 0);
	keys_clear(&kv);
}

Test(keys, accepts)
{
	static const char *const good[] = {
		"/dev/sda",
		"path=x",
		"x,ro",
		"x,ro=on",
		"x,ro=off",
		"x,ro=yes,queues=16",
		"x,queues=0x10",
		"x,bytes=1M",
		"x,bytes=1T",
		"x,many=3",
		"x,cache=writeback",
		"x,ring=4",
		"x,ring=64",
		"x,unit=1",
		"x,unit=2M",
		"x,unit=9223372036854775808",
		"ro,path=x",
		"path=q,serial=a=b",
		"rox",
		"x,serial=\xc3\xa9",
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct keyvals kv;
		struct err err = { "" };

		cr_expect_eq(keys_parse(&kv, "--disk", disk, good[i], &err), 0, "%s: %s", good[i],
			     err.text);
		keys_clear(&kv);
	}
}

/* A word that is one of the bare key's choices may stand anywhere, but for names of keys. */
Test(keys, a_bare_choice)
{
	static const struct key sink[] = {
		{ "sink", KEY_CHOICE, KEY_BARE, .choices = "stdio|pty|append|off" },
		{ "name", KEY_TEXT },
		{ "append", KEY_BOOL, .def = "off" },
		{ 0 },
	};
	static const struct {
		const char *text, *sink, *says; /* says: the error, or NULL */
	} table[] = {
		{ "pty,name=a", "pty", NULL },
		{ "name=a,pty", "pty", NULL },
		{ "name=a,append,off", "off", NULL },
		{ "append,name=a", NULL, NULL },
		{ "name=off,stdio", "stdio", NULL },
		{ "sink=pty,name=a", "pty", NULL },
		{ "pty,name=a,off", NULL, "--port: sink: given twice" },
		{ "name=a,pt", NULL, "--port: unknown key \"pt\"; see bantam run --help" },
		{ "pt,name=a", NULL, "--port: sink=pt: must be one of stdio|pty|append|off" },
		{ "name=a,name", NULL, "--port: name: given twice" },
		{ "name=a,", NULL, "--port: unknown key \"\"; see bantam run --help" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct keyvals kv;
		struct err err = { "" };
		int rc = keys_parse(&kv, "--port", sink, table[i].text, &err);

		cr_expect_eq(rc == 0, !table[i].says, "\"%s\": %s", table[i].text, err.text);
		if (table[i].says)
			cr_expect_str_eq(err.text, table[i].says, "\"%s\"", table[i].text);
		else if (table[i].sink)
			cr_expect_str_eq(keys_text(&kv, 0), table[i].sink, "\"%s\"", table[i].text);
		else
			cr_expect_null(keys_text(&kv, 0), "\"%s\"", table[i].text);
		keys_clear(&kv);
	}
}

Test(keys, refusals_of_an_option)
{
	static const struct {
		const char *text, *says;
	} table[] = {
		{ "", "--disk: path=FILE is missing" },
		{ "ro", "--disk: path=FILE is missing" },
		{ "path", "--disk: path: needs a value (FILE)" },
		{ "path=", "--disk: path: needs a value (FILE)" },
		{ ",ro", "--disk: path: needs a value (FILE)" },
		{ "x,", "--disk: unknown key \"\"; see bantam run --help" },
		{ "x,y", "--disk: unknown key \"y\"; see bantam run --help" },
		{ "x,chache=none", "--disk: unknown key \"chache\"; did you mean \"cache\"?" },
		{ "x,readonly", "--disk: unknown key \"readonly\"; see bantam run --help" },
		{ "x,RO", "--disk: unknown key \"RO\"; see bantam run --help" },
		{ "x,ro,ro", "--disk: ro: given twice" },
		{ "x,ro=on,ro=off", "--disk: ro: given twice" },
		{ "x,path=y", "--disk: path: given twice" },
		{ "x,ro=maybe", "--disk: ro=maybe: must be on or off" },
		{ "x,ro=", "--disk: ro: needs a value (on|off)" },
		{ "x,serial", "--disk: serial: needs a value (text)" },
		{ "x,serial=", "--disk: serial: needs a value (text)" },
		{ "x,queues", "--disk: queues: needs a value (N)" },
		{ "x,queues=", "--disk: queues: needs a value (N)" },
		{ "x,queues=two", "--disk: queues=two: not a whole number" },
		{ "x,queues=-1", "--disk: queues=-1: not a whole number" },
		{ "x,queues=99999999999999999999",
		  "--disk: queues=99999999999999999999: must be from 1 to 16" },
		{ "x,queues=0", "--disk: queues=0: must be from 1 to 16" },
		{ "x,queues=17", "--disk: queues=17: must be from 1 to 16" },
		{ "x,many=2", "--disk: many=2: must be at least 3" },
		{ "x,ring=2", "--disk: ring=2: must be from 4 to 64" },
		{ "x,ring=128", "--disk: ring=128: must be from 4 to 64" },
		{ "x,ring=5", "--disk: ring=5: must be a power of two" },
		{ "x,ring=63", "--disk: ring=63: must be a power of two" },
		{ "x,unit=0", "--disk: unit=0: must be a power of two" },
		{ "x,unit=3K", "--disk: unit=3K: must be a power of two" },
		{ "x,unit=99999999999999999999", "--disk: unit=99999999999999999999: too large" },
		{ "x,bytes=big", "--disk: bytes=big: not a size; write it like 512M or 2G" },
		{ "x,bytes=1K", "--disk: bytes=1K: must be from 1M to 1T" },
		{ "x,bytes=2T", "--disk: bytes=2T: must be from 1M to 1T" },
		{ "x,bytes=99999999T", "--disk: bytes=99999999T: must be from 1M to 1T" },
		{ "x,cache=direct", "--disk: cache=direct: must be one of none|writeback|through" },
		{ "x,cache=", "--disk: cache: needs a value (none|writeback|through)" },
		{ "x,cache=none|writeback",
		  "--disk: cache=none|writeback: must be one of none|writeback|through" },
		{ "x,cache=non", "--disk: cache=non: must be one of none|writeback|through" },
		{ "x,a\nb", "--disk: unknown key \"a?b\"; see bantam run --help" },
		{ "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z,"
		  "A,B,C,D,E,F,G,H,I,J,K,L,M,N,O",
		  "--disk: too many keys" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct keyvals kv;
		struct err err = { "" };
		int rc = keys_parse(&kv, "--disk", disk, table[i].text, &err);

		cr_expect_lt(rc, 0, "\"%s\" was accepted", table[i].text);
		cr_expect_str_eq(err.text, table[i].says, "\"%s\": %s", table[i].text, err.text);
		keys_clear(&kv);
	}
}

Test(keys, refusals_at_the_top)
{
	static const struct {
		const char *name, *val, *says;
	} table[] = {
		{ "kernel", NULL, "--kernel: needs a value (FILE)" },
		{ "kernel", "", "--kernel: needs a value (FILE)" },
		{ "cpus", "0", "--cpus 0: must be from 1 to 254" },
		{ "cpus", "10000", "--cpus 10000: must be from 1 to 254" },
		{ "cpus", "many", "--cpus many: not a whole number" },
		{ "cpus", NULL, "--cpus: needs a value (N)" },
		{ "memory", "0", "--memory 0: must be from 4M to 4T" },
		{ "memory", "lots", "--memory lots: not a size; write it like 512M or 2G" },
		{ "memory", NULL, "--memory: needs a value (text)" },
		{ "dry-run", "", "--dry-run: needs a value (on|off)" },
		{ "unpack", NULL, "--unpack: needs a value (auto|on|off)" },
		{ "dry-run", "perhaps", "--dry-run perhaps: must be on or off" },
		{ "unpack", "maybe", "--unpack maybe: must be one of auto|on|off" },
		{ "kernle", "x", "unknown option --kernle; did you mean --kernel?" },
		{ "append", "x", "unknown option --append; here it is --cmdline TEXT" },
		{ "xyzzy", "x", "unknown option --xyzzy; see bantam run --help" },
		{ "wait", NULL, "--wait: needs a value (TIME)" },
		{ "wait", "-1", "--wait -1: not a duration; write it like 500ms, 60s, 5m or 2h" },
		{ "wait", "99999999999999h", "--wait 99999999999999h: too long" },
	};
	struct keyvals kv;
	struct err err;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		keys_start(&kv, "", top);
		cr_expect_eq(keys_set(&kv, table[i].name, table[i].val, &err), -EINVAL);
		cr_expect_str_eq(err.text, table[i].says, "%s", err.text);
		keys_clear(&kv);
	}
	keys_start(&kv, "", top);
	cr_expect_eq(keys_set(&kv, "cpus", "2", &err), 0);
	cr_expect_eq(keys_set(&kv, "cpus", "2", &err), -EINVAL);
	cr_expect_str_eq(err.text, "--cpus: given twice");
	cr_expect_eq(keys_finish(&kv, &err), -EINVAL);
	cr_expect_str_eq(err.text, "--must N is missing");
	cr_expect_eq(keys_set(&kv, "must", "0xff", &err), 0);
	cr_expect_eq(keys_finish(&kv, &err), 0);
	cr_expect_eq(keys_num(&kv, 2), 512 << 20);
	cr_expect_eq(keys_num(&kv, 6), 60000000);
	keys_clear(&kv);
}

Test(keys, a_refused_value_leaves_the_key_unset)
{
	struct keyvals kv;
	struct err err;

	keys_start(&kv, "--disk", disk);
	cr_expect_lt(keys_set(&kv, "queues", "99", &err), 0);
	cr_expect_not(keys_has(&kv, QUEUES));
	cr_expect_eq(keys_set(&kv, "queues", "2", &err), 0);
	cr_expect_eq(keys_num(&kv, QUEUES), 2);
	keys_clear(&kv);
}

Test(keys, long_text_is_cut_and_kept_whole)
{
	char *text = malloc(100001);
	struct keyvals kv;
	struct err err;

	memset(text, 'x', 100000);
	text[100000] = 0;
	cr_expect_eq(keys_parse(&kv, "--disk", disk, text, &err), 0);
	cr_expect_str_eq(keys_text(&kv, PATH), text);
	keys_clear(&kv);
	cr_expect_lt(keys_parse(&kv, "--x", no_bare, text, &err), 0);
	cr_expect_lt(strlen(err.text), sizeof(err.text));
	keys_clear(&kv);
	keys_start(&kv, "--disk", disk);
	cr_expect_lt(keys_set(&kv, "queues", text, &err), 0);
	cr_expect(!strncmp(err.text, "--disk: queues=xxx", 18), "%s", err.text);
	cr_expect(strstr(err.text, ": not a whole number"), "the reason is cut off: %s", err.text);
	keys_clear(&kv);
	free(text);
}

/* In the real tables, names are unique, defaults and choices parse, and help texts exist. */
Test(keys, shipped_tables_are_sound)
{
	for (size_t t = 0; device_types[t]; t++) {
		const struct device_type *type = device_types[t];
		size_t n = 0;

		if (!type->option)
			continue;
		cr_expect(!strncmp(type->option, "--", 2) && type->help, "%s", type->name);
		for (const struct key *k = type->keys; k->name; k++, n++) {
			struct keyvals kv;
			struct err err = { "" };

			cr_expect(k->help && !strchr(k->help, '\n'), "%s %s: no help", type->option,
				  k->name);
			cr_expect(k->kind != KEY_CHOICE || k->choices, "%s %s", type->option,
				  k->name);
			for (const struct key *o = type->keys; o != k; o++)
				cr_expect_str_neq(o->name, k->name, "%s", type->option);
			if (!k->def)
				continue;
			keys_start(&kv, type->option, type->keys);
			cr_expect_eq(keys_set_hidden(&kv, k->name, k->def, &err), 0, "%s",
				     err.text);
			keys_clear(&kv);
		}
		cr_expect_leq(n, KEYS_MAX, "%s", type->option);
	}
}

Test(keys, a_list_takes_more_than_one)
{
	static const struct key table[] = {
		{ "fwd", KEY_TEXT, KEY_LIST, .meta = "WHAT" },
		{ "one", KEY_TEXT },
		{ 0 },
	};
	struct keyvals kv;
	struct err err;

	cr_assert_eq(keys_parse(&kv, "--net", table, "fwd=a,one=x,fwd=b:1,fwd=c", &err), 0);
	cr_assert_str_eq(keys_text(&kv, 0), "a,b:1,c");
	cr_assert_eq(keys_set(&kv, "one", "y", &err), -EINVAL);
	cr_assert_eq(keys_set(&kv, "fwd", "", &err), -EINVAL);
	cr_assert_str_eq(keys_text(&kv, 0), "a,b:1,c");
	keys_clear(&kv);
}

/* A user cannot name a hidden key, not even by accident; code can set it, and its default holds. */
Test(keys, hidden)
{
	static const struct key table[] = {
		{ "path", KEY_PATH, KEY_BARE, .meta = "FILE" },
		{ "backing", KEY_BOOL, KEY_HIDDEN, .def = "on" },
		{ "limit", KEY_NUM, KEY_HIDDEN, .min = 1, .max = 9 },
		{ 0 },
	};
	static const struct {
		const char *text, *error;
	} refused[] = {
		{ "path=a,backing=off", "--disk: unknown key \"backing\"; see bantam run --help" },
		{ "path=a,backing", "--disk: unknown key \"backing\"; see bantam run --help" },
		{ "path=a,backin=off", "--disk: unknown key \"backin\"; see bantam run --help" },
		{ "limit=5", "--disk: unknown key \"limit\"; see bantam run --help" },
	};
	struct keyvals kv;
	struct err err;

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		cr_expect_eq(keys_parse(&kv, "--disk", table, refused[i].text, &err), -EINVAL);
		cr_expect_str_eq(err.text, refused[i].error);
		keys_clear(&kv);
	}
	cr_assert_eq(keys_parse(&kv, "--disk", table, "backing", &err), 0, "%s", err.text);
	cr_expect_str_eq(keys_text(&kv, 0), "backing");
	cr_expect_eq(keys_num(&kv, 1), 1);
	keys_clear(&kv);

	keys_start(&kv, "--disk", table);
	cr_assert_eq(keys_set_hidden(&kv, "path", "a", &err), 0);
	cr_assert_eq(keys_set_hidden(&kv, "backing", "off", &err), 0);
	cr_assert_eq(keys_set_hidden(&kv, "limit", "10", &err), -EINVAL);
	cr_expect_str_eq(err.text, "--disk: limit=10: must be from 1 to 9");
	cr_assert_eq(keys_set_hidden(&kv, "limti", "1", &err), -EINVAL);
	cr_assert_eq(keys_finish(&kv, &err), 0);
	cr_expect_eq(keys_num(&kv, 1), 0);
	cr_expect_not(keys_has(&kv, 2));
	keys_clear(&kv);
}

/* An empty text is a value of its own where the table says so, and nowhere else. */
Test(keys, an_empty_text)
{
	static const struct key table[] = { { "note", KEY_TEXT, KEY_EMPTY, .def = "none" },
					    { "name", KEY_TEXT },
					    { 0 } };
	struct keyvals kv;
	struct err err;

	cr_assert_eq(keys_parse(&kv, "--x", table, "note=", &err), 0, "%s", err.text);
	cr_expect_str_eq(keys_text(&kv, 0), "");
	cr_expect(kv.val[0].set);
	keys_clear(&kv);
	cr_assert_eq(keys_parse(&kv, "--x", table, "", &err), 0, "%s", err.text);
	cr_expect_str_eq(keys_text(&kv, 0), "none");
	keys_clear(&kv);
	cr_assert_eq(keys_parse(&kv, "--x", table, "note", &err), -EINVAL, "without a value");
	cr_expect_str_eq(err.text, "--x: note: needs a value (text)");
	keys_clear(&kv);
	cr_assert_eq(keys_parse(&kv, "--x", table, "name=", &err), -EINVAL);
	keys_clear(&kv);
}

Test(keys, words_of_a_command_line)
{
	static const struct {
		const char *word, *name, *value; /* name NULL: no option */
	} table[] = {
		{ "--cpus", "cpus", NULL },
		{ "--cpus=2", "cpus", "2" },
		{ "--cpus=", "cpus", "" },
		{ "--env=a=b", "env", "a=b" },
		{ "--=x", "", "x" },
		{ "---", "-", NULL },
		{ "--", NULL, NULL },
		{ "-", NULL, NULL },
		{ "", NULL, NULL },
		{ "-v", NULL, NULL },
		{ "cpus=2", NULL, NULL },
		{ "--a23456789b123456789c123456789d123456789e123456789f123456789g12",
		  "a23456789b123456789c123456789d123456789e123456789f123456789g12", NULL },
		{ "--a23456789b123456789c123456789d123456789e123456789f123456789g123456=x",
		  "a23456789b123456789c123456789d123456789e123456789f123456789g123", "x" },
	};
	static const char *const list[] = { "--a", "b", "--c", "-1", "--" };
	char **words = (char **)list;
	char name[KEYS_NAME_MAX];
	const char *value;
	int at = 0;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		bool is = keys_option(table[i].word, name, &value);

		cr_expect_eq(is, table[i].name != NULL, "%s", table[i].word);
		if (!is || !table[i].name)
			continue;
		cr_expect_str_eq(name, table[i].name);
		cr_expect_eq(value != NULL, table[i].value != NULL, "%s", table[i].word);
		if (value && table[i].value)
			cr_expect_str_eq(value, table[i].value);
	}
	cr_expect_str_eq(keys_next_word(5, words, &at), "b");
	cr_expect_eq(at, 1);
	cr_expect_null(keys_next_word(5, words, &at), "an option is no value");
	at = 2;
	cr_expect_str_eq(keys_next_word(5, words, &at), "-1", "a negative number is a value");
	cr_expect_null(keys_next_word(5, words, &at), "the command begins");
	at = 4;
	cr_expect_null(keys_next_word(5, words, &at), "the end");
}

Test(keys, words)
{
	static const char *const names[] = { "run", "test", "image", "json" };
	static const struct {
		const char *word, *says;
	} table[] = {
		{ "runn", "\"runn\": no such command; did you mean run?" },
		{ "imag", "\"imag\": no such command; did you mean image?" },
		{ "xyzzy", "\"xyzzy\": no such command; see bantam help" },
		{ "", "\"\": no such command; see bantam help" },
		{ "-", "\"-\": no such command; see bantam help" },
		{ "--", "\"--\": no such command; see bantam help" },
		{ "--=", "\"--=\": no such command; see bantam help" },
		{ "--jsn", "\"--jsn\": no such command; did you mean --json?" },
		{ "--jsn=x", "\"--jsn=x\": no such command; did you mean --json?" },
		{ "a\nb", "\"a?b\": no such command; see bantam help" },
		{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		  "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\": no such command; see "
		  "bantam help" },
	};
	struct err err;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		cr_expect_eq(keys_no_word("command", table[i].word, names, 4, "bantam help", &err),
			     -EINVAL);
		cr_expect_str_eq(err.text, table[i].says, "%s", err.text);
	}
	cr_expect_eq(keys_no_option("test", "tst", names, 4, &err), -EINVAL);
	cr_expect_str_eq(err.text, "unknown option --tst; did you mean --test?");
	cr_expect_eq(keys_no_option("test", "no", names, 4, &err), -EINVAL);
	cr_expect_str_eq(err.text, "unknown option --no; see bantam test --help");
}
