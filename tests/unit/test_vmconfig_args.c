/* vmconfig/args: the command line of the compatible face, and what it means. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/vmconfig/vmconfig_impl.h"

static struct err err;

/* "|" separates the arguments. Returns 0, an error, or 1 at a foreign option, whose place is *at. */
static int take(const char *args, json_t **vm, int *at)
{
	char *argv[64], *copy = strdup(args), *rest = copy, *word;
	int argc = 0, rc = 1;

	while ((word = strsep(&rest, "|")))
		argv[argc++] = word;
	argv[argc] = NULL;
	memset(&err, 0, sizeof(err));
	*vm = json_object();
	*at = 0;
	while (*at < argc && rc == 1)
		rc = vmconfig_take_option(*vm, argc, argv, at, &err);
	free(copy);
	return rc < 0 ? rc : !rc;
}

static void expect_is(const char *args, const json_t *is, const char *want)
{
	char *text = json_dumps(is, JSON_COMPACT | JSON_SORT_KEYS);

	cr_expect_str_eq(text, want, "%s: %s, not %s", args, text, want);
	free(text);
}

static const struct {
	const char *args, *json;
} good[] = {
	{ "--kernel|/k", "{\"payload\":{\"kernel\":\"/k\"}}" },
	{ "--kernel=/k|--initramfs|/i|--cmdline|a=b,c \"d\" [e",
	  "{\"payload\":{\"cmdline\":\"a=b,c \\\"d\\\" [e\",\"initramfs\":\"/i\",\"kernel\":\"/k\"}}" },
	{ "--cmdline|-- --init", "{\"payload\":{\"cmdline\":\"-- --init\"}}" },
	{ "--cmdline|", "{\"payload\":{\"cmdline\":\"\"}}" },
	{ "--cpus|4", "{\"cpus\":{\"boot_vcpus\":4}}" },
	{ "--cpus|boot=2,max=4", "{\"cpus\":{\"boot_vcpus\":2,\"max_vcpus\":4}}" },
	{ "--cpus|boot=8,topology=2:2:1:2",
	  "{\"cpus\":{\"boot_vcpus\":8,\"topology\":{\"cores_per_die\":2,\"dies_per_package\":1,"
	  "\"packages\":2,\"threads_per_core\":2}}}" },
	{ "--cpus|boot=2,affinity=[0@[1-3],1@[4,6]]",
	  "{\"cpus\":{\"affinity\":[{\"host_cpus\":[1,2,3],\"vcpu\":0},{\"host_cpus\":[4,6],\"vcpu\":1}],"
	  "\"boot_vcpus\":2}}" },
	{ "--cpus|1,features=amx,kvm_hyperv=on",
	  "{\"cpus\":{\"boot_vcpus\":1,\"features\":{\"amx\":true},\"kvm_hyperv\":true}}" },
	{ "--memory|size=1G,shared=on,thp=off,hotplug_method=virtio-mem,hotplug_size=2G",
	  "{\"memory\":{\"hotplug_method\":\"VirtioMem\",\"hotplug_size\":2147483648,\"shared\":true,"
	  "\"size\":1073741824,\"thp\":false}}" },
	{ "--memory-zone|id=a,size=512M|id=b,size=1024K|--memory|size=0,prefault=true",
	  "{\"memory\":{\"prefault\":true,\"size\":0,\"zones\":[{\"id\":\"a\",\"size\":536870912},"
	  "{\"id\":\"b\",\"size\":1048576}]}}" },
	{ "--memory|size=0|--memory-zone|id=a,size=512M",
	  "{\"memory\":{\"size\":0,\"zones\":[{\"id\":\"a\",\"size\":536870912}]}}" },
	{ "--disk|path=a|path=b,readonly=on|--disk|path=\"c,d\",image_type=raw,serial=",
	  "{\"disks\":[{\"path\":\"a\"},{\"path\":\"b\",\"readonly\":true},{\"image_type\":\"Raw\",\"path\":\"c,d\"}]}" },
	{ "--disk|path=a,bw_size=1M,bw_refill_time=100,ops_size=10,ops_one_time_burst=5,ops_refill_time=1000",
	  "{\"disks\":[{\"path\":\"a\",\"rate_limiter_config\":{\"bandwidth\":{\"refill_time\":100,\"size\":1048576},"
	  "\"ops\":{\"one_time_burst\":5,\"refill_time\":1000,\"size\":10}}}]}" },
	{ "--disk|vhost_user=on,socket=/s,id=x",
	  "{\"disks\":[{\"id\":\"x\",\"vhost_socket\":\"/s\",\"vhost_user\":true}]}" },
	{ "--disk|path=a,queue_affinity=[0@[1],1@[2-3]]",
	  "{\"disks\":[{\"path\":\"a\",\"queue_affinity\":[{\"host_cpus\":[1],\"queue_index\":0},"
	  "{\"host_cpus\":[2,3],\"queue_index\":1}]}]}" },
	{ "--net|tap=,mac=,ip=10.0.0.1,mask=", "{\"net\":[{\"ip\":\"10.0.0.1\"}]}" },
	{ "--net|", "{\"net\":[{}]}" },
	{ "--net|fd=[3,4],vhost_mode=server|fd=5",
	  "{\"net\":[{\"fds\":[3,4],\"vhost_mode\":\"Server\"},{\"fds\":[5]}]}" },
	{ "--net|tap=t,offload_tso=off,num_queues=4",
	  "{\"net\":[{\"num_queues\":4,\"offload_tso\":false,\"tap\":\"t\"}]}" },
	{ "--fs|tag=t,socket=/s|tag=u,socket=/v",
	  "{\"fs\":[{\"socket\":\"/s\",\"tag\":\"t\"},{\"socket\":\"/v\",\"tag\":\"u\"}]}" },
	{ "--vsock|cid=3,socket=/s", "{\"vsock\":{\"cid\":3,\"socket\":\"/s\"}}" },
	{ "--rng|src=/dev/hwrng", "{\"rng\":{\"src\":\"/dev/hwrng\"}}" },
	{ "--balloon|size=1M,free_page_reporting=on",
	  "{\"balloon\":{\"free_page_reporting\":true,\"size\":1048576}}" },
	{ "--serial|tty|--console|off",
	  "{\"console\":{\"mode\":\"Off\"},\"serial\":{\"mode\":\"Tty\"}}" },
	{ "--serial|file=/f|--console|socket=/s",
	  "{\"console\":{\"mode\":\"Socket\",\"socket\":\"/s\"},\"serial\":{\"file\":\"/f\",\"mode\":\"File\"}}" },
	{ "--platform|num_pci_segments=2,oem_strings=[a,\"b,c\"],uuid=u",
	  "{\"platform\":{\"num_pci_segments\":2,\"oem_strings\":[\"a\",\"b,c\"],\"uuid\":\"u\"}}" },
	{ "--platform|oem_strings=[io.systemd.credential:a.b=vsock-stream:2:8888,c=d=e]",
	  "{\"platform\":{\"oem_strings\":[\"io.systemd.credential:a.b=vsock-stream:2:8888\",\"c=d=e\"]}}" },
	{ "--pvpanic|--watchdog", "{\"pvpanic\":true,\"watchdog\":true}" },
	{ "--rate-limit-group|id=g,ops_size=1,ops_refill_time=1",
	  "{\"rate_limit_groups\":[{\"id\":\"g\",\"rate_limiter_config\":{\"ops\":{\"refill_time\":1,\"size\":1}}}]}" },
	{ "--landlock|--landlock-rules|path=/a,access=rw",
	  "{\"landlock_enable\":true,\"landlock_rules\":[{\"access\":\"rw\",\"path\":\"/a\"}]}" },
};

