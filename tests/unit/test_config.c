/* config: the command line and JSON, with a registry for the test. */
#include <criterion/criterion.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/config.h"
#include "vmm/machine/bootdisk.h"

static const struct key disk_keys[] = {
	{ "path", KEY_PATH, KEY_BARE | KEY_REQUIRED, .meta = "FILE", .help = "image" },
	{ "ro", KEY_BOOL, .def = "off", .help = "read-only" },
	{ "serial", KEY_TEXT, .meta = "TEXT", .help = "identity" },
	{ "queues", KEY_NUM, .def = "1", .min = 1, .max = 16, .help = "rings" },
	{ "bytes", KEY_SIZE, .help = "length" },
	{ "cache", KEY_CHOICE, .choices = "off|on|auto|512", .def = "auto", .help = "cache" },
	{ "alias", KEY_TEXT, KEY_LIST, .help = "other names" },
	{ "id", KEY_TEXT, .meta = "NAME", .help = "name" },
	{ 0 },
};
static const struct key serial_keys[] = {
	{ "sink", KEY_TEXT, KEY_BARE, .def = "stdio", .help = "where to" },
	{ 0 },
};
static const struct key rng_keys[] = { { "src", KEY_PATH, .help = "source" }, { 0 } };

static const struct device_type disk = { .name = "virtio-blk",
					 .option = "--disk",
					 .repeat = true,
					 .keys = disk_keys,
					 .help = "a disk" };
static const struct device_type serial = { .name = "serial",
					   .option = "--serial",
					   .repeat = true,
					   .max = 2,
					   .keys = serial_keys,
					   .help = "a serial port" };
static const struct device_type rng = { .name = "virtio-rng",
					.option = "--rng",
					.keys = rng_keys,
					.help = "entropy" };
static const struct key port_keys[] = {
	{ "name", KEY_TEXT, KEY_REQUIRED | KEY_UNIQUE, .help = "its name" },
	{ "other", KEY_TEXT, KEY_UNIQUE, .def = "x", .help = "has a default" },
	{ "file", KEY_PATH, .help = "where to" },
	{ 0 },
};
static const struct device_type port = { .name = "virtio-serial",
					 .option = "--port",
					 .repeat = true,
					 .keys = port_keys,
					 .help = "a port" };
static const struct device_type hidden = { .name = "i8042" };

/* In place of registry.c. */
const struct device_type *const device_types[] = { &disk, &hidden, &serial, &rng, &port, NULL };

static struct config config;
static struct err err;
static char json_path[] = "/tmp/test_config.XXXXXX";

static void setup(void)
{
	close(mkstemp(json_path));
}

static void teardown(void)
{
	config_clear(&config);
	config_clear(&config);
	unlink(json_path);
}

TestSuite(config, .init = setup, .fini = teardown);

/* "|" separates the arguments; "@" is the JSON file. */
static int parse(const char *args)
{
	char *argv[128], *copy = strdup(args), *rest = copy, *word;
	int argc = 0, rc;

	while ((word = strsep(&rest, "|")) && *args)
		argv[argc++] = strcmp(word, "@") ? word : json_path;
	config_clear(&config);
	memset(&err, 0, sizeof(err));
	rc = config_parse(&config, argc, argv, &err);
	/* The next question of bantam run. */
	if (!rc && !keys_num(&config.vm, CONFIG_HELP))
		rc = bootdisk_check(&config, &err);
	free(copy);
	return rc;
}

static void write_json(const char *text, size_t len)
{
	FILE *f = fopen(json_path, "w");

	fwrite(text, 1, len, f);
	fclose(f);
}

static int parse_json(const char *args, const char *json)
{
	write_json(json, strlen(json));
	return parse(args);
}

/* The disks' paths in order, as "a b c". */
static const char *disks(void)
{
	static char buf[256];

	buf[0] = 0;
	for (unsigned i = 0; i < config.ndevices; i++) {
		if (config.device[i].type != &disk)
			continue;
		strcat(buf, *buf ? " " : "");
		strcat(buf, keys_text(&config.device[i].kv, 0));
	}
	return buf;
}

