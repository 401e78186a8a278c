/*
 * vmconfig/fields: the tables. A row is one field of one object; everything that is known of the
 * field by its own is in its row, and rules.c has what concerns several fields.
 *
 * The help of a field that is ignored or refused says what a person does instead, because messages
 * quote it.
 */
#include <string.h>

#include "vmm/vmconfig/vmconfig_impl.h"

#define MIB (1ull << 20)
#define SOCKET_PATH_MAX 107
#define FILE_PATH_MAX 4095
#define CMDLINE_MAX 65535
#define MEMORY_MAX (1ull << 42)
#define CPUS_MAX BOARD_MAX_CPUS
#define SIZE_MAX63 INT64_MAX
#define QUEUES_MAX 65535
#define QUEUE_SIZE_MAX 32768

#define SEGMENT_HELP "PCI segment; there is one, so all devices are on it"
#define CHAR_MODES "Off|Null|Pty|Tty|File|Socket"

/*
 * A section of their own: the kernel maps the pages around a page that is used, and a process that
 * looks at no table does not need them beside its constants.
 */
#define COLD __attribute__((section("vmconfig_tables")))

/* One line each, whatever their lengths. */
/* clang-format off */
static const struct vmconfig_field vm[] COLD = {
	{ "payload", KIND_OBJECT, VMCONFIG_PAYLOAD, .def = "{}", .cli = "-", .help = "what the machine boots; without a kernel, that of the first disk" },
	{ "cpus", KIND_OBJECT, VMCONFIG_CPUS, .def = "{}", .help = "virtual processors" },
	{ "memory", KIND_OBJECT, VMCONFIG_MEMORY, .def = "{}", .help = "guest memory" },
	{ "disks", KIND_OBJECTS, VMCONFIG_DISK, .def = "[]", .max = 31, .cli = "disk", .help = "disks, in the order of their PCI slots" },
	{ "net", KIND_OBJECTS, VMCONFIG_NET, .def = "[]", .max = 31, .help = "network cards" },
	{ "rng", KIND_OBJECT, VMCONFIG_RNG, .def = "{}", .help = "entropy for the guest" },
	{ "balloon", KIND_OBJECT, VMCONFIG_BALLOON, .help = "memory that the guest gives back" },
	{ "fs", KIND_OBJECTS, VMCONFIG_FS, .max = 31, .help = "host directories, each served by a daemon (virtiofsd)" },
	{ "vsock", KIND_OBJECT, VMCONFIG_VSOCK, .help = "sockets between guest and host" },
	{ "serial", KIND_OBJECT, VMCONFIG_SERIAL, .def = "{}", .help = "the serial port (16550A, ttyS0)" },
	{ "console", KIND_OBJECT, VMCONFIG_CONSOLE, .def = "{}", .help = "the virtio console (hvc0)" },
	{ "platform", KIND_OBJECT, VMCONFIG_PLATFORM, .help = "what the firmware's tables say of the machine (SMBIOS)" },
	{ "pvpanic", KIND_BOOL, .def = "false", .help = "a device that reports a panic; the machine always has one" },
	{ "watchdog", KIND_BOOL, .flags = FIELD_IGNORED, .def = "false", .help = "the guest's own watchdog must do" },
	{ "rtc", KIND_ANY, .flags = FIELD_IGNORED, .cli = "-", .help = "the machine always has a clock" },
	{ "iommu", KIND_BOOL, .flags = FIELD_REFUSED, .def = "false", .cli = "-", .help = "leave it out" },
	{ "landlock_enable", KIND_BOOL, .def = "false", .cli = "landlock", .help = "the VM's threads open the files that the configuration and landlock_rules name, and no other" },
	{ "landlock_rules", KIND_OBJECTS, VMCONFIG_LANDLOCK_RULE, .max = 64, .cli = "landlock-rules", .help = "with landlock_enable: further files and folders, for devices that come later" },
	{ "numa", KIND_LIST, .flags = FIELD_IGNORED, .cli = "-", .help = "the guest sees one node" },
	{ "tpm", KIND_ANY, .flags = FIELD_REFUSED, .cli = "-", .help = "leave it out" },
	{ "pci_segments", KIND_LIST, .flags = FIELD_IGNORED, .cli = "-", .help = "the machine has one PCI segment" },
	{ "debug_console", KIND_OBJECT, VMCONFIG_DEBUG_CONSOLE, .cli = "debug-console", .help = "a console of the kernel's earliest output" },
	{ "rate_limit_groups", KIND_OBJECTS, VMCONFIG_LIMIT_GROUP, .max = 64, .cli = "rate-limit-group", .help = "limits that disks name by rate_limit_group" },
	{ "pmem", KIND_LIST, .flags = FIELD_REFUSED, .cli = "-", .help = "attach the file as a disk" },
	{ "devices", KIND_LIST, .flags = FIELD_REFUSED, .cli = "-", .help = "host devices cannot be passed through" },
	{ "user_devices", KIND_LIST, .flags = FIELD_REFUSED, .cli = "-", .help = "vfio-user devices cannot be attached" },
	{ "vdpa", KIND_LIST, .flags = FIELD_REFUSED, .cli = "-", .help = "use a tap or a vhost-user daemon" },
	{ "generic-vhost-user", KIND_LIST, .flags = FIELD_REFUSED, .cli = "-", .help = "vhost-user works for disks, net and fs" },
	{ "metadata", KIND_ANY, .flags = FIELD_OURS, .cli = "-", .help = "the client's own notes: kept and returned, never interpreted" },
	{ "kernel", KIND_OBJECT, VMCONFIG_OLD_KERNEL, .cli = "-", .help = "older form of payload.kernel" },
	{ "initramfs", KIND_OBJECT, VMCONFIG_OLD_INITRAMFS, .cli = "-", .help = "older form of payload.initramfs" },
	{ "cmdline", KIND_OBJECT, VMCONFIG_OLD_CMDLINE, .cli = "-", .help = "older form of payload.cmdline" },
	{ "" },
};

