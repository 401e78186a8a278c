/* show: prints answers and events for people. Their texts may come from guests and other programs. */
#include <stdio.h>
#include <string.h>

#include "tools/bantam-ctl/ctl.h"
#include "vmm/core/parse.h"
#include "vmm/core/printable.h"

static const char *text_of(json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static void print(const char *text)
{
	printable_put(stdout, text);
}

static void print_size(json_t *bytes)
{
	char buf[32];

	print(parse_size_text((uint64_t)json_integer_value(bytes), buf, sizeof(buf)));
}

void ctl_show_ping(json_t *answer)
{
	print(text_of(answer, "build_version"));
	printf(", process %lld\n", (long long)json_integer_value(json_object_get(answer, "pid")));
}

void ctl_show_added(json_t *answer)
{
	print(text_of(answer, "id"));
	putchar(' ');
	print(text_of(answer, "bdf"));
	putchar('\n');
}

/* --- info ---------------------------------------------------------------------------- */

static void label(const char *name)
{
	printf("%-9s ", name);
}

static void line(const char *name, const char *text)
{
	if (!*text)
		return;
	label(name);
	print(text);
	putchar('\n');
}

/* A device's lists in the VM's configuration, and which of its keys are worth a word. */
static const struct {
	const char *list, *label;
	const char *first[4];  /* the first of these that is set, without its name */
	const char *others[6]; /* with their names */
	const char *flags[4];  /* named if true */
} devices[] = {
	{ "disks",
	  "disk",
	  { "path", "vhost_socket" },
	  { "image_type", "serial" },
	  { "readonly", "direct" } },
	{ "net", "net", { "tap", "vhost_socket", "stream" }, { "mac", "ip", "mask" }, { 0 } },
	{ "fs", "fs", { "socket" }, { "tag" }, { 0 } },
	{ "vsock", "vsock", { "socket" }, { "cid" }, { 0 } },
	{ "balloon", "balloon", { 0 }, { "size" }, { "deflate_on_oom", "free_page_reporting" } },
	{ "rng", "rng", { "src" }, { 0 }, { 0 } },
};

static const char *bdf_of(json_t *info, const char *id)
{
	char name[160];

	snprintf(name, sizeof(name), "_virtio-pci-%s", id);
	return text_of(json_object_get(json_object_get(info, "device_tree"), name), "pci_bdf");
}

static void print_value(json_t *value)
{
	if (json_is_integer(value))
		printf("%lld", (long long)json_integer_value(value));
	else if (json_is_string(value))
		print(json_string_value(value));
}

static void show_device(json_t *info, size_t row, json_t *device)
{
	const char *id = text_of(device, "id"), *between = "";

	label(devices[row].label);
	print(id);
	if (*bdf_of(info, id)) {
		printf("  ");
		print(bdf_of(info, id));
	}
	printf("  ");
	for (unsigned i = 0; i < 4 && devices[row].first[i]; i++) {
		const char *text = text_of(device, devices[row].first[i]);

		if (!*text)
			continue;
		print(text);
		between = ", ";
		break;
	}
	for (unsigned i = 0; i < 6 && devices[row].others[i]; i++) {
		json_t *value = json_object_get(device, devices[row].others[i]);

		if (!json_is_integer(value) && !json_is_string(value))
			continue;
		printf("%s%s ", between, devices[row].others[i]);
		print_value(value);
		between = ", ";
	}
	for (unsigned i = 0; i < 4 && devices[row].flags[i]; i++) {
		if (!json_is_true(json_object_get(device, devices[row].flags[i])))
			continue;
		printf("%s%s", between, devices[row].flags[i]);
		between = ", ";
	}
	putchar('\n');
}

static void show_devices(json_t *info, json_t *config)
{
	for (size_t row = 0; row < sizeof(devices) / sizeof(devices[0]); row++) {
		json_t *list = json_object_get(config, devices[row].list), *device;
		size_t i;

		if (json_is_object(list))
			show_device(info, row, list);
		json_array_foreach(list, i, device) show_device(info, row, device);
	}
}

static void show_memory(json_t *info, json_t *config)
{
	json_t *size = json_object_get(json_object_get(config, "memory"), "size");
	json_t *actual = json_object_get(info, "memory_actual_size");

	if (!json_is_integer(size))
		return;
	label("memory");
	print_size(size);
	if (json_is_integer(actual) && !json_equal(actual, size)) {
		printf(", the guest has ");
		print_size(actual);
	}
	putchar('\n');
}

static void show_console(json_t *config, const char *name)
{
	json_t *console = json_object_get(config, name);
	const char *mode = text_of(console, "mode");
	const char *where = text_of(console, "file");

	if (!*mode)
		return;
	label(name);
	print(mode);
	if (!*where)
		where = text_of(console, "socket");
	if (*where)
		putchar(' ');
	print(where);
	putchar('\n');
}

void ctl_show_info(json_t *answer)
{
	json_t *config = json_object_get(answer, "config");
	json_t *payload = json_object_get(config, "payload");
	json_t *cpus = json_object_get(config, "cpus");

	line("state", text_of(answer, "state"));
	label("cpus");
	print_value(json_object_get(cpus, "boot_vcpus"));
	putchar('\n');
	show_memory(answer, config);
	line("kernel", text_of(payload, "kernel"));
	line("initramfs", text_of(payload, "initramfs"));
	line("cmdline", text_of(payload, "cmdline"));
	show_devices(answer, config);
	show_console(config, "serial");
	show_console(config, "console");
	line("digest", text_of(json_object_get(answer, "bantam"), "digest"));
}

/* --- counters, events ---------------------------------------------------------------- */

void ctl_show_counters(json_t *answer)
{
	const char *id, *name;
	json_t *device, *value;

	json_object_foreach(answer, id, device)
	{
		json_object_foreach(device, name, value)
		{
			char row[128];

			snprintf(row, sizeof(row), "%-12s %-20s %lld", id, name,
				 (long long)json_integer_value(value));
			print(row);
			putchar('\n');
		}
	}
}

void ctl_show_event(json_t *event)
{
	json_t *time = json_object_get(event, "timestamp");
	json_t *props = json_object_get(event, "properties"), *value;
	const char *name;

	printf("%4lld.%06lld  ", (long long)json_integer_value(json_object_get(time, "secs")),
	       (long long)json_integer_value(json_object_get(time, "nanos")) / 1000);
	print(text_of(event, "source"));
	putchar(' ');
	print(text_of(event, "event"));
	json_object_foreach(props, name, value)
	{
		putchar(' ');
		print(name);
		putchar('=');
		print_value(value);
	}
	putchar('\n');
}
