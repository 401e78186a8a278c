/*
 * vmconfig/rules: what the table of an object cannot say: fields that need or exclude each other,
 * and values that are resolved once (a card's address). vmconfig_rules concerns one object,
 * vmconfig_vm_rules several objects of a VmConfig.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "vmm/core/fd_kind.h"
#include "vmm/vmconfig/vmconfig_impl.h"

#define MIB (1ull << 20)
#define MEMORY_DEFAULT (512 * MIB)
#define MEMORY_MIN (4 * MIB)

static int set(struct vmconfig_walk *w, json_t *object, const char *key, json_t *value)
{
	return json_object_set_new(object, key, value) ? vmconfig_no_memory(w) : 0;
}

static bool has(const json_t *object, const char *key)
{
	return json_object_get(object, key) != NULL;
}

/* --- processors and memory -------------------------------------------------------------------- */

static int affinity(struct vmconfig_walk *w, const json_t *list, uint64_t max)
{
	bool seen[BOARD_MAX_CPUS] = { false };
	json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		uint64_t vcpu = vmconfig_num(item, "vcpu");

		if (vcpu >= max)
			return vmconfig_fail_item(w, EINVAL, "affinity", i, "vcpu",
						  "%llu: max_vcpus is %llu",
						  (unsigned long long)vcpu,
						  (unsigned long long)max);
		if (seen[vcpu])
			return vmconfig_fail_item(w, EINVAL, "affinity", i, "vcpu",
						  "%llu: is twice", (unsigned long long)vcpu);
		if (!json_array_size(json_object_get(item, "host_cpus")))
			return vmconfig_fail_item(w, EINVAL, "affinity", i, "host_cpus",
						  "is empty: vcpu %llu could not run",
						  (unsigned long long)vcpu);
		seen[vcpu] = true;
	}
	return 0;
}

static int cpus(struct vmconfig_walk *w, json_t *cpus)
{
	const json_t *topology = json_object_get(cpus, "topology");
	uint64_t boot = vmconfig_num(cpus, "boot_vcpus"), max = vmconfig_num(cpus, "max_vcpus"), n;
	int rc = 0;

	if (!has(cpus, "max_vcpus")) {
		max = boot;
		rc = set(w, cpus, "max_vcpus", json_integer((json_int_t)boot));
	}
	if (boot > max)
		return vmconfig_fail(w, EINVAL, "boot_vcpus", "%llu: max_vcpus is only %llu",
				     (unsigned long long)boot, (unsigned long long)max);
	if (boot < max)
		vmconfig_warn(w, "max_vcpus",
			      "%llu: has no effect: processors cannot be added to the %llu of "
			      "boot_vcpus later",
			      (unsigned long long)max, (unsigned long long)boot);
	if (boot < max && topology)
		vmconfig_warn(w, "topology", "has no effect unless boot_vcpus is max_vcpus");
	n = vmconfig_num(topology, "threads_per_core") * vmconfig_num(topology, "cores_per_die") *
	    vmconfig_num(topology, "dies_per_package") * vmconfig_num(topology, "packages");
	if (topology && n != max)
		return vmconfig_fail(w, EINVAL, "topology",
				     "its numbers multiply to %llu; max_vcpus is %llu",
				     (unsigned long long)n, (unsigned long long)max);
	return rc ? rc : affinity(w, json_object_get(cpus, "affinity"), max);
}

static int pages(struct vmconfig_walk *w, const json_t *memory, uint64_t bytes)
{
	uint64_t page = vmconfig_num(memory, "hugepage_size");

	if (page && !vmconfig_bool(memory, "hugepages"))
		return vmconfig_fail(w, EINVAL, "hugepage_size", "%llu: needs hugepages: true",
				     (unsigned long long)page);
	if (page && bytes % page)
		return vmconfig_fail(w, EINVAL, "size",
				     "%llu: must be a multiple of hugepage_size, %llu",
				     (unsigned long long)bytes, (unsigned long long)page);
	return 0;
}