static const struct vmconfig_field payload[] COLD = {
	{ "kernel", KIND_PATH, .max = FILE_PATH_MAX, .option = "kernel", .help = "bzImage or vmlinux" },
	{ "initramfs", KIND_PATH, .max = FILE_PATH_MAX, .option = "initrd", .help = "initial RAM disk" },
	{ "cmdline", KIND_TEXT, .max = CMDLINE_MAX, .option = "cmdline", .help = "kernel command line" },
	{ "firmware", KIND_TEXT, .flags = FIELD_REFUSED, .help = "boot a kernel, or leave it out to boot the first disk's own" },
	{ "igvm", KIND_TEXT, .flags = FIELD_REFUSED, .cli = "-", .help = "boot a kernel" },
	{ "host_data", KIND_TEXT, .flags = FIELD_REFUSED, .cli = "-", .help = "there are no confidential guests" },
	{ "" },
};

static const struct vmconfig_field cpus[] COLD = {
	{ "boot_vcpus", KIND_UINT, .flags = FIELD_BARE, .def = "1", .min = 1, .max = CPUS_MAX, .option = "cpus", .cli = "boot", .help = "number of processors" },
	{ "max_vcpus", KIND_UINT, .min = 1, .max = CPUS_MAX, .cli = "max", .help = "at most that many; more than boot_vcpus cannot be added later" },
	{ "topology", KIND_OBJECT, VMCONFIG_TOPOLOGY, .help = "what the guest sees; the product must be max_vcpus" },
	{ "affinity", KIND_OBJECTS, VMCONFIG_AFFINITY, .max = CPUS_MAX, .help = "host processors on which a virtual one runs" },
	{ "kvm_hyperv", KIND_BOOL, .flags = FIELD_IGNORED, .def = "false", .help = "there are no interfaces of Hyper-V" },
	{ "max_phys_bits", KIND_UINT, .flags = FIELD_IGNORED, .min = 1, .max = 64, .help = "the guest sees the host's" },
	{ "nested", KIND_BOOL, .flags = FIELD_IGNORED, .help = "the host decides whether guests can run guests" },
	{ "features", KIND_OBJECT, VMCONFIG_FEATURES, .help = "processor features: the guest sees the host's" },
	{ "core_scheduling", KIND_ENUM, .flags = FIELD_IGNORED, .choices = "Off|Vm|Vcpu", .help = "set it for the whole process" },
	{ "" },
};