Test(vmconfig_args, good)
{
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		json_t *vm;
		int at, rc = take(good[i].args, &vm, &at);

		cr_expect_eq(rc, 0, "%s: %d: %s", good[i].args, rc, err.text);
		expect_is(good[i].args, vm, good[i].json);
		json_decref(vm);
	}
}

static const struct {
	const char *args;
	int rc;
	const char *says;
} bad[] = {
	{ "--kernel", -EINVAL, "--kernel: needs a value" },
	{ "--kernel|--disk", -EINVAL, "--kernel: needs a value" },
	{ "--kernel|a|--kernel|b", -EINVAL, "--kernel: is given twice" },
	{ "--cpus|1|--cpus|2", -EINVAL, "--cpus: is given twice" },
	{ "--cpus|boot=x", -EINVAL, "--cpus: boot: x: must be a whole number" },
	{ "--cpus|boot=1,boot=2", -EINVAL, "--cpus: boot: is given twice" },
	{ "--cpus|boot=-1", -EINVAL, "--cpus: boot: -1: must be" },
	{ "--cpus|boot=1,topology=1:1:1:1:1", -EINVAL, "must be fewer values" },
	{ "--cpus|boot=1,affinity=[0@[3-1]]", -EINVAL,
	  "--cpus: affinity: 3-1: must be numbers or ranges" },
	{ "--cpus|boot=1,affinity=[0@[0-99999999999]]", -EINVAL, "must be numbers or ranges" },
	{ "--cpus|boot=1,affinity=[0@[1]", -EINVAL,
	  "must be with as many closing as opening brackets" },
	{ "--cpus|boot=1,affinity=]0[", -EINVAL, "must be with as many closing" },
	{ "--memory|size=1X", -EINVAL, "--memory: size: 1X: must be a size" },
	{ "--memory|size=99999999T", -EINVAL, "must be a size" },
	{ "--memory|size=1G|--memory|size=2G", -EINVAL, "--memory: is given twice" },
	{ "--memory|zones=1", -EINVAL, "--memory: unknown key \"zones\"" },
	{ "--disk|path=a,read_only=on", -EINVAL,
	  "--disk: unknown key \"read_only\"; did you mean \"readonly\"?" },
	{ "--disk|path=a,readonly=maybe", -EINVAL, "--disk: readonly: maybe: must be on or off" },
	{ "--disk|path=a,image_type=vmdk", -EINVAL, "--disk: image_type: vmdk: must be Raw|Qcow2" },
	{ "--disk|path=a,bw_foo=1", -EINVAL, "unknown key \"bw_foo\"" },
	{ "--disk|path=a,rate_limiter_config=1", -EINVAL, "rate_limiter_config" },
	{ "--disk|path=a,b", -EINVAL, "--disk: \"b\": write it as KEY=VALUE" },
	{ "--disk|path", -EINVAL, "--disk: path: needs a value" },
	{ "--disk|path=\"a", -EINVAL, "as many closing" },
	{ "--vsock|cid=18446744073709551615,socket=/s", -EINVAL,
	  "--vsock: cid: 18446744073709551615" },
	{ "--serial|uart", -EINVAL, "--serial: mode: uart: must be Off|Null" },
	{ "--disk|path=\xff", -EINVAL, "must be UTF-8" },
	{ "--kernel|\xff", -EINVAL, "--kernel: must be UTF-8" },
	{ "--watchdog=maybe", -EINVAL, "--watchdog: maybe: must be on or off" },
	{ "--pmem|file=/p", -ENOTSUP, "--pmem: bantam does not have this option" },
	{ "--gdb|path=/p", -ENOTSUP, "--gdb" },
	{ "--restore|x", -ENOTSUP, "--restore" },
	{ "--device=x", -ENOTSUP, "--device" },
};

