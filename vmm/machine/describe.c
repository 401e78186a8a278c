/* describe: prints the machine for --dry-run, and what has left the guest for --stats. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/core/parse.h"
#include "vmm/core/printable.h"
#include "vmm/machine/machine_impl.h"

#define MAP_MAX 32u

struct map {
	struct arch_region at[MAP_MAX + ARCH_REGIONS_MAX + 2];
	unsigned n;
};

static void add(struct map *map, uint64_t base, uint64_t len_bytes, const char *what)
{
	/* The kernel's map reserves what has a name here. */
	for (unsigned i = 0; i < map->n; i++) {
		if (map->at[i].base == base && map->at[i].len_bytes == len_bytes) {
			map->at[i].what = what;
			return;
		}
	}
	map->at[map->n++] = (struct arch_region){ base, len_bytes, what };
}

static int by_base(const void *a, const void *b)
{
	uint64_t x = ((const struct arch_region *)a)->base,
		 y = ((const struct arch_region *)b)->base;

	return x < y ? -1 : x > y;
}

static void describe_memory(const struct machine *m, FILE *out)
{
	static const char *const type[] = { "?", "RAM", "reserved" };
	struct boot_map_entry entry[MAP_MAX];
	unsigned n = boot_memory_map(&m->mem, &m->board, entry, MAP_MAX);
	struct arch_region region[ARCH_REGIONS_MAX];
	struct map map = { .n = 0 };
	uint64_t ram_bytes = 0;
	char size[32], given[32];

	for (unsigned i = 0; i < n; i++) {
		add(&map, entry[i].base, entry[i].len_bytes,
		    type[entry[i].type < 3 ? entry[i].type : 0]);
		if (entry[i].type == BOOT_MAP_RAM)
			ram_bytes += entry[i].len_bytes;
	}
	if (m->board.pci.present) {
		add(&map, m->board.pci.mmio32.base, m->board.pci.mmio32.len_bytes, "PCI BARs");
		add(&map, m->board.pci.ecam.base, m->board.pci.ecam.len_bytes, "PCI ECAM");
	}
	n = arch_board_regions(&m->board, region);
	for (unsigned i = 0; i < n; i++)
		add(&map, region[i].base, region[i].len_bytes, region[i].what);
	qsort(map.at, map.n, sizeof(map.at[0]), by_base);
	fprintf(out, "memory map\n");
	for (unsigned i = 0; i < map.n; i++)
		fprintf(out, "  0x%012llx-0x%012llx %s\n", (unsigned long long)map.at[i].base,
			(unsigned long long)(map.at[i].base + map.at[i].len_bytes - 1),
			map.at[i].what);
	fprintf(out, "  RAM in all %s, of %s\n", parse_size_text(ram_bytes, size, sizeof(size)),
		parse_size_text(m->mem.total_bytes, given, sizeof(given)));
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
		fprintf(out, "  %-16s %s\n", dev->type ? dev->type->name : dev->id,
			printable(text));
	}
}

/* Linux names disks in the order in which it finds them: vda to vdz, then vdaa. There are far fewer than 702. */
static void name_disk(unsigned nth, char name[8])
{
	if (nth < 26)
		snprintf(name, 8, "vd%c", (char)('a' + nth));
	else
		snprintf(name, 8, "vd%c%c", (char)('a' + (nth / 26 - 1) % 26),
			 (char)('a' + nth % 26));
}

static void describe_disks(const struct machine *m, FILE *out)
{
	unsigned n = 0;

	for (unsigned i = 0; i < m->ndevices; i++) {
		struct device *dev = m->device[i];
		char text[PATH_MAX + 256] = "", name[8];

		if (!dev->ops->describe_disk)
			continue;
		dev->ops->describe_disk(dev, text, sizeof(text));
		name_disk(n, name);
		fprintf(out, "%s  %-16s %s\n", n++ ? "" : "disks, by their names in Linux\n", name,
			printable(text));
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
	describe_disks(m, out);
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

void machine_print_stats(const struct machine *m, FILE *out)
{
	const char *name;
	uint64_t count, total;

	for (unsigned at = 0;; at++) {
		total = 0;
		for (unsigned i = 0; i < m->nvcpus; i++) {
			if (!vcpu_exit_count(m->vcpu[i], at, &name, &count))
				return;
			total += count;
		}
		if (total)
			fprintf(out, "bantam: exits: %s %llu\n", name, (unsigned long long)total);
	}
}
