/* describe: prints the machine for --dry-run. */
#include "vmm/core/printable.h"
#include "vmm/machine/machine_impl.h"

static void describe_memory(const struct machine *m, FILE *out)
{
	static const char *const type[] = { "?", "RAM", "reserved" };
	struct boot_map_entry map[32];
	unsigned n = boot_memory_map(&m->mem, &m->board, map, 32);

	fprintf(out, "memory map\n");
	for (unsigned i = 0; i < n; i++)
		fprintf(out, "  0x%012llx-0x%012llx %s\n", (unsigned long long)map[i].base,
			(unsigned long long)(map[i].base + map[i].len_bytes - 1),
			type[map[i].type < 3 ? map[i].type : 0]);
	if (m->board.pci.present) {
		fprintf(out, "  0x%012llx-0x%012llx PCI BARs\n",
			(unsigned long long)m->board.pci.mmio32.base,
			(unsigned long long)(m->board.pci.mmio32.base +
					     m->board.pci.mmio32.len_bytes - 1));
		fprintf(out, "  0x%012llx-0x%012llx PCI ECAM\n",
			(unsigned long long)m->board.pci.ecam.base,
			(unsigned long long)(m->board.pci.ecam.base + m->board.pci.ecam.len_bytes -
					     1));
	}
	arch_board_describe(&m->board, out);
}

static void describe_devices(const struct machine *m, FILE *out)
{
	fprintf(out, "devices\n");
	for (unsigned i = 0; i < m->ndevices; i++) {
		struct device *dev = m->device[i];
		char text[256] = "";

		if (dev->ops->describe)
			dev->ops->describe(dev, text, sizeof(text));
		fprintf(out, "  %-16s %s\n", dev->type ? dev->type->name : dev->id, text);
	}
}

static void describe_bootdisk(const struct bootdisk *b, FILE *out)
{
	fprintf(out, "boot disk\n  image        %s%s%s\n  kernel       %s\n", b->image,
		*b->where ? ", " : "", b->where, b->kernel);
	fprintf(out, "  initrd       %s\n  root         %s\n",
		b->initrd_fd >= 0 ? b->initrd : "none", b->root);
}

void machine_describe(const struct machine *m, FILE *out)
{
	const struct boot_info *b = &m->boot;

	fprintf(out, "vcpus %u\n", m->board.ncpus);
	describe_memory(m, out);
	describe_devices(m, out);
	if (m->bootdisk)
		describe_bootdisk(m->bootdisk, out);
	fprintf(out, "kernel\n  format       %s\n  entry        %s at 0x%llx\n", b->format,
		b->entry == BOOT_ENTRY_PVH ? "PVH" : "linux64", (unsigned long long)b->entry_addr);
	fprintf(out, "  loaded       0x%llx-0x%llx\n", (unsigned long long)b->kernel_base,
		(unsigned long long)(b->kernel_base + b->kernel_bytes - 1));
	if (b->initrd_bytes)
		fprintf(out, "  initrd       0x%llx-0x%llx\n", (unsigned long long)b->initrd_base,
			(unsigned long long)(b->initrd_base + b->initrd_bytes - 1));
	/* From guest memory: a unified kernel image adds its own. */
	fprintf(out, "  command line ");
	printable_put(out, mem_slice(&m->mem, gpa(b->cmdline_base), 1));
	fprintf(out, "\n");
}