Test(vmconfig_args, bad)
{
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *vm;
		int at, rc = take(bad[i].args, &vm, &at);

		cr_expect_eq(rc, bad[i].rc, "%s: %d: %s", bad[i].args, rc, err.text);
		cr_expect(strstr(err.text, bad[i].says), "%s: %s", bad[i].args, err.text);
		json_decref(vm);
	}
}

/* What belongs to the process stays where it is. */
Test(vmconfig_args, foreign)
{
	static const char *const args[] = {
		"--api-socket|x",
		"-v",
		"--log-file=x",
		"word",
		"--",
		"--iommu",
		"---",
		"--rtc|x",
		"--a-name-of-more-than-thirty-two-bytes=x",
	};

	for (size_t i = 0; i < sizeof(args) / sizeof(args[0]); i++) {
		json_t *vm;
		int at;

		cr_expect_eq(take(args[i], &vm, &at), 1, "%s", args[i]);
		cr_expect_eq(at, 0);
		cr_expect_eq(json_object_size(vm), 0);
		json_decref(vm);
	}
}

Test(vmconfig_args, stops_at_a_foreign_option)
{
	json_t *vm;
	int at;

	cr_expect_eq(take("--disk|path=a|path=b|-v|--net|tap=t", &vm, &at), 1);
	cr_expect_eq(at, 3);
	cr_expect_eq(json_array_size(json_object_get(vm, "disks")), 2);
	json_decref(vm);
}