static const struct vmconfig_field topology[] COLD = {
	{ "threads_per_core", KIND_UINT, .def = "1", .min = 1, .max = CPUS_MAX, .help = "threads of a core" },
	{ "cores_per_die", KIND_UINT, .def = "1", .min = 1, .max = CPUS_MAX, .help = "cores of a die" },
	{ "dies_per_package", KIND_UINT, .def = "1", .min = 1, .max = CPUS_MAX, .help = "dies of a package" },
	{ "packages", KIND_UINT, .def = "1", .min = 1, .max = CPUS_MAX, .help = "packages" },
	{ "" },
};

static const struct vmconfig_field affinity[] COLD = {
	{ "vcpu", KIND_UINT, .flags = FIELD_REQUIRED, .max = CPUS_MAX - 1, .help = "virtual processor, from 0" },
	{ "host_cpus", KIND_UINTS, .flags = FIELD_REQUIRED, .min = 0, .max = 8191, .help = "host processors, from 0" },
	{ "" },
};

static const struct vmconfig_field features[] COLD = {
	{ "amx", KIND_BOOL, .flags = FIELD_IGNORED, .def = "false", .help = "the guest sees the host's features" },
	{ "" },
};

static const struct vmconfig_field memory[] COLD = {
	{ "size", KIND_BYTES, .flags = FIELD_PAGES | FIELD_BARE, .max = MEMORY_MAX, .option = "memory", .help = "bytes, 4 MiB or more; with zones 0; default: 512 MiB" },
	{ "shared", KIND_BOOL, .def = "false", .help = "other processes can map it" },
	{ "hugepages", KIND_BOOL, .def = "false", .help = "from the host's pool of huge pages" },
	{ "hugepage_size", KIND_BYTES, .flags = FIELD_POWER2, .min = 2 * MIB, .max = 1024 * MIB, .help = "bytes of a huge page; default: the host's" },
	{ "prefault", KIND_BOOL, .def = "false", .help = "allocate all of it at the start" },
	{ "mergeable", KIND_BOOL, .def = "false", .help = "the host may merge equal pages (KSM)" },
	{ "thp", KIND_BOOL, .def = "true", .help = "transparent huge pages" },
	{ "reserve", KIND_BOOL, .flags = FIELD_IGNORED, .help = "prefault allocates the memory at the start" },
	{ "hotplug_method", KIND_ENUM, .flags = FIELD_IGNORED, .choices = "Acpi|VirtioMem", .def = "\"Acpi\"", .help = "memory cannot be added later" },
	{ "hotplug_size", KIND_BYTES, .flags = FIELD_IGNORED, .max = SIZE_MAX63, .help = "memory cannot be added later" },
	{ "hotplugged_size", KIND_BYTES, .flags = FIELD_IGNORED, .max = SIZE_MAX63, .help = "memory cannot be added later" },
	{ "zones", KIND_OBJECTS, VMCONFIG_ZONE, .max = 64, .cli = "memory-zone", .help = "parts of the memory; size is their sum" },
	{ "" },
};

static const struct vmconfig_field zone[] COLD = {
	{ "id", KIND_ID, .flags = FIELD_REQUIRED, .max = 63, .help = "name" },
	{ "size", KIND_BYTES, .flags = FIELD_REQUIRED | FIELD_PAGES, .min = 4096, .max = MEMORY_MAX, .help = "bytes" },
	{ "shared", KIND_BOOL, .def = "false", .help = "other processes can map the memory" },
	{ "hugepages", KIND_BOOL, .def = "false", .help = "from the host's pool of huge pages" },
	{ "hugepage_size", KIND_BYTES, .flags = FIELD_POWER2, .min = 2 * MIB, .max = 1024 * MIB, .help = "bytes of a huge page" },
	{ "prefault", KIND_BOOL, .def = "false", .help = "allocate the memory at the start" },
	{ "mergeable", KIND_BOOL, .def = "false", .help = "the host may merge equal pages (KSM)" },
	{ "reserve", KIND_BOOL, .flags = FIELD_IGNORED, .help = "prefault allocates the memory at the start" },
	{ "file", KIND_TEXT, .flags = FIELD_REFUSED, .help = "memory is no file" },
	{ "host_numa_node", KIND_UINT, .flags = FIELD_IGNORED, .max = 65535, .help = "start the process under numactl" },
	{ "hotplug_size", KIND_BYTES, .flags = FIELD_IGNORED, .max = SIZE_MAX63, .help = "memory cannot be added later" },
	{ "hotplugged_size", KIND_BYTES, .flags = FIELD_IGNORED, .max = SIZE_MAX63, .help = "memory cannot be added later" },
	{ "" },
};