static int zones(struct vmconfig_walk *w, const json_t *zones, uint64_t *sum)
{
	size_t i, k;
	json_t *zone, *other;

	*sum = 0;
	json_array_foreach(zones, i, zone)
	{
		*sum += vmconfig_num(zone, "size");
		json_array_foreach(zones, k, other)
		{
			const char *id = vmconfig_text(zone, "id");

			if (k < i && !strcmp(id, vmconfig_text(other, "id")))
				return vmconfig_fail_item(w, EEXIST, "zones", i, "id",
							  "\"%s\": another zone has this id", id);
		}
	}
	return 0;
}

static int memory(struct vmconfig_walk *w, json_t *memory)
{
	const json_t *list = json_object_get(memory, "zones");
	bool zoned = json_array_size(list) > 0;
	uint64_t size = vmconfig_num(memory, "size"), bytes = size;
	int rc = zones(w, list, &bytes);

	if (rc)
		return rc;
	if (!has(memory, "size")) {
		size = zoned ? 0 : MEMORY_DEFAULT;
		rc = set(w, memory, "size", json_integer((json_int_t)size));
	}
	if (rc)
		return rc;
	if (zoned && size)
		return vmconfig_fail(w, EINVAL, "size",
				     "%llu: must be 0 with zones: it is the sum of theirs",
				     (unsigned long long)size);
	if (!zoned)
		bytes = size;
	if (bytes < MEMORY_MIN || bytes > config_keys[CONFIG_MEMORY].max)
		return vmconfig_fail(w, EINVAL, zoned ? "zones" : "size",
				     "%llu bytes: must be from %llu to %llu",
				     (unsigned long long)bytes, MEMORY_MIN,
				     (unsigned long long)config_keys[CONFIG_MEMORY].max);
	return pages(w, memory, bytes);
}

/* --- disks, cards, folders --------------------------------------------------------------------- */

/* The fields of a vhost-user daemon; of is what it stands for. */
static int daemon_of(struct vmconfig_walk *w, const json_t *object)
{
	bool wanted = vmconfig_bool(object, "vhost_user");

	if (wanted && !has(object, "vhost_socket"))
		return vmconfig_fail(w, EINVAL, "vhost_socket",
				     "is missing: vhost_user needs the daemon's socket");
	if (!wanted && has(object, "vhost_socket"))
		vmconfig_warn(w, "vhost_socket", "has no effect without vhost_user: true");
	return 0;
}

static int disk(struct vmconfig_walk *w, json_t *disk)
{
	const char *type = vmconfig_text(disk, "image_type");
	bool daemon = vmconfig_bool(disk, "vhost_user");
	uint64_t block = vmconfig_num(disk, "block_size");

	if (block && block != 512 && block != 4096)
		return vmconfig_fail(w, EINVAL, "block_size", "%llu: must be 512 or 4096",
				     (unsigned long long)block);
	if (type && (!strcmp(type, "FixedVhd") || !strcmp(type, "Vhdx")))
		return vmconfig_fail(w, ENOTSUP, "image_type",
				     "%s: bantam does not have this format; convert the image: "
				     "qemu-img convert -O qcow2",
				     type);
	if (!daemon && !has(disk, "path"))
		return vmconfig_fail(w, EINVAL, "path", "is missing: image or block device");
	if (daemon && has(disk, "path"))
		return vmconfig_fail(w, EINVAL, "path",
				     "goes without vhost_user: the daemon has the image");
	return daemon_of(w, disk);
}

int vmconfig_random_mac(char text[18])
{
	uint8_t b[6];

	if (getrandom(b, sizeof(b), 0) != (ssize_t)sizeof(b))
		return -errno;
	snprintf(text, 18, "%02x:%02x:%02x:%02x:%02x:%02x", (b[0] & 0xfcu) | 2u, b[1], b[2], b[3],
		 b[4], b[5]);
	return 0;
}

static int resolve_mac(struct vmconfig_walk *w, json_t *net)
{
	char text[18];
	int rc;

	if (has(net, "mac"))
		return 0;
	rc = vmconfig_random_mac(text);
	if (rc)
		return vmconfig_fail(w, -rc, "mac", "cannot get random numbers");
	return set(w, net, "mac", json_string(text));
}

/* An unbroken row of ones from the top. */
static bool good_mask(const char *text, bool v6)
{
	uint8_t b[16];
	unsigned bits = v6 ? 128 : 32, i = 0;

	if (inet_pton(v6 ? AF_INET6 : AF_INET, text, b) != 1)
		return false;
	while (i < bits && b[i / 8] >> (7 - i % 8) & 1)
		i++;
	while (i < bits && !(b[i / 8] >> (7 - i % 8) & 1))
		i++;
	return i == bits;
}