Test(config, defaults)
{
	cr_assert_eq(parse("--kernel|vmlinux"), 0, "%s", err.text);
	cr_expect_str_eq(keys_text(&config.vm, CONFIG_KERNEL), "vmlinux");
	cr_expect_eq(keys_num(&config.vm, CONFIG_CPUS), 1);
	cr_expect_eq(keys_num(&config.vm, CONFIG_MEMORY), 512 << 20);
	cr_expect_eq(keys_num(&config.vm, CONFIG_TRANSPORT), TRANSPORT_PCI);
	cr_expect_eq(keys_num(&config.vm, CONFIG_DRY_RUN), 0);
	cr_expect_not(keys_has(&config.vm, CONFIG_CMDLINE));
	cr_expect_eq(config.ndevices, 0);
}

Test(config, forms)
{
	cr_assert_eq(parse("--kernel=k=1|--cpus=4|--memory|1.5G|--dry-run|--quiet=off|"
			   "--cmdline=--foo a=b,c|--disk|a,ro|--rng|--disk=path=b|--transport|mmio|"
			   "--serial|--stats|-v"),
		     0, "%s", err.text);
	cr_expect_eq(keys_num(&config.vm, CONFIG_VERBOSE), 1);
	cr_expect_str_eq(keys_text(&config.vm, CONFIG_KERNEL), "k=1");
	cr_expect_eq(keys_num(&config.vm, CONFIG_CPUS), 4);
	cr_expect_eq(keys_num(&config.vm, CONFIG_MEMORY), 3ull << 29);
	cr_expect_eq(keys_num(&config.vm, CONFIG_DRY_RUN), 1);
	cr_expect_eq(keys_num(&config.vm, CONFIG_QUIET), 0);
	cr_expect_eq(keys_num(&config.vm, CONFIG_STATS), 1);
	cr_expect_eq(keys_num(&config.vm, CONFIG_TRANSPORT), TRANSPORT_MMIO);
	cr_expect_str_eq(keys_text(&config.vm, CONFIG_CMDLINE), "--foo a=b,c");
	cr_expect_str_eq(disks(), "a b");
	cr_assert_eq(config.ndevices, 4);
	cr_expect_eq(config.device[1].type, &rng);
	cr_expect_str_eq(keys_text(&config.device[3].kv, 0), "stdio");
}

Test(config, help_needs_no_kernel)
{
	cr_expect_eq(parse("--help"), 0, "%s", err.text);
	cr_expect(keys_num(&config.vm, CONFIG_HELP));
}