static const struct vmconfig_field disk[] COLD = {
	{ "path", KIND_PATH, .flags = FIELD_BARE, .max = FILE_PATH_MAX, .option = "path", .help = "image or block device" },
	{ "readonly", KIND_BOOL, .def = "false", .option = "ro", .help = "the guest cannot write" },
	{ "direct", KIND_BOOL, .def = "false", .option = "direct", .help = "bypass the host's page cache" },
	{ "image_type", KIND_ENUM, .choices = "Raw|Qcow2|Unknown|FixedVhd|Vhdx", .help = "default, and Unknown: by the file's name" },
	{ "num_queues", KIND_UINT, .def = "1", .min = 1, .max = QUEUES_MAX, .most = 16, .option = "queues", .help = "request queues" },
	{ "queue_size", KIND_UINT, .flags = FIELD_POWER2, .def = "128", .min = 4, .max = QUEUE_SIZE_MAX, .most = 1024, .option = "queue-size", .help = "entries of a queue, a power of two" },
	{ "id", KIND_ID, .max = 63, .help = "name of the device" },
	{ "serial", KIND_TEXT, .max = 20, .option = "serial", .help = "serial number, at most 20 bytes; default: made from the file" },
	{ "rate_limiter_config", KIND_OBJECT, VMCONFIG_LIMITER, .cli = "-", .help = "limits of this disk" },
	{ "rate_limit_group", KIND_TEXT, .max = 63, .help = "id of a rate_limit_groups entry, whose limits count" },
	{ "block_size", KIND_UINT, .flags = FIELD_OURS | FIELD_POWER2, .min = 512, .max = 4096, .help = "bytes of the guest's logical block, 512 or 4096; default: as the host's device has it" },
	{ "backing_files", KIND_BOOL, .def = "false", .option = "backing", .help = "a qcow2 image may name a backing file" },
	{ "sparse", KIND_BOOL, .flags = FIELD_IGNORED, .help = "what the guest discards is freed" },
	{ "lock_granularity", KIND_TEXT, .flags = FIELD_IGNORED, .max = 64, .help = "the whole image is locked" },
	{ "disable_io_uring", KIND_BOOL, .help = "do the I/O in threads" },
	{ "disable_aio", KIND_BOOL, .flags = FIELD_IGNORED, .help = "Linux's older aio is never used" },
	{ "queue_affinity", KIND_OBJECTS, VMCONFIG_QUEUE_AFFINITY, .flags = FIELD_IGNORED, .max = 1024, .help = "the disk's queues share a thread" },
	{ "vhost_user", KIND_BOOL, .def = "false", .help = "a daemon at vhost_socket serves the disk, instead of path" },
	{ "vhost_socket", KIND_PATH, .max = SOCKET_PATH_MAX, .cli = "socket", .help = "the daemon's socket" },
	{ "iommu", KIND_BOOL, .flags = FIELD_REFUSED, .def = "false", .help = "leave it out" },
	{ "pci_segment", KIND_UINT, .def = "0", .max = 65535, .help = SEGMENT_HELP },
	{ "pci_device_id", KIND_UINT, .min = 1, .max = 31, .help = "slot of the PCI bus; default: the first that is free, in the order of the devices" },
	{ "" },
};

static const struct vmconfig_field queue_affinity[] COLD = {
	{ "queue_index", KIND_UINT, .flags = FIELD_REQUIRED, .max = QUEUES_MAX, .help = "queue, from 0" },
	{ "host_cpus", KIND_UINTS, .flags = FIELD_REQUIRED, .max = 8191, .help = "host processors, from 0" },
	{ "" },
};

