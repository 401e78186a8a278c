/*
 * vmconfig/to_machine: what a VmConfig says of memory, processors and SMBIOS tables, for which
 * bantam run has no options.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/vmconfig/vmconfig_impl.h"

/* The memory is one piece: it has what any zone asks for. */
static void add_memory(struct config_memory *out, const json_t *in)
{
	uint64_t page = vmconfig_num(in, "hugepage_size");

	out->shared |= vmconfig_bool(in, "shared");
	out->hugepages |= vmconfig_bool(in, "hugepages");
	out->prefault |= vmconfig_bool(in, "prefault");
	out->mergeable |= vmconfig_bool(in, "mergeable");
	if (page > out->hugepage_bytes)
		out->hugepage_bytes = page;
}

static void set_memory(struct config_memory *out, const json_t *memory)
{
	json_t *zone;
	size_t i;

	add_memory(out, memory);
	out->no_thp = json_is_false(json_object_get(memory, "thp"));
	json_array_foreach(json_object_get(memory, "zones"), i, zone)
	{
		add_memory(out, zone);
	}
}

static int set_affinity(struct config_cpus *out, const json_t *list)
{
	size_t n = json_array_size(list), i, k;
	json_t *item, *host;

	if (!n)
		return 0;
	out->affinity = calloc(n, sizeof(*out->affinity));
	if (!out->affinity)
		return -ENOMEM;
	json_array_foreach(list, i, item)
	{
		const json_t *hosts = json_object_get(item, "host_cpus");
		struct config_affinity *a = &out->affinity[out->naffinity++];

		a->vcpu = (unsigned)vmconfig_num(item, "vcpu");
		a->host_cpu = calloc(json_array_size(hosts), sizeof(*a->host_cpu));
		if (!a->host_cpu)
			return -ENOMEM;
		json_array_foreach(hosts, k, host)
		{
			a->host_cpu[a->nhost_cpus++] = (unsigned)json_integer_value(host);
		}
	}
	return 0;
}

/* A topology is that of all max_vcpus; with fewer processors the guest sees none. */
static int set_cpus(struct config_cpus *out, const json_t *cpus)
{
	const json_t *t = json_object_get(cpus, "topology");

	if (t && vmconfig_num(cpus, "boot_vcpus") == vmconfig_num(cpus, "max_vcpus")) {
		out->threads_per_core = (unsigned)vmconfig_num(t, "threads_per_core");
		out->cores_per_die = (unsigned)vmconfig_num(t, "cores_per_die");
		out->dies_per_package = (unsigned)vmconfig_num(t, "dies_per_package");
		out->packages = (unsigned)vmconfig_num(t, "packages");
	}
	return set_affinity(out, json_object_get(cpus, "affinity"));
}

static int set_oem_strings(struct config_platform *out, const json_t *list)
{
	size_t n = json_array_size(list), i;
	json_t *item;

	if (!n)
		return 0;
	out->oem_string = calloc(n, sizeof(*out->oem_string));
	if (!out->oem_string)
		return -ENOMEM;
	json_array_foreach(list, i, item)
	{
		out->oem_string[i] = strdup(json_string_value(item));
		if (!out->oem_string[i])
			return -ENOMEM;
		out->noem_strings++;
	}
	return 0;
}

static int set_platform(struct config_platform *out, const json_t *platform)
{
	static const struct {
		char key[24];
		size_t offset;
	} text[] = {
#define TEXT(key, member) { key, offsetof(struct config_platform, member) }
		TEXT("system_manufacturer", manufacturer),
		TEXT("system_product_name", product_name),
		TEXT("system_version", version),
		TEXT("serial_number", serial_number),
		TEXT("system_serial_number", serial_number),
		TEXT("uuid", uuid),
		TEXT("system_uuid", uuid),
		TEXT("system_sku_number", sku_number),
		TEXT("system_family", family),
		TEXT("chassis_asset_tag", chassis_asset_tag),
	};

	for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++) {
		char **to = (char **)((char *)out + text[i].offset);
		const char *value = vmconfig_text(platform, text[i].key);

		if (!value || !*value || *to)
			continue;
		*to = strdup(value);
		if (!*to)
			return -ENOMEM;
	}
	return set_oem_strings(out, json_object_get(platform, "oem_strings"));
}

int vmconfig_to_machine(const json_t *vm, struct config *out, struct err *err)
{
	int rc = set_cpus(&out->cpus, json_object_get(vm, "cpus"));

	set_memory(&out->memory, json_object_get(vm, "memory"));
	if (!rc)
		rc = set_platform(&out->platform, json_object_get(vm, "platform"));
	return rc ? err_sys(err, -rc, "the configuration") : 0;
}