Test(config, command_line_refusals)
{
	static const struct {
		const char *args, *says;
	} table[] = {
		{ "",
		  "--kernel FILE is missing, or a --disk with a kernel in its /boot; see bantam "
		  "run --help" },
		{ "vmlinux", "\"vmlinux\": not an option; a kernel is given as --kernel FILE" },
		{ "-kernel|k", "\"-kernel\": options begin with two dashes: --kernel" },
		{ "-k|k", "\"-k\": not an option; a kernel is given as --kernel FILE" },
		{ "-", "\"-\": not an option; a kernel is given as --kernel FILE" },
		{ "--", "\"--\": not an option; a kernel is given as --kernel FILE" },
		{ "--=x", "unknown option --; see bantam run --help" },
		{ "--kernel", "--kernel: needs a value (FILE)" },
		{ "--kernel|--cpus|2", "--kernel: needs a value (FILE)" },
		{ "--kernel=", "--kernel: needs a value (FILE)" },
		{ "--kernel|a|--kernel|b", "--kernel: given twice" },
		{ "--kernel|a|b", "\"b\": not an option; a kernel is given as --kernel FILE" },
		{ "--dry-run|on", "\"on\": not an option; a kernel is given as --kernel FILE" },
		{ "--kernal|a", "unknown option --kernal; did you mean --kernel?" },
		{ "--Kernel|a", "unknown option --Kernel; did you mean --kernel?" },
		{ "--append|a", "unknown option --append; here it is --cmdline TEXT" },
		{ "--chroot-base-dir|/srv/jailer",
		  "unknown option --chroot-base-dir; here it is --chroot DIR, the folder itself" },
		{ "--parent-cgroup=vms",
		  "unknown option --parent-cgroup; here it is --cgroup GROUP/NAME" },
		{ "--resource-limit|fsize=1",
		  "unknown option --resource-limit; here it is --limit files=N,file-size=SIZE" },
		{ "-append|a", "unknown option -append; here it is --cmdline TEXT" },
		{ "--append=a", "unknown option --append; here it is --cmdline TEXT" },
		{ "-m|512", "unknown option -m; here it is --memory SIZE, such as --memory 512M" },
		{ "-smp|2", "unknown option -smp; here it is --cpus N" },
		{ "--drive|file=a",
		  "unknown option --drive; here it is --disk FILE, or --disk FILE,ro" },
		{ "-nographic",
		  "unknown option -nographic; leave it out: a VM has no screen, and its "
		  "console is this terminal" },
		{ "-netdev|user",
		  "unknown option -netdev; network and card are one option: --net user, "
		  "--net tap=NAME, --net stream=PATH" },
		{ "--disk|a,if=virtio",
		  "--disk: unknown key \"if\"; leave it out: a disk is a virtio disk" },
		{ "--disk|a,append", "--disk: unknown key \"append\"; see bantam run --help" },
		{ "--disc|a", "unknown option --disc; did you mean --disk?" },
		{ "--i8042", "unknown option --i8042; see bantam run --help" },
		{ "--cpus|0", "--cpus 0: must be from 1 to 254" },
		{ "--cpus|10000", "--cpus 10000: must be from 1 to 254" },
		{ "--cpus|-1", "--cpus -1: not a whole number" },
		{ "--cpus=", "--cpus: needs a value (N)" },
		{ "--memory|0", "--memory 0: must be from 4M to 4T" },
		{ "--memory|1024",
		  "--memory 1024: must be from 4M to 4T; without a unit (K, M, G) it is a number of bytes" },
		{ "--memory|1K", "--memory 1K: must be from 4M to 4T" },
		{ "--memory|1M", "--memory 1M: must be from 4M to 4T" },
		{ "--memory|9999999T", "--memory 9999999T: must be from 4M to 4T" },
		{ "--memory|99999999999999T", "--memory 99999999999999T: must be from 4M to 4T" },
		{ "--transport|isa", "--transport isa: must be one of pci|mmio" },
		{ "--disk", "--disk: path=FILE is missing" },
		{ "--disk|", "--disk: path=FILE is missing" },
		{ "--disk|a,readonly", "--disk: unknown key \"readonly\"; see bantam run --help" },
		{ "--disk|a,queue=2", "--disk: unknown key \"queue\"; did you mean \"queues\"?" },
		{ "--disk|a,ro,ro", "--disk: ro: given twice" },
		{ "--rng|--rng", "--rng: given twice" },
		{ "--serial|a|--serial|b|--serial|c",
		  "--serial: given more than 2 times; a VM has 2 at most" },
		{ "--config|/nonexistent/x.json",
		  "--config /nonexistent/x.json: No such file or directory" },
		{ "--config|/tmp", "--config /tmp: Is a directory" },
		{ "--aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=1",
		  "unknown option --aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		  "; see bantam run --help" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		cr_expect_lt(parse(table[i].args), 0, "\"%s\" was accepted", table[i].args);
		cr_expect_str_eq(err.text, table[i].says, "\"%s\": %s", table[i].args, err.text);
	}
}

#define ID_16 "abcdefghijklmnop"
#define ID_63 ID_16 ID_16 ID_16 "abcdefghijklmno"