static const struct vmconfig_field limiter[] COLD = {
	{ "bandwidth", KIND_OBJECT, VMCONFIG_BUCKET, .cli = "bw", .help = "limit of bytes" },
	{ "ops", KIND_OBJECT, VMCONFIG_BUCKET, .cli = "ops", .help = "limit of operations" },
	{ "" },
};

static const struct vmconfig_field bucket[] COLD = {
	{ "size", KIND_BYTES, .flags = FIELD_REQUIRED, .max = SIZE_MAX63, .help = "bytes or operations that pass in refill_time; 0: no limit" },
	{ "one_time_burst", KIND_BYTES, .max = SIZE_MAX63, .help = "passes once, before the limit counts" },
	{ "refill_time", KIND_UINT, .flags = FIELD_REQUIRED, .max = SIZE_MAX63 / 1000000, .help = "milliseconds; 0: no limit" },
	{ "" },
};

static const struct vmconfig_field limit_group[] COLD = {
	{ "id", KIND_ID, .flags = FIELD_REQUIRED, .max = 63, .help = "name" },
	{ "rate_limiter_config", KIND_OBJECT, VMCONFIG_LIMITER, .flags = FIELD_REQUIRED, .cli = "-", .help = "limits of its disks" },
	{ "" },
};

static const struct vmconfig_field landlock_rule[] COLD = {
	{ "path", KIND_PATH, .flags = FIELD_REQUIRED, .max = FILE_PATH_MAX, .help = "a file, or a folder with all that is below it; it must be there" },
	{ "access", KIND_ENUM, .flags = FIELD_REQUIRED, .choices = "r|w|rw|wr", .help = "to read, to write" },
	{ "" },
};

static const struct vmconfig_field net[] COLD = {
	{ "tap", KIND_TEXT, .min = 1, .max = 15, .option = "tap", .help = "a tap of the host, made if there is none; default: vmtapN" },
	{ "ip", KIND_IP, .option = "ip", .help = "the host's address on a tap that is made" },
	{ "mask", KIND_IP, .option = "mask", .help = "the address's mask; default: /24, IPv6: /64" },
	{ "mac", KIND_MAC, .option = "mac", .help = "the guest's address; default: a random one" },
	{ "host_mac", KIND_MAC, .option = "host-mac", .help = "the tap's address" },
	{ "mtu", KIND_UINT, .min = 68, .max = 65535, .option = "mtu", .help = "longest IP packet" },
	{ "num_queues", KIND_UINT, .def = "2", .min = 1, .max = QUEUES_MAX, .help = "queues, two for each pair" },
	{ "queue_size", KIND_UINT, .flags = FIELD_POWER2, .def = "256", .min = 64, .max = QUEUE_SIZE_MAX, .most = 1024, .option = "queue-size", .help = "entries of a queue, a power of two" },
	{ "id", KIND_ID, .max = 63, .help = "name of the device" },
	{ "vhost_user", KIND_BOOL, .def = "false", .help = "a daemon at vhost_socket moves the frames" },
	{ "vhost_socket", KIND_PATH, .max = SOCKET_PATH_MAX, .cli = "socket", .help = "the daemon's socket" },
	{ "vhost_mode", KIND_ENUM, .choices = "Client|Server", .def = "\"Client\"", .help = "Client: bantam connects to the daemon; Server: the daemon connects to bantam" },
	{ "rate_limiter_config", KIND_OBJECT, VMCONFIG_LIMITER, .cli = "-", .help = "limits of each direction" },
	{ "offload_tso", KIND_BOOL, .def = "true", .option = "offload-tso", .help = "leave TCP segmentation to the other side" },
	{ "offload_ufo", KIND_BOOL, .def = "true", .option = "offload-ufo", .help = "leave UDP fragmentation to the other side" },
	{ "offload_csum", KIND_BOOL, .def = "true", .option = "offload-csum", .help = "leave checksums to the other side" },
	{ "fds", KIND_LIST, .max = 253, .cli = "fd", .help = "open taps, one for each pair; over the API they come with the request" },
	{ "user", KIND_OBJECT, VMCONFIG_USER_NET, .flags = FIELD_OURS, .cli = "-", .help = "a network without privileges: DHCP, DNS, connections to outside" },
	{ "stream", KIND_PATH, .flags = FIELD_OURS, .max = SOCKET_PATH_MAX, .option = "stream", .cli = "-", .help = "frames on a stream socket, in QEMU's and passt's format" },
	{ "iommu", KIND_BOOL, .flags = FIELD_REFUSED, .def = "false", .help = "leave it out" },
	{ "pci_segment", KIND_UINT, .def = "0", .max = 65535, .help = SEGMENT_HELP },
	{ "pci_device_id", KIND_UINT, .min = 1, .max = 31, .help = "slot of the PCI bus; default: the first that is free, in the order of the devices" },
	{ "" },
};