static int address(struct vmconfig_walk *w, json_t *net)
{
	const char *ip = vmconfig_text(net, "ip"), *mask = vmconfig_text(net, "mask");
	bool v6 = ip && strchr(ip, ':');

	if (mask && !ip)
		return vmconfig_fail(w, EINVAL, "mask", "\"%s\": needs ip", mask);
	if (ip && !mask)
		return set(w, net, "mask",
			   json_string(v6 ? "ffff:ffff:ffff:ffff::" : "255.255.255.0"));
	if (ip && !good_mask(mask, v6))
		return vmconfig_fail(w, EINVAL, "mask",
				     "\"%s\": is no mask of %s; write it like %s", mask, ip,
				     v6 ? "ffff:ffff:ffff:ffff::" : "255.255.255.0");
	return 0;
}

/* Puts the request's next n descriptors, each a queue of a tap, into a list. */
static int list_descriptors(struct vmconfig_walk *w, json_t *list, unsigned n)
{
	const struct vmconfig_notes *notes = w->notes;

	for (; n; w->fds++) {
		int fd = notes->fd[w->fds];
		char kind[96];

		if (fd < 0)
			continue;
		for (unsigned i = 0; i < w->fds; i++)
			if (notes->fd[i] == fd)
				return vmconfig_fail(w, EINVAL, "fds",
						     "%d: another queue has this descriptor", fd);
		if (!fd_is_tap(fd))
			return vmconfig_fail(w, EINVAL, "fds",
					     "descriptor %u of the request is %s, not a tap",
					     w->fds, fd_kind(fd, kind, sizeof(kind)));
		if (json_array_append_new(list, json_integer(fd)))
			return vmconfig_no_memory(w);
		n--;
	}
	return 0;
}

/*
 * Descriptors are the card's network: what would describe a tap by name goes. n came for this card;
 * those that it cannot use stay the caller's.
 */
static int use_descriptors(struct vmconfig_walk *w, json_t *net, unsigned n)
{
	static const char useless[][10] = { "tap", "ip", "mask", "host_mac" };
	uint64_t queues = vmconfig_num(net, "num_queues");
	json_t *list;
	int rc;

	if (queues > 2ull * n)
		return vmconfig_fail(w, EINVAL, "num_queues",
				     "%llu: two for each descriptor; %u came with the request",
				     (unsigned long long)queues, n);
	n = n < VMCONFIG_PAIRS_MAX ? n : VMCONFIG_PAIRS_MAX;
	list = json_array();
	rc = list_descriptors(w, list, n);
	for (size_t i = 0; i < sizeof(useless) / sizeof(useless[0]); i++)
		json_object_del(net, useless[i]);
	if (!rc)
		rc = set(w, net, "num_queues", json_integer(2 * (json_int_t)n));
	if (!rc && json_object_set(net, "fds", list))
		rc = vmconfig_no_memory(w);
	json_decref(list);
	return rc;
}

void vmconfig_take_descriptors(struct vmconfig_walk *w)
{
	for (unsigned i = 0; i < w->fds; i++)
		w->notes->fd[i] = -1;
}

/*
 * How many of the request's descriptors this card takes: as many as "fds" lists, or all if the card
 * is the whole body (vm.add-net).
 */
static unsigned descriptors(const struct vmconfig_walk *w, const json_t *net)
{
	size_t listed = json_array_size(json_object_get(net, "fds"));
	unsigned left = 0;

	for (unsigned i = w->fds; w->notes && i < w->notes->nfds; i++)
		left += w->notes->fd[i] >= 0;
	return !w->len ? left : listed < left ? (unsigned)listed : left;
}

/* What the kernel takes as the name of an interface; "%d" would be a number of its choice. */
static bool is_interface_name(const char *name)
{
	return strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
	       !strpbrk(name, "/:% \t\n\v\f\r");
}