Test(config, ids)
{
	static const struct {
		const char *args, *ids; /* the devices' ids, or the error */
	} table[] = {
		{ "--disk|a|--disk|b|--rng|--disk|c", "disk0 disk1 rng0 disk2" },
		{ "--disk|a,id=_disk0|--disk|b|--rng", "_disk0 disk1 rng0" },
		{ "--disk|a|--disk|b,id=root", "disk0 root" },
		{ "--disk|a,id=" ID_63, ID_63 },
		{ "--disk|a,id=x|--disk|b,id=x",
		  "--disk: the id \"x\" is that of another disk; give one of them another id" },
		{ "--disk|a,id=rng0|--rng",
		  "--rng: the id \"rng0\" is that of another disk; give one of them another id" },
		{ "--disk|a,id=disk1|--disk|b",
		  "--disk: the id \"disk1\" is that of another disk; give one of them another id" },
		{ "--disk|a,id=" ID_63 "p",
		  "--disk: id=abcdefghijklmnopabcd…: longer than 63 bytes" },
		{ "--port|name=a,other=a|--disk|a|--port|name=b,file=f|--port|name=aa,file=f,other=f",
		  "port0 disk0 port1 port2" },
		{ "--port|name=a,other=a|--disk|a|--port|name=b|--port|name=a,other=b",
		  "--port: name=a: another --port has the same name" },
		{ "--port|name=a|--port|name=b",
		  "--port: other=x: another --port has the same other" },
	};
	char args[256], got[256], id[DEVICE_ID_BYTES];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		snprintf(args, sizeof(args), "--kernel|k|%s", table[i].args);
		got[0] = 0;
		if (parse(args)) {
			strcpy(got, err.text);
		} else {
			for (unsigned n = 0; n < config.ndevices; n++) {
				config_device_id(&config, n, id);
				strcat(strcat(got, n ? " " : ""), id);
			}
		}
		cr_expect_str_eq(got, table[i].ids, "%s: %s", table[i].args, got);
	}
	/* What code sets wins over the key. */
	cr_assert_eq(parse("--kernel|k|--disk|a,id=x|--disk|b"), 0);
	strcpy(config.device[0].id, "y");
	strcpy(config.device[1].id, "x");
	config_device_id(&config, 0, id);
	cr_expect_str_eq(id, "y");
	cr_expect_eq(config_check_ids(&config, &err), 0);
	strcpy(config.device[0].id, "x");
	cr_expect_eq(config_check_ids(&config, &err), -EEXIST);
}

Test(config, too_many_devices)
{
	char args[2048] = "--kernel|k";

	for (int i = 0; i < 60; i++)
		strcat(args, "|--disk=d");
	cr_expect_eq(parse(args), 0, "%s", err.text);
	cr_expect_eq(config.ndevices, 60);
	for (int i = 0; i < 5; i++)
		strcat(args, "|--disk=d");
	cr_expect_lt(parse(args), 0);
	cr_expect_str_eq(err.text, "--disk: more than 64 devices");
}

Test(config, json)
{
	cr_assert_eq(
		parse_json(
			"--config|@",
			"{ \"kernel\": \"k\", \"cpus\": 2, \"memory\": \"1G\", \"dry-run\": true,\n"
			"  \"quiet\": false, \"unpack\": false, \"hugepages\": false, \"rng\": true,\n"
			"  \"disk\": [ \"a,ro\", { \"path\": \"b,c\", \"ro\": true, \"queues\": 4,\n"
			"    \"bytes\": 4096, \"cache\": true, \"serial\": \"s\",\n"
			"    \"alias\": [ \"x\", \"y\" ] } ],\n"
			"  \"serial\": { \"sink\": \"off\" } }"),
		0, "%s", err.text);
	cr_expect_str_eq(keys_text(&config.vm, CONFIG_KERNEL), "k");
	cr_expect_eq(keys_num(&config.vm, CONFIG_CPUS), 2);
	cr_expect_eq(keys_num(&config.vm, CONFIG_MEMORY), 1 << 30);
	cr_expect_eq(keys_num(&config.vm, CONFIG_DRY_RUN), 1);
	cr_expect_str_eq(keys_text(&config.vm, CONFIG_UNPACK), "off");
	cr_expect_eq(keys_num(&config.vm, CONFIG_HUGEPAGES), HUGEPAGES_OFF);
	cr_expect_str_eq(disks(), "a b,c");
	cr_assert_eq(config.ndevices, 4);
	cr_expect_eq(config.device[0].type, &rng);
	cr_expect_eq(keys_num(&config.device[1].kv, 1), 1);
	cr_expect_eq(keys_num(&config.device[2].kv, 3), 4);
	cr_expect_eq(keys_num(&config.device[2].kv, 4), 4096);
	cr_expect_eq(keys_num(&config.device[2].kv, 5), 1, "cache on");
	cr_expect_str_eq(keys_text(&config.device[2].kv, 6), "x,y");
	cr_expect_str_eq(keys_text(&config.device[3].kv, 0), "off");
	config_clear(&config);
	cr_assert_eq(parse_json("--config|@|--kernel|k",
				"{\"disk\": {\"path\": \"a\", \"cache\": 512}}"),
		     0, "%s", err.text);
	cr_expect_eq(keys_num(&config.device[0].kv, 5), 3, "a choice that is a number");
}