static const struct vmconfig_field user_net[] COLD = {
	{ "hostfwd", KIND_TEXTS, .min = 1, .max = 128, .option = "hostfwd", .help = "ports of the host forwarded to the guest: tcp|udp:[ADDR]:PORT-PORT" },
	{ "host_loopback", KIND_BOOL, .def = "false", .option = "host-loopback", .help = "the guest reaches the host's loopback (at 10.0.2.2) and link-local addresses" },
	{ "" },
};

static const struct vmconfig_field rng[] COLD = {
	{ "src", KIND_PATH, .max = FILE_PATH_MAX, .def = "\"/dev/urandom\"", .option = "source", .help = "where the bytes come from" },
	{ "id", KIND_ID, .max = 63, .cli = "-", .help = "name of the device" },
	{ "iommu", KIND_BOOL, .flags = FIELD_REFUSED, .def = "false", .help = "leave it out" },
	{ "" },
};

static const struct vmconfig_field balloon[] COLD = {
	{ "size", KIND_BYTES, .def = "0", .max = MEMORY_MAX, .option = "size", .help = "bytes that the guest gives back" },
	{ "deflate_on_oom", KIND_BOOL, .def = "false", .option = "deflate-on-oom", .help = "the guest may take memory back before it runs out" },
	{ "free_page_reporting", KIND_BOOL, .def = "false", .option = "free-page-reporting", .help = "the host gets back memory that the guest does not use" },
	{ "id", KIND_ID, .max = 63, .cli = "-", .help = "name of the device" },
	{ "" },
};

static const struct vmconfig_field fs[] COLD = {
	{ "tag", KIND_TEXT, .flags = FIELD_REQUIRED, .min = 1, .max = 36, .option = "tag", .help = "what the guest mounts" },
	{ "socket", KIND_PATH, .flags = FIELD_REQUIRED, .max = SOCKET_PATH_MAX, .option = "socket", .help = "the daemon's socket" },
	{ "num_queues", KIND_UINT, .def = "1", .min = 1, .max = QUEUES_MAX, .most = 16, .option = "queues", .help = "request queues" },
	{ "queue_size", KIND_UINT, .flags = FIELD_POWER2, .def = "1024", .min = 4, .max = QUEUE_SIZE_MAX, .most = 1024, .option = "queue-size", .help = "entries of a queue, a power of two" },
	{ "id", KIND_ID, .max = 63, .help = "name of the device" },
	{ "pci_segment", KIND_UINT, .def = "0", .max = 65535, .help = SEGMENT_HELP },
	{ "" },
};

static const struct vmconfig_field vsock[] COLD = {
	{ "cid", KIND_UINT, .flags = FIELD_REQUIRED, .min = 3, .max = 0xfffffffe, .option = "cid", .help = "the guest's address" },
	{ "socket", KIND_PATH, .flags = FIELD_REQUIRED, .max = SOCKET_PATH_MAX, .option = "socket", .help = "where host programs connect; PATH_P is port P of the host" },
	{ "id", KIND_ID, .max = 63, .help = "name of the device" },
	{ "iommu", KIND_BOOL, .flags = FIELD_REFUSED, .def = "false", .help = "leave it out" },
	{ "pci_segment", KIND_UINT, .def = "0", .max = 65535, .help = SEGMENT_HELP },
	{ "" },
};

