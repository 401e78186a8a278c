/*
 * memory: creates a machine's guest memory, and loads into it what the guest starts with: kernel,
 * initrd, firmware tables.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "vmm/core/log.h"
#include "vmm/core/parse.h"
#include "vmm/machine/cmdline.h"
#include "vmm/machine/machine_impl.h"

static enum device_memory memory_needed(const struct config *config)
{
	enum device_memory strongest = MEMORY_ANY;

	for (unsigned i = 0; i < config->ndevices; i++) {
		const struct config_device *d = &config->device[i];
		enum device_memory need = d->type->memory ? d->type->memory(&d->kv) : MEMORY_ANY;

		if (need > strongest)
			strongest = need;
	}
	return strongest;
}

/* The user asked for them, so bantam says if the host gives none; auto does without. */
static void check_thp(void)
{
	static const char path[] = "/sys/kernel/mm/transparent_hugepage/enabled";
	char text[64] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && !strstr(text, "[never]")) {
		close(fd);
		return;
	}
	if (fd >= 0)
		close(fd);
	log_always(LOG_WARN, "--hugepages thp: this host has none; echo madvise >%s", path);
}

int machine_create_memory(struct machine *m, struct err *err)
{
	const struct config_memory *how = &m->config->memory;
	const char *text = keys_text(&m->config->vm, CONFIG_MEMORY);
	uint64_t bytes = keys_num(&m->config->vm, CONFIG_MEMORY), host, start, end;
	enum device_memory need = memory_needed(m->config);
	uint64_t pages = keys_num(&m->config->vm, CONFIG_HUGEPAGES);
	struct mem_options options = { .shared = how->shared || need == MEMORY_SHARED,
				       .huge_pages = how->hugepages || pages == HUGEPAGES_2M,
				       .huge_page_bytes = pages == HUGEPAGES_2M ?
								  2u << 20 :
								  how->hugepage_bytes,
				       .prefault = how->prefault && !m->dry_run,
				       .mergeable = how->mergeable,
				       .no_thp = how->no_thp || pages == HUGEPAGES_OFF,
				       .all_thp = pages == HUGEPAGES_THP };
	char size[32];
	struct sysinfo si;

	if (bytes % 4096)
		return err_set(err, EINVAL, "--memory %s: not a multiple of 4 KiB", text);
	sysinfo(&si);
	host = ((uint64_t)si.totalram + si.totalswap) * si.mem_unit;
	if (bytes > host)
		return err_set(err, ENOMEM, "--memory %s: this host has only %s", text,
			       parse_size_text(host >> 20 << 20, size, sizeof(size)));
	arch_memory_hole(&start, &end);
	if (pages == HUGEPAGES_THP)
		check_thp();
	if (need == MEMORY_HUGE_SHARED && !options.shared && !options.huge_pages) {
		if (!options.no_thp &&
		    !mem_create_huge_shared(&m->mem, bytes, start, end, &options))
			return 0;
		/* Without huge pages anyway, sharing costs nothing. */
		options.shared = options.no_thp;
	}
	return mem_create_as(&m->mem, bytes, start, end, &options, err);
}

/* The guest's SMBIOS tables; false: none, the platform says nothing. */
static bool smbios_of(const struct config_platform *p, struct boot_smbios *out)
{
	*out = (struct boot_smbios){
		.manufacturer = p->manufacturer,
		.product = p->product_name,
		.version = p->version,
		.serial = p->serial_number,
		.uuid = p->uuid,
		.sku = p->sku_number,
		.family = p->family,
		.asset_tag = p->chassis_asset_tag,
		.oem_string = p->oem_string,
		.noem_strings = p->noem_strings,
	};
	return p->manufacturer || p->product_name || p->version || p->serial_number || p->uuid ||
	       p->sku_number || p->family || p->chassis_asset_tag || p->noem_strings;
}

int machine_load(struct machine *m, const char *cache_dir, struct err *err)
{
	const struct keyvals *vm = &m->config->vm;
	const struct bootdisk *b = m->bootdisk;
	struct boot_smbios smbios;
	int rc;
	struct boot_request req = {
		.kernel = keys_text(vm, CONFIG_KERNEL),
		.initrd = keys_text(vm, CONFIG_INITRD),
		.entry = (enum boot_entry_kind)keys_num(vm, CONFIG_ENTRY),
		.unpack = (enum boot_unpack)keys_num(vm, CONFIG_UNPACK),
	};

	if (smbios_of(&m->config->platform, &smbios))
		req.smbios = &smbios;
	if (b) {
		req.kernel = b->kernel;
		req.kernel_fd = &b->kernel_fd;
		req.kernel_sha256 = b->has_sum ? b->sha256 : NULL;
		req.initrd = b->initrd_fd >= 0 ? b->initrd : NULL;
		req.initrd_fd = &b->initrd_fd;
	}
	m->cmdline = cmdline_make(m);
	if (!m->cmdline)
		return err_sys(err, ENOMEM, "command line");
	req.cmdline = m->cmdline;
	req.cache_dir = cache_dir;
	rc = boot_load(&m->mem, &req, &m->board, &m->boot, err);
	/* With the words that a kernel image may have of its own. */
	if (!rc)
		cmdline_check(m, mem_slice(&m->mem, gpa(m->boot.cmdline_base), 1));
	return rc;
}