Test(config, command_line_wins)
{
	const char *json =
		"{ \"kernel\": \"k\", \"cpus\": 2, \"serial\": \"file\", \"disk\": \"a\" }";

	cr_assert_eq(parse_json("--config|@|--cpus|3|--disk|z|--serial|stdio|--memory|8M", json), 0,
		     "%s", err.text);
	cr_expect_eq(keys_num(&config.vm, CONFIG_CPUS), 3);
	cr_expect_str_eq(keys_text(&config.vm, CONFIG_KERNEL), "k");
	cr_expect_eq(keys_num(&config.vm, CONFIG_MEMORY), 8 << 20);
	cr_expect_str_eq(disks(), "a z", "the file's disks come first");
	cr_assert_eq(config.ndevices, 3);
	for (unsigned i = 0; i < 3; i++)
		if (config.device[i].type == &serial)
			cr_expect_str_eq(keys_text(&config.device[i].kv, 0), "stdio");
	/* The command line's serial port replaces both of the file's. */
	cr_assert_eq(parse_json("--kernel|k|--config|@|--serial|stdio",
				"{\"serial\": [\"file\", \"pty\"]}"),
		     0);
	cr_assert_eq(config.ndevices, 1);
	cr_expect_str_eq(keys_text(&config.device[0].kv, 0), "stdio");
	cr_assert_eq(parse_json("--kernel|k|--config|@", "{\"serial\": [\"file\", \"pty\"]}"), 0,
		     "%s", err.text);
	cr_assert_eq(config.ndevices, 2);
	cr_expect_str_eq(keys_text(&config.device[0].kv, 0), "file");
	cr_expect_str_eq(keys_text(&config.device[1].kv, 0), "pty");
	/* At any position of --config. */
	cr_assert_eq(parse_json("--disk|y|--disk|z|--cpus|3|--config|@", json), 0);
	cr_expect_eq(keys_num(&config.vm, CONFIG_CPUS), 3);
	cr_expect_str_eq(disks(), "a y z");
}

Test(config, json_from_standard_input)
{
	static const char json[] = "{\"kernel\": \"k\", \"cpus\": 2, \"memory\": \"1.1G\"}";

	write_json(json, strlen(json));
	cr_assert(freopen(json_path, "r", stdin));
	cr_assert_eq(parse("--config|-|--cpus|3"), 0, "%s", err.text);
	cr_expect_eq(keys_num(&config.vm, CONFIG_CPUS), 3);
	cr_expect_eq(keys_num(&config.vm, CONFIG_MEMORY), 1181118464);
	/* Read to its end, there is nothing more. */
	cr_expect_lt(parse("--config|-"), 0);
	cr_expect(!strncmp(err.text, "--config -: line 1: ", 20), "%s", err.text);
}