static const struct vmconfig_field serial[] COLD = {
	{ "mode", KIND_ENUM, .flags = FIELD_BARE, .choices = CHAR_MODES, .def = "\"Null\"", .help = "where characters go to and come from" },
	{ "file", KIND_PATH, .max = FILE_PATH_MAX, .help = "File: appended to; Pty: the terminal's name, in vm.info only" },
	{ "socket", KIND_PATH, .max = SOCKET_PATH_MAX, .help = "Socket: where bantam listens" },
	{ "" },
};

static const struct vmconfig_field console[] COLD = {
	{ "mode", KIND_ENUM, .flags = FIELD_BARE, .choices = CHAR_MODES, .def = "\"Tty\"", .help = "where characters go to and come from" },
	{ "file", KIND_PATH, .max = FILE_PATH_MAX, .help = "File: appended to; Pty: the terminal's name, in vm.info only" },
	{ "socket", KIND_PATH, .max = SOCKET_PATH_MAX, .help = "Socket: where bantam listens" },
	{ "id", KIND_ID, .max = 63, .cli = "-", .help = "name of the device" },
	{ "iommu", KIND_BOOL, .flags = FIELD_REFUSED, .def = "false", .help = "leave it out" },
	{ "" },
};

static const struct vmconfig_field debug_console[] COLD = {
	{ "mode", KIND_ENUM, .flags = FIELD_IGNORED | FIELD_BARE, .choices = CHAR_MODES, .def = "\"Off\"", .help = "the serial port shows early output" },
	{ "file", KIND_PATH, .max = FILE_PATH_MAX, .help = "File: where output goes" },
	{ "iobase", KIND_UINT, .max = 65535, .help = "I/O port" },
	{ "" },
};

static const struct vmconfig_field platform[] COLD = {
	{ "num_pci_segments", KIND_UINT, .def = "1", .min = 1, .max = 96, .help = "devices of all segments are on the first" },
	{ "iommu_segments", KIND_LIST, .flags = FIELD_REFUSED, .help = "leave it out" },
	{ "serial_number", KIND_TEXT, .max = 255, .help = "SMBIOS type 1" },
	{ "system_serial_number", KIND_TEXT, .max = 255, .help = "the same as serial_number" },
	{ "uuid", KIND_UUID, .help = "SMBIOS type 1" },
	{ "system_uuid", KIND_UUID, .help = "the same as uuid" },
	{ "oem_strings", KIND_TEXTS, .min = 1, .max = 255, .most = OEM_STRINGS_MAX, .help = "SMBIOS type 11" },
	{ "system_manufacturer", KIND_TEXT, .max = 255, .help = "SMBIOS type 1" },
	{ "system_product_name", KIND_TEXT, .max = 255, .help = "SMBIOS type 1" },
	{ "system_version", KIND_TEXT, .max = 255, .help = "SMBIOS type 1" },
	{ "system_family", KIND_TEXT, .max = 255, .help = "SMBIOS type 1" },
	{ "system_sku_number", KIND_TEXT, .max = 255, .help = "SMBIOS type 1" },
	{ "chassis_asset_tag", KIND_TEXT, .max = 255, .help = "SMBIOS type 3" },
	{ "tdx", KIND_BOOL, .flags = FIELD_REFUSED, .def = "false", .help = "there are no confidential guests" },
	{ "sev_snp", KIND_BOOL, .flags = FIELD_REFUSED, .def = "false", .help = "there are no confidential guests" },
	{ "" },
};

static const struct vmconfig_field old_path[] COLD = {
	{ "path", KIND_PATH, .flags = FIELD_REQUIRED, .max = FILE_PATH_MAX, .help = "file" },
	{ "" },
};

static const struct vmconfig_field old_cmdline[] COLD = {
	{ "args", KIND_TEXT, .flags = FIELD_REQUIRED, .max = CMDLINE_MAX, .help = "kernel command line" },
	{ "" },
};

static const struct vmconfig_field resize[] COLD = {
	{ "desired_vcpus", KIND_UINT, .min = 1, .max = CPUS_MAX, .help = "number of processors" },
	{ "desired_ram", KIND_BYTES, .flags = FIELD_PAGES, .min = 4 * MIB, .max = MEMORY_MAX, .help = "bytes of memory" },
	{ "desired_balloon", KIND_BYTES, .max = MEMORY_MAX, .help = "bytes that the guest gives back" },
	{ "" },
};

