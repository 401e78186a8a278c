/* shell/initrd: the initrd of a shell's guest; see shell.h. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot/pack/modules.h"
#include "boot/pack/pack.h"
#include "boot/pack/programs.h"
#include "boot/pack/shell.h"
#include "vmm/kernels/drivers.h"
#include "vmm/shell/shell_impl.h"

#define BUSYBOX "/bin/busybox"

/* What guest/disk.h knows. FAT's tables are those that Linux takes by default. */
#define FILE_SYSTEMS "ext4?,vfat?,nls_cp437?,nls_ascii?,nls_iso8859_1?,isofs?"

/* What udhcpc(8) runs (guest/shell.h). */
static const char dhcp_script[] =
	"#!" BUSYBOX " sh\n"
	"b=" BUSYBOX "\n"
	"case $1 in\n"
	"deconfig)\n"
	"  $b ip addr flush dev $interface\n"
	"  $b ip link set $interface up ;;\n"
	"bound | renew)\n"
	"  $b ifconfig $interface $ip netmask ${subnet:-255.255.255.0}\n"
	"  for r in $router; do $b ip route replace default via $r dev $interface; done\n"
	"  { [ -z \"$domain\" ] || echo search $domain\n"
	"    for d in $dns; do echo nameserver $d; done; } > /etc/resolv.conf ;;\n"
	"esac\n";

static int add_modules(struct pack *pack, const struct config *config, const char *modules,
		       struct err *err)
{
	bool mmio = keys_num(&config->vm, CONFIG_TRANSPORT) == TRANSPORT_MMIO;
	struct pack_tree *tree;
	int rc = pack_tree_open(&tree, modules, err);

	if (rc)
		return rc;
	rc = kernels_add_transport(pack, tree, mmio, err);
	for (unsigned i = 0; !rc && i < config->ndevices; i++)
		rc = kernels_add_driver(pack, tree, config->device[i].type->option + 2, err);
	if (!rc && shell_count(config, "disk"))
		rc = pack_add_modules(pack, tree, FILE_SYSTEMS, err);
	if (!rc && shell_count(config, "net"))
		rc = pack_add_module(pack, tree, "af_packet?", err); /* udhcpc's sockets */
	pack_tree_close(tree);
	return rc;
}

static int fill(struct pack *pack, const struct config *config, const struct kernels_choice *kernel,
		struct err *err)
{
	int rc = pack_add_program(pack, "/init", PACK_INIT, err);

	if (!rc && kernel->modules)
		rc = add_modules(pack, config, kernel->modules, err);
	if (!rc)
		rc = pack_add_users(pack, err);
	if (!rc)
		rc = pack_add_dir(pack, "/root", 0700, err);
	if (!rc)
		rc = pack_add_shell(pack, "", err);
	if (!rc && shell_count(config, "net") && pack_has(pack, BUSYBOX))
		rc = pack_add_bytes(pack, "/etc/udhcpc.script", 0755, dhcp_script,
				    strlen(dhcp_script), err);
	return rc;
}

int shell_initrd(const struct config *config, const struct kernels_choice *kernel, int *fd_out,
		 struct err *err)
{
	struct pack *pack = NULL;
	int fd = memfd_create("initrd", MFD_CLOEXEC);
	int rc;

	*fd_out = -1;
	if (fd < 0)
		return err_sys(err, errno, "cannot build an initrd");
	rc = pack_create(&pack, err);
	if (!rc)
		rc = fill(pack, config, kernel, err);
	if (!rc)
		rc = pack_write(pack, fd, "the initrd in memory", PACK_PLAIN, err);
	pack_destroy(pack);
	if (rc)
		close(fd);
	else
		*fd_out = fd;
	return rc;
}