Test(config, json_refusals)
{
	static const struct {
		const char *json, *says; /* after "--config FILE: " */
	} table[] = {
		{ "", "line 1: '[' or '{' expected near end of file" },
		{ "{", "line 1: string or '}' expected near end of file" },
		{ "{\n\"kernel\": \"k\",\n}", "line 3: string or '}' expected near '}'" },
		{ "{\"kernel\": \"k\"} x", "line 1: end of file expected near 'x'" },
		{ "[]", "must hold one JSON object" },
		{ "[ \"kernel\" ]", "must hold one JSON object" },
		{ "{}", NULL },
		{ "{\"kernel\": \"k\", \"kernel\": \"k\"}",
		  "line 1: duplicate object key near '\"kernel\"'" },
		{ "{\"kernal\": \"k\"}", "unknown option --kernal; did you mean --kernel?" },
		{ "{\"\": 1}", "unknown option --; see bantam run --help" },
		{ "{\"i8042\": 1}", "unknown option --i8042; see bantam run --help" },
		{ "{\"config\": \"x\"}", "\"config\": only on the command line" },
		{ "{\"help\": true}", "\"help\": only on the command line" },
		{ "{\"kernel\": 5}", "\"kernel\": must be a text" },
		{ "{\"kernel\": true}", "\"kernel\": must be a text" },
		{ "{\"kernel\": null}", "\"kernel\": must be a text" },
		{ "{\"kernel\": {}}", "\"kernel\": must be a text" },
		{ "{\"kernel\": [\"a\"]}", "\"kernel\": must be a text" },
		{ "{\"kernel\": \"\"}", "--kernel: needs a value (FILE)" },
		{ "{\"kernel\": \"a\\u0000b\"}",
		  "line 1: \\u0000 is not allowed without JSON_ALLOW_NUL near '\"a\\u0000b\"'" },
		{ "{\"cpus\": true}", "\"cpus\": must be a whole number" },
		{ "{\"cpus\": 1.5}", "\"cpus\": must be a whole number" },
		{ "{\"cpus\": null}", "\"cpus\": must be a whole number" },
		{ "{\"cpus\": -1}", "--cpus -1: not a whole number" },
		{ "{\"cpus\": 0}", "--cpus 0: must be from 1 to 254" },
		{ "{\"cpus\": \"two\"}", "--cpus two: not a whole number" },
		{ "{\"cpus\": 99999999999999999999}",
		  "line 1: too big integer near '99999999999999999999'" },
		{ "{\"memory\": 1e9}",
		  "\"memory\": must be a size such as \"512M\", or a number of bytes" },
		{ "{\"memory\": 1}",
		  "--memory 1: must be from 4M to 4T; without a unit (K, M, G) it is "
		  "a number of bytes" },
		{ "{\"dry-run\": 1}", "\"dry-run\": must be true or false" },
		{ "{\"dry-run\": \"maybe\"}", "--dry-run maybe: must be on or off" },
		{ "{\"transport\": true}", "--transport on: must be one of pci|mmio" },
		{ "{\"transport\": 1}", "--transport 1: must be one of pci|mmio" },
		{ "{\"transport\": 1.5}", "\"transport\": must be a text" },
		{ "{\"disk\": {\"path\": \"a\", \"cache\": 1024}}",
		  "--disk: cache=1024: must be one of off|on|auto|512" },
		{ "{\"disk\": 1}", "\"disk\": must be a text, an object or true" },
		{ "{\"disk\": null}", "\"disk\": must be a text, an object or true" },
		{ "{\"disk\": false}", "\"disk\": must be a text, an object or true" },
		{ "{\"disk\": [[\"a\"]]}", "\"disk\": must be a text, an object or true" },
		{ "{\"disk\": true}", "--disk: path=FILE is missing" },
		{ "{\"disk\": {}}", "--disk: path=FILE is missing" },
		{ "{\"disk\": {\"ro\": true}}", "--disk: path=FILE is missing" },
		{ "{\"disk\": {\"path\": \"a\", \"rw\": true}}",
		  "--disk: unknown key \"rw\"; did you mean \"ro\"?" },
		{ "{\"disk\": {\"path\": 1}}", "--disk: \"path\": must be a text" },
		{ "{\"disk\": {\"path\": \"a\", \"ro\": 1}}",
		  "--disk: \"ro\": must be true or false" },
		{ "{\"disk\": {\"path\": \"a\", \"path\": \"b\"}}",
		  "line 1: duplicate object key near '\"path\"'" },
		{ "{\"disk\": {\"alias\": [[\"a\"]]}}", "\"alias\": a list in a list" },
		{ "{\"disk\": {\"alias\": [1]}}", "--disk: \"alias\": must be a text" },
		{ "{\"disk\": {\"serial\": [\"a\"]}}", "--disk: \"serial\": must be a text" },
		{ "{\"disk\": \"a,ro,ro\"}", "--disk: ro: given twice" },
		{ "{\"rng\": [true, true]}", "--rng: given twice" },
		{ "{\"serial\": [\"a\", \"b\", \"c\"]}",
		  "--serial: given more than 2 times; a VM has 2 at most" },
	};
	char want[600];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		cr_expect_lt(parse_json("--config|@", table[i].json), 0, "%s was accepted",
			     table[i].json);
		snprintf(want, sizeof(want), "--config %s: %s", json_path, table[i].says);
		if (!table[i].says)
			strcpy(want,
			       "--kernel FILE is missing, or a --disk with a kernel in its /boot; "
			       "see bantam run --help");
		cr_expect_str_eq(err.text, want, "%s: %s", table[i].json, err.text);
	}
}

Test(config, json_of_a_hostile_shape)
{
	static char deep[200001];
	static const char nul[] = "{\"kernel\": \"k\"}\0{";

	memset(deep, '[', 200000);
	cr_expect_lt(parse_json("--config|@", deep), 0);
	cr_expect(strstr(err.text, "maximum parsing depth"), "%s", err.text);
	write_json(nul, sizeof(nul));
	cr_expect_lt(parse("--config|@"), 0);
	cr_expect_lt(parse_json("--config|@", "{\"k\xff\": 1}"), 0);
	cr_expect_lt(parse("--config|/dev/null"), 0);
	cr_expect_lt(parse("--config|/dev/zero"), 0);
}