static const struct vmconfig_field resize_disk[] COLD = {
	{ "id", KIND_ID, .flags = FIELD_REQUIRED, .max = 63, .help = "the disk" },
	{ "desired_size", KIND_BYTES, .flags = FIELD_REQUIRED, .min = 512, .max = SIZE_MAX63, .help = "bytes" },
	{ "" },
};

static const struct vmconfig_field resize_zone[] COLD = {
	{ "id", KIND_ID, .flags = FIELD_REQUIRED, .max = 63, .help = "the memory zone" },
	{ "desired_ram", KIND_BYTES, .flags = FIELD_REQUIRED | FIELD_PAGES, .max = MEMORY_MAX, .help = "bytes of memory" },
	{ "" },
};

static const struct vmconfig_field remove_device[] COLD = {
	{ "id", KIND_ID, .flags = FIELD_REQUIRED, .max = 63, .help = "the device" },
	{ "" },
};
/* clang-format on */

#define OBJECTS(X)                                                                                 \
	X(VM, vm, "VmConfig")                                                                      \
	X(PAYLOAD, payload, "PayloadConfig")                                                       \
	X(CPUS, cpus, "CpusConfig")                                                                \
	X(TOPOLOGY, topology, "CpuTopology")                                                       \
	X(AFFINITY, affinity, "CpuAffinity")                                                       \
	X(FEATURES, features, "CpuFeatures")                                                       \
	X(MEMORY, memory, "MemoryConfig")                                                          \
	X(ZONE, zone, "MemoryZoneConfig")                                                          \
	X(DISK, disk, "DiskConfig")                                                                \
	X(QUEUE_AFFINITY, queue_affinity, "QueueAffinity")                                         \
	X(LIMITER, limiter, "RateLimiterConfig")                                                   \
	X(BUCKET, bucket, "TokenBucket")                                                           \
	X(LIMIT_GROUP, limit_group, "RateLimitGroupConfig")                                        \
	X(LANDLOCK_RULE, landlock_rule, "LandlockConfig")                                          \
	X(NET, net, "NetConfig")                                                                   \
	X(USER_NET, user_net, "UserNetConfig")                                                     \
	X(RNG, rng, "RngConfig")                                                                   \
	X(BALLOON, balloon, "BalloonConfig")                                                       \
	X(FS, fs, "FsConfig")                                                                      \
	X(VSOCK, vsock, "VsockConfig")                                                             \
	X(SERIAL, serial, "SerialConfig")                                                          \
	X(CONSOLE, console, "ConsoleConfig")                                                       \
	X(DEBUG_CONSOLE, debug_console, "DebugConsoleConfig")                                      \
	X(PLATFORM, platform, "PlatformConfig")                                                    \
	X(OLD_KERNEL, old_path, "KernelConfig")                                                    \
	X(OLD_INITRAMFS, old_path, "InitramfsConfig")                                              \
	X(OLD_CMDLINE, old_cmdline, "CmdlineConfig")                                               \
	X(RESIZE, resize, "VmResize")                                                              \
	X(RESIZE_DISK, resize_disk, "VmResizeDisk")                                                \
	X(RESIZE_ZONE, resize_zone, "VmResizeZone")                                                \
	X(REMOVE_DEVICE, remove_device, "VmRemoveDevice")

const struct vmconfig_field *vmconfig_fields(enum vmconfig_object object)
{
	switch (object) {
#define TABLE(name, table, schema)                                                                 \
	case VMCONFIG_##name:                                                                      \
		return table;
		OBJECTS(TABLE)
	case VMCONFIG_OBJECTS:
		break;
	}
	BUG_ON(true);
}

const char *vmconfig_object_name(enum vmconfig_object object)
{
#define NAME(name, table, schema) [VMCONFIG_##name] = schema,
	static const char names[][24] = { OBJECTS(NAME) };

	BUG_ON(object >= VMCONFIG_OBJECTS);
	return names[object];
}

const struct vmconfig_field *vmconfig_find(enum vmconfig_object object, const char *key)
{
	for (const struct vmconfig_field *f = vmconfig_fields(object); f->kind != KIND_NONE; f++)
		if (!strcmp(f->key, key))
			return f;
	return NULL;
}