Test(vmconfig_args, descriptors)
{
	json_t *vm;
	int at, fd[3];

	cr_assert_eq(take("--net|fd=[7,8]|tap=t|fd=9", &vm, &at), 0);
	cr_expect_eq(vmconfig_option_fds(vm, fd, 3), 3);
	cr_expect(fd[0] == 7 && fd[1] == 8 && fd[2] == 9);
	cr_expect_eq(vmconfig_option_fds(vm, fd, 2), 2);
	json_decref(vm);
}

/* Each key of each option's table can be given, and comes where JSON has it. */
static void try_key(const char *option, const struct vmconfig_field *f, bool list)
{
	const char *key = *f->cli ? f->cli : f->key;
	const char *value = f->kind == KIND_BOOL  ? "on" :
			    f->kind == KIND_ENUM  ? strrchr(f->choices, '|') + 1 :
			    f->kind == KIND_UINT  ? "7" :
			    f->kind == KIND_BYTES ? "8K" :
			    f->kind == KIND_UINTS ? "[1]" :
						    "x";
	char args[128];
	json_t *vm, *first;
	int at;

	snprintf(args, sizeof(args), "--%s|%s=%s", option, key, value);
	cr_expect_eq(take(args, &vm, &at), 0, "%s: %s", args, err.text);
	first = json_object_iter_value(json_object_iter(vm));
	if (!list)
		cr_expect(json_object_get(first, f->key), "%s", args);
	else
		cr_expect(json_object_get(json_array_get(first, 0), f->key), "%s", args);
	json_decref(vm);
}

Test(vmconfig_args, each_key)
{
	for (const struct vmconfig_field *f = vmconfig_fields(VMCONFIG_VM); f->kind != KIND_NONE;
	     f++) {
		const struct vmconfig_field *k;

		if (!strcmp(f->cli, "-") || (f->kind != KIND_OBJECT && f->kind != KIND_OBJECTS))
			continue;
		for (k = vmconfig_fields((enum vmconfig_object)f->object); k->kind != KIND_NONE;
		     k++)
			if (strcmp(k->cli, "-") != 0 && k->kind != KIND_OBJECT &&
			    k->kind != KIND_OBJECTS)
				try_key(*f->cli ? f->cli : f->key, k, f->kind == KIND_OBJECTS);
	}
}

/* What the command line says passes the checks of a request. */
Test(vmconfig_args, as_a_request)
{
	static const char *const args[] = {
		"--kernel|/k|--cpus|boot=8,max=8,topology=2:2:1:2,affinity=[0@[0-3]]|--memory|size=1G",
		"--disk|path=/d|--net|tap=t,ip=192.168.249.1,mac=|--serial|tty|--console|off",
		"--disk|/d|--memory|512M|--vsock|cid=3,socket=/s|--balloon|size=64M|--rng|src=/dev/urandom",
		"--kernel|/k|--memory-zone|id=a,size=64M|id=b,size=64M|--pvpanic|--platform|uuid=123e4567-e89b-12d3-a456-426614174000",
	};

	for (size_t i = 0; i < sizeof(args) / sizeof(args[0]); i++) {
		json_t *vm, *out;
		int at;

		cr_assert_eq(take(args[i], &vm, &at), 0, "%s", err.text);
		cr_expect_eq(vmconfig_normalise(vm, NULL, &out, &err), 0, "%s: %s", args[i],
			     err.text);
		json_decref(vm);
		json_decref(out);
	}
}

/* Each option that --help names is one. */
Test(vmconfig_args, help)
{
	char *text, *line, *rest;
	unsigned n = 0;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	vmconfig_options_help(out);
	fclose(out);
	for (rest = text; (line = strsep(&rest, "\n")) && *line; n++) {
		char name[40], args[64];
		json_t *vm;
		int at;

		cr_expect_eq(strncmp(line, "  ", 2), 0, "%s", line);
		if (sscanf(line, "  --%39[a-z-]", name) != 1)
			continue;
		snprintf(args, sizeof(args), "--%s", name);
		cr_expect_neq(take(args, &vm, &at), 1, "%s", args);
		json_decref(vm);
	}
	cr_expect_gt(n, 60);
	free(text);
}
