/* cmdline: see cmdline.h. */
#include "vmm/machine/cmdline.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/cmdline.h"
#include "vmm/arch/cmdline.h"
#include "vmm/core/log.h"
#include "vmm/core/printable.h"

#define MMIO_WORD_BYTES 64u
/*
 * A kernel that panics (it finds no root, say) restarts at once, which ends the VM: else it would wait for
 * a person to read its screen. What it has printed is on the console all the same.
 */
#define END_ON_PANIC "panic=-1"

/* Linux's virtio_mmio.device=SIZE@ADDRESS:IRQ for each device; frees text. */
static char *add_mmio(char *text, const struct board *board)
{
	size_t len = 0, cap = board->nmmio * MMIO_WORD_BYTES + 1;
	char *words = calloc(1, cap), *all = NULL;

	for (unsigned i = 0; words && i < board->nmmio; i++)
		len += (size_t)snprintf(words + len, cap - len,
					"%svirtio_mmio.device=%lluK@0x%llx:%u", i ? " " : "",
					(unsigned long long)board->mmio[i].window.len_bytes >> 10,
					(unsigned long long)board->mmio[i].window.base,
					board->mmio[i].gsi);
	if (words)
		all = boot_cmdline_join(text, words);
	free(words);
	free(text);
	return all;
}

char *cmdline_make(const struct machine *m)
{
	const struct keyvals *vm = &m->config->vm;
	const char *console = m->board.serial[0].present ? "console=ttyS0" :
			      m->board.serial[1].present ? "console=ttyS1" :
							   "console=hvc0";
	const char *user = keys_text(vm, CONFIG_CMDLINE);
	char *text;

	if (m->bootdisk)
		text = bootdisk_cmdline(m->bootdisk, console, user);
	else if (user)
		text = strdup(user);
	else if (asprintf(&text, "%s%s", console, m->restarts ? "" : " " END_ON_PANIC) < 0)
		return NULL;

	return text && m->board.nmmio && arch_hides_acpi(text) ? add_mmio(text, &m->board) : text;
}

static void warn(void *opaque, const char *line)
{
	log_put(LOG_WARN, "kernel command line: %s", line);
}

static bool has_serial(const struct machine *m)
{
	return m->board.serial[0].present || m->board.serial[1].present;
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

/* Is the value prefix and a number below count, perhaps with options after a comma? */
static bool is_one_of(const struct cmdline_word *word, const char *prefix, unsigned count)
{
	size_t at = strlen(prefix), from = at;
	unsigned n = 0;

	for (; at < word->value_len && isdigit((unsigned char)word->value[at]) && n <= count; at++)
		n = 10 * n + (unsigned)(word->value[at] - '0');
	return at > from && n < count && (at == word->value_len || word->value[at] == ',');
}

/* May the guest's output on this console= come out? Of names that are not ours nobody knows. */
static bool may_show(const struct machine *m, const struct cmdline_word *word)
{
	if (begins(word, "ttyS"))
		return (m->board.serial[0].present && is_one_of(word, "ttyS", 1)) ||
		       (m->board.serial[1].present && !is_one_of(word, "ttyS", 1) &&
			is_one_of(word, "ttyS", 2));
	if (begins(word, "hvc"))
		return is_one_of(word, "hvc", count_consoles(m));
	/* There is no screen. */
	return !begins(word, "tty") || begins(word, "ttynull");
}

static void warn_console(const struct machine *m, const struct cmdline_word *word)
{
	const char *first = m->board.serial[0].present ? " console=ttyS0" : "";
	const char *second = m->board.serial[1].present ? " console=ttyS1" : "";
	const char *hvc = count_consoles(m) ? " console=hvc0" : "";
	char name[40];

	snprintf(name, sizeof(name), "%.*s", (int)(word->value_len & 0xff), word->value);
	log_put(LOG_WARN,
		"kernel command line: console=%s: this VM has no such console, so the guest's output "
		"is not shown; it has%s%s%s",
		printable(name), first, second, hvc);
}

void cmdline_check(const struct machine *m, const char *text)
{
	struct cmdline_word word, last = { 0 };
	bool shown = false, none = false, one = false;

	for (const char *at = text; cmdline_next(&at, &word);) {
		if (cmdline_is(&word, "8250.nr_uarts")) {
			none = cmdline_lists(&word, "0");
			one = cmdline_lists(&word, "1");
		}
		if (!cmdline_is(&word, "console") || !word.value_len)
			continue;
		last = word;
		shown = shown || may_show(m, &word);
	}
	/* A VM without any console is not to show the guest's output. */
	if (last.value && !shown && (has_serial(m) || count_consoles(m)))
		warn_console(m, &last);
	if (none && has_serial(m))
		warn(NULL, "8250.nr_uarts=0: the guest does not use its serial port");
	if (one && m->board.serial[1].present)
		warn(NULL, "8250.nr_uarts=1: the guest does not use its second serial port");
	arch_check_cmdline(text, &m->board, m->dry_run ? NULL : &m->kvm, warn, NULL);
}