/* Does text have these words one after the other, whatever blanks and newlines are between? */
static bool has_words(const char *text, const char *words)
{
	for (; *text; text++) {
		const char *t = text, *w = words;

		while (*w && (*t == *w || (*w == ' ' && *t == '\n'))) {
			t += isspace((unsigned char)*t) ? strspn(t, " \n") : 1;
			w++;
		}
		if (!*w)
			return true;
	}
	return false;
}

/* Every option and key is in --help, with its default. */
Test(config, help_lists_everything)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	config_help(out);
	fclose(out);
	for (const struct key *k = config_keys; k->name; k++) {
		char word[64];

		snprintf(word, sizeof(word), "\n  %s--%s ",
			 strcmp(k->name, "verbose") ? "" : "-v, ", k->name);
		cr_expect(strstr(text, word), "%s", k->name);
		cr_expect(has_words(text, k->help), "%s", k->help);
	}
	for (size_t i = 0; device_types[i]; i++) {
		const struct device_type *t = device_types[i];

		if (!t->option)
			continue;
		cr_expect(strstr(text, t->option) && has_words(text, t->help), "%s", t->option);
		for (const struct key *k = t->keys; k->name; k++) {
			char word[64];

			/* Brackets mean that the value may stand alone. */
			snprintf(word, sizeof(word),
				 k->flags & KEY_BARE ? "\n      [%s=]" : "\n      %s=", k->name);
			cr_expect(strstr(text, word), "%s %s", t->option, k->name);
		}
	}
	cr_expect_null(strstr(text, "i8042"));
	cr_expect(strstr(text, "[512M]"));
	cr_expect(has_words(text, "Exit status"));
	cr_expect_not(has_words(text, "Exit statuses"));
	free(text);
}

/* The sanitizers' build finds what config_clear leaves on the heap. */
Test(config, clears_what_a_vmconfig_set)
{
	static const struct config zero;
	struct config_platform *p = &config.platform;
	char **text[] = { &p->manufacturer, &p->product_name, &p->version, &p->serial_number,
			  &p->uuid,	    &p->sku_number,   &p->family,  &p->chassis_asset_tag };

	for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++)
		*text[i] = strdup("text");
	p->oem_string = calloc(2, sizeof(char *));
	p->noem_strings = 2;
	p->oem_string[0] = strdup("one");
	p->oem_string[1] = strdup("two");
	config.cpus.affinity = calloc(2, sizeof(struct config_affinity));
	config.cpus.naffinity = 2;
	config.cpus.affinity[1].host_cpu = calloc(3, sizeof(unsigned));
	config.cpus.affinity[1].nhost_cpus = 3;
	config.memory.shared = true;
	config_clear(&config);
	cr_assert(!memcmp(&config, &zero, sizeof(zero)));
}

/* A VM's devices change one by one: the texts go with the device, and ids that are set stay. */
Test(config, devices_move)
{
	struct config a, b;
	char id[DEVICE_ID_BYTES];

	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	cr_assert_eq(config_parse(&a, 4, (char *[]){ "--kernel", "k", "--disk", "one" }, &err), 0);
	cr_assert_eq(config_parse(&b, 6,
				  (char *[]){ "--kernel", "k", "--disk", "two", "--disk", "three" },
				  &err),
		     0);
	strcpy(b.device[1].id, "kept");
	b.device[1].slot = 7;
	cr_assert_eq(config_take_device(&a, &b.device[1], &err), 0, "%s", err.text);
	cr_assert_eq(a.ndevices, 2);
	cr_assert_str_eq(keys_text_of(&a.device[1].kv, "path"), "three");
	cr_assert_eq(a.device[1].slot, 7);
	cr_assert_null(keys_text_of(&b.device[1].kv, "path"));
	config_clear(&b);
	config_drop_device(&a, 0);
	cr_assert_eq(a.ndevices, 1);
	cr_assert_str_eq(keys_text_of(&a.device[0].kv, "path"), "three");
	config_device_id(&a, 0, id);
	cr_assert_str_eq(id, "kept");
	config_drop_device(&a, 0);
	cr_assert_eq(a.ndevices, 0);
	config_clear(&a);
}
