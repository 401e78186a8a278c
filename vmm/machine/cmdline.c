/* cmdline: see cmdline.h. */
#include "vmm/machine/cmdline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/arch/cmdline.h"
#include "vmm/core/log.h"

#define MMIO_WORD_BYTES 64u

/* Linux's virtio_mmio.device=SIZE@ADDRESS:IRQ for each device; frees text. */
static char *add_mmio(char *text, const struct board *board)
{
	size_t len = strlen(text), cap = len + board->nmmio * MMIO_WORD_BYTES + 1;
	char *more = realloc(text, cap);

	if (!more) {
		free(text);
		return NULL;
	}
	for (unsigned i = 0; i < board->nmmio; i++)
		len += (size_t)snprintf(more + len, cap - len,
					" virtio_mmio.device=%lluK@0x%llx:%u",
					(unsigned long long)board->mmio[i].window.len_bytes >> 10,
					(unsigned long long)board->mmio[i].window.base,
					board->mmio[i].gsi);
	return more;
}

char *cmdline_make(const struct machine *m)
{
	const struct keyvals *vm = &m->config->vm;
	const char *console = m->board.serial.present ? "console=ttyS0" : "console=hvc0";
	const char *user = keys_text(vm, CONFIG_CMDLINE);
	char *text = m->bootdisk ? bootdisk_cmdline(m->bootdisk, console, user) :
				   strdup(user ? user : console);

	return text && m->board.nmmio && arch_hides_acpi(text) ? add_mmio(text, &m->board) : text;
}

static void warn(void *opaque, const char *line)
{
	log_put(LOG_WARN, "kernel command line: %s", line);
}

static unsigned count_consoles(const struct machine *m)
{
	unsigned n = 0;

	for (unsigned i = 0; i < m->ndevices; i++)
		n += m->device[i]->type->option && !strcmp(m->device[i]->type->option, "--console");
	return n;
}

static bool begins(const struct cmdline_word *word, const char *with)
{
	return word->value_len >= strlen(with) && !memcmp(word->value, with, strlen(with));
}

/* May the guest's output on this console= come out? Of names that are not ours nobody knows. */
static bool may_show(const struct machine *m, const struct cmdline_word *word)
{
	unsigned hvcs = count_consoles(m);

	if (begins(word, "ttyS"))
		return m->board.serial.present && begins(word, "ttyS0");
	if (begins(word, "hvc"))
		return hvcs && word->value_len > 3 && (unsigned)(word->value[3] - '0') < hvcs;
	/* There is no screen. */
	return !begins(word, "tty") || begins(word, "ttynull");
}

void cmdline_check(const struct machine *m, const char *text)
{
	struct cmdline_word word, last = { 0 };
	bool shown = false, uarts = true;

	for (const char *at = text; cmdline_next(&at, &word);) {
		uarts = uarts && !(cmdline_is(&word, "8250.nr_uarts") && cmdline_lists(&word, "0"));
		if (!cmdline_is(&word, "console") || !word.value_len)
			continue;
		last = word;
		shown = shown || may_show(m, &word);
	}
	if (last.value && !shown)
		log_put(LOG_WARN,
			"kernel command line: console=%.*s: this VM has no such console, so the guest's output "
			"is not shown; it has%s%s",
			(int)(last.value_len < 40 ? last.value_len : 40), last.value,
			m->board.serial.present ? " console=ttyS0" : "",
			count_consoles(m)	? " console=hvc0" :
			m->board.serial.present ? "" :
						  " none");
	if (!uarts && m->board.serial.present)
		warn(NULL, "8250.nr_uarts=0: the guest does not use its serial port");
	arch_check_cmdline(text, &m->board, m->dry_run ? NULL : &m->kvm, warn, NULL);
}