static int net_source(struct vmconfig_walk *w, const json_t *net)
{
	static const char source[][12] = { "tap", "fds", "user", "stream" };
	const char *first = vmconfig_bool(net, "vhost_user") ? "vhost_user" : NULL;

	for (size_t i = 0; i < sizeof(source) / sizeof(source[0]); i++) {
		if (!has(net, source[i]))
			continue;
		if (first)
			return vmconfig_fail(w, EINVAL, source[i],
					     "a card has one network; it has %s already", first);
		first = source[i];
	}
	if (has(net, "tap") && !is_interface_name(vmconfig_text(net, "tap")))
		return vmconfig_fail(w, EINVAL, "tap", "\"%s\": not the name of an interface",
				     vmconfig_text(net, "tap"));
	if (first && strcmp(first, "tap") != 0 && has(net, "ip"))
		return vmconfig_fail(w, EINVAL, "ip", "is an address on a tap; the card has %s",
				     first);
	return daemon_of(w, net);
}

static int net(struct vmconfig_walk *w, json_t *net)
{
	size_t listed = json_array_size(json_object_get(net, "fds"));
	unsigned fds = descriptors(w, net);
	int rc = 0;

	if (fds && w->len && fds < listed)
		vmconfig_warn(w, "fds", "%zu are listed, but only %u came with the request", listed,
			      fds);
	if (has(net, "fds") && !fds) {
		if (listed)
			vmconfig_warn(w, "fds",
				      "ignored: numbers mean nothing to another process; the "
				      "descriptors must come with the request (SCM_RIGHTS)");
		json_object_del(net, "fds");
	}
	if (fds)
		rc = use_descriptors(w, net, fds);
	if (!rc && vmconfig_num(net, "num_queues") % 2)
		rc = vmconfig_fail(w, EINVAL, "num_queues",
				   "%llu: must be even: two queues are a pair",
				   (unsigned long long)vmconfig_num(net, "num_queues"));
	if (!rc)
		rc = net_source(w, net);
	if (!rc)
		rc = address(w, net);
	return rc ? rc : resolve_mac(w, net);
}

/* --- consoles, platform -------------------------------------------------------------------------- */

static int chardev(struct vmconfig_walk *w, json_t *c)
{
	const char *mode = vmconfig_text(c, "mode");

	if (!strcmp(mode, "File") && !has(c, "file"))
		return vmconfig_fail(w, EINVAL, "file", "is missing: mode File writes there");
	if (!strcmp(mode, "Socket") && !has(c, "socket"))
		return vmconfig_fail(w, EINVAL, "socket", "is missing: mode Socket listens there");
	/* The terminal's name of a machine that is gone: the next one gets its own. */
	if (!strcmp(mode, "Pty"))
		json_object_del(c, "file");
	return 0;
}

static int oem_strings(struct vmconfig_walk *w, const json_t *list)
{
	size_t total = 0, i;
	const json_t *text;

	json_array_foreach(list, i, text)
	{
		total += json_string_length(text);
	}
	return total <= OEM_STRINGS_MAX ?
		       0 :
		       vmconfig_fail(w, EINVAL, "oem_strings",
				     "%zu bytes in all: at most %u fit in SMBIOS tables", total,
				     OEM_STRINGS_MAX);
}

static int platform(struct vmconfig_walk *w, const json_t *p)
{
	static const struct {
		char a[24], b[24];
	} same[] = { { "serial_number", "system_serial_number" }, { "uuid", "system_uuid" } };

	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		const json_t *a = json_object_get(p, same[i].a), *b = json_object_get(p, same[i].b);

		if (a && b && !json_equal(a, b))
			return vmconfig_fail(w, EINVAL, same[i].b,
					     "differs from %s, which means the same", same[i].a);
	}
	return oem_strings(w, json_object_get(p, "oem_strings"));
}

int vmconfig_rules(struct vmconfig_walk *w, enum vmconfig_object object, json_t *out)
{
	switch (object) {
	case VMCONFIG_CPUS:
		return cpus(w, out);
	case VMCONFIG_MEMORY:
		return memory(w, out);
	case VMCONFIG_ZONE:
		return pages(w, out, vmconfig_num(out, "size"));
	case VMCONFIG_DISK:
		return disk(w, out);
	case VMCONFIG_NET:
		return net(w, out);
	case VMCONFIG_SERIAL:
	case VMCONFIG_CONSOLE:
		return chardev(w, out);
	case VMCONFIG_PLATFORM:
		return platform(w, out);
	default:
		return 0;
	}
}
