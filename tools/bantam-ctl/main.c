/* main: bantam ctl SOCKET COMMAND …: the tables of commands and options. See ctl.h. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/bantam-ctl/ctl.h"
#include "vmm/core/keys.h"
#include "vmm/core/output.h"
#include "vmm/usage/usage.h"

static int simple(struct ctl *ctl);

#define RESIZE (1u << CTL_BALLOON | 1u << CTL_CPUS | 1u << CTL_MEMORY)

/* In the order of --help. */
static const struct ctl_command commands[] = {
	{ "ping", "", "say which program answers", simple, "GET", "vmm.ping", ctl_show_ping },
	{ "info", "", "describe the VM: state, devices, consoles", simple, "GET", "vm.info",
	  ctl_show_info },
	{ "counters", "", "print what disks and network cards have moved", simple, "GET",
	  "vm.counters", ctl_show_counters },
	{ "power-button", "", "press the button: the guest shuts down if it handles it", simple,
	  "PUT", "vm.power-button" },
	{ "pause", "", "stop the vCPUs", simple, "PUT", "vm.pause" },
	{ "resume", "", "let the vCPUs go on", simple, "PUT", "vm.resume" },
	{ "shutdown", "", "stop the machine without asking the guest", simple, "PUT",
	  "vm.shutdown" },
	{ "reboot", "", "start a new machine from the same configuration", simple, "PUT",
	  "vm.reboot" },
	{ "nmi", "", "send the guest a non-maskable interrupt", simple, "PUT", "vm.nmi" },
	{ "resize", "", "change balloon, vCPUs or memory", ctl_resize, .options = RESIZE },
	{ "resize-disk", "ID SIZE", "change the size of a disk", ctl_resize_disk, .min_args = 2,
	  .max_args = 2 },
	{ "add-disk", "KEY=VALUE,…", "attach a disk; prints its id and PCI address", ctl_add_device,
	  NULL, "vm.add-disk", ctl_show_added, 1, 1 },
	{ "add-net", "KEY=VALUE,…", "attach a network card", ctl_add_device, NULL, "vm.add-net",
	  ctl_show_added, 1, 1 },
	{ "add-fs", "KEY=VALUE,…", "attach a host folder, served by a daemon (virtiofsd)",
	  ctl_add_device, NULL, "vm.add-fs", ctl_show_added, 1, 1 },
	{ "add-vsock", "KEY=VALUE,…", "attach sockets between guest and host", ctl_add_device, NULL,
	  "vm.add-vsock", ctl_show_added, 1, 1 },
	{ "remove-device", "ID", "ask the guest to give a device up", ctl_remove_device, NULL,
	  "vm.remove-device", NULL, 1, 1 },
	{ "console", "[serial|console]", "attach this terminal to the guest's", ctl_console,
	  .max_args = 1 },
	{ "events", "", "print what happens to the VM, until its process ends", ctl_events },
	{ "wait", "", "wait for the VM's end; the exit status is that of bantam run", ctl_wait },
	{ "create", "FILE.json", "give a process without a VM a configuration", ctl_create,
	  .min_args = 1, .max_args = 1 },
	{ "boot", "", "start the machine of the configuration", simple, "PUT", "vm.boot" },
	{ "delete", "", "stop the machine and forget the configuration", simple, "PUT",
	  "vm.delete" },
	{ "vmm-shutdown", "", "end the process", simple, "PUT", "vmm.shutdown" },
};
#define NCOMMANDS (sizeof(commands) / sizeof(commands[0]))

static const struct {
	const char *name, *value, *help;
	char letter;
} options[CTL_OPTIONS] = {
	[CTL_BALLOON] = { "balloon", "SIZE", "what the balloon takes from the guest" },
	[CTL_CPUS] = { "cpus", "N", "the number of vCPUs" },
	[CTL_MEMORY] = { "memory", "SIZE", "the guest's memory" },
	[CTL_JSON] = { "json", NULL, "print the answer as the server sent it" },
	[CTL_HELP] = { "help", NULL, "this text", 'h' },
};

#define COMMON (1u << CTL_JSON | 1u << CTL_HELP)

static void help_options(unsigned which)
{
	for (unsigned i = 0; i < CTL_OPTIONS; i++) {
		char lead[40];

		if (!(which & 1u << i))
			continue;
		snprintf(lead, sizeof(lead), "%s--%s%s%s", options[i].letter ? "-h, " : "",
			 options[i].name, options[i].value ? " " : "",
			 options[i].value ? options[i].value : "");
		usage_row(stdout, 2, 27, lead, options[i].help, NULL);
	}
}

static void help(void)
{
	puts("bantam ctl: drives a VM by the socket of its API\n\n"
	     "usage: bantam ctl SOCKET COMMAND [OPTION]…\n\ncommands:");
	for (size_t i = 0; i < NCOMMANDS; i++) {
		char lead[40];

		snprintf(lead, sizeof(lead), "%s%s%s", commands[i].name,
			 *commands[i].args ? " " : "", commands[i].args);
		usage_row(stdout, 2, 27, lead, commands[i].help, NULL);
	}
	for (size_t i = 0; i < NCOMMANDS; i++) {
		if (!commands[i].options)
			continue;
		printf("\n%s:\n", commands[i].name);
		help_options(commands[i].options);
	}
	for (size_t i = 0; i < NCOMMANDS; i++) {
		if (commands[i].run != ctl_add_device)
			continue;
		printf("\n%s:\n", commands[i].name);
		ctl_help_keys(commands[i].name);
	}
	puts("\nevery one:");
	help_options(COMMON);
	putchar('\n');
	usage_text(
		stdout, 0, 0,
		"SOCKET is what the VM's --api-socket names. Exit status: 0 done, 1 it failed and one "
		"line on standard error says why, 2 wrong command line.");
}

static int simple(struct ctl *ctl)
{
	const struct ctl_command *command = ctl->command;
	json_t *object;
	struct answer a;
	int status;

	if (!ctl->option[CTL_JSON] && command->show) {
		status = ctl_ask_json(ctl, command->request, &object);
		if (!status)
			command->show(object);
		json_decref(object);
		return status;
	}
	status = ctl_ask(ctl, command->method, command->request, NULL, &a);
	if (!status && ctl->option[CTL_JSON] && a.body_bytes)
		puts(a.body);
	free(a.body);
	return status;
}

/* --- the command line ---------------------------------------------------------------- */

static int usage(const struct ctl *ctl, const char *what, const char *word)
{
	return ctl_fail(ctl, CTL_USAGE, "\"%.80s\": %s; see bantam ctl --help", word, what);
}

static const struct ctl_command *find_command(const char *name)
{
	for (size_t i = 0; i < NCOMMANDS; i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static int no_command(const struct ctl *ctl, const char *name)
{
	const char *names[NCOMMANDS];
	struct err err;

	/* "bantam ctl ping SOCKET" */
	if (find_command(ctl->socket))
		return ctl_fail(ctl, CTL_USAGE, "the socket comes first: bantam ctl SOCKET %s",
				ctl->socket);
	for (size_t i = 0; i < NCOMMANDS; i++)
		names[i] = commands[i].name;
	keys_no_word("command", name, names, NCOMMANDS, "bantam ctl --help", &err);
	return ctl_fail(ctl, CTL_USAGE, "%s", err.text);
}

static int no_option(const struct ctl *ctl, unsigned known, const char *word)
{
	const char *names[CTL_OPTIONS];
	struct err err;
	size_t n = 0;

	for (unsigned i = 0; i < CTL_OPTIONS; i++)
		if (known & 1u << i)
			names[n++] = options[i].name;
	keys_no_word("option", word, names, n, "bantam ctl --help", &err);
	return ctl_fail(ctl, CTL_USAGE, "%s", err.text);
}

/* Takes the option word[0], perhaps with the word behind it; returns how many words, 0: usage. */
static int take_option(struct ctl *ctl, char **word, bool last)
{
	size_t len = strcspn(word[0], "=");
	const char *attached = word[0][len] ? word[0] + len + 1 : NULL;
	unsigned known = COMMON | (ctl->command ? ctl->command->options : 0);

	for (unsigned i = 0; i < CTL_OPTIONS; i++) {
		char letter[3] = { '-', options[i].letter, 0 };

		if (!(known & 1u << i) ||
		    (strcmp(word[0], letter) &&
		     (strncmp(word[0], "--", 2) || strlen(options[i].name) != len - 2 ||
		      strncmp(word[0] + 2, options[i].name, len - 2))))
			continue;
		if (!options[i].value) {
			ctl->option[i] = "";
			if (attached)
				usage(ctl, "this option takes no value", word[0]);
			return !attached;
		}
		if (!attached && last) {
			usage(ctl, "this option needs a value", word[0]);
			return 0;
		}
		ctl->option[i] = attached ? attached : word[1];
		return attached ? 1 : 2;
	}
	no_option(ctl, known, word[0]);
	return 0;
}

/* Reads the words; returns CTL_OK or CTL_USAGE. */
static int parse(struct ctl *ctl, int argc, char **argv)
{
	bool ended = false;

	for (int i = 1; i < argc;) {
		if (!ended && !strcmp(argv[i], "--")) {
			ended = true;
			i++;
		} else if (!ended && argv[i][0] == '-' && argv[i][1]) {
			int n = take_option(ctl, &argv[i], i + 1 == argc);

			if (!n)
				return CTL_USAGE;
			i += n;
		} else if (!ctl->socket) {
			ctl->socket = argv[i++];
		} else if (!ctl->command) {
			ctl->command = find_command(argv[i]);
			if (!ctl->command)
				return no_command(ctl, argv[i]);
			i++;
		} else {
			ctl->arg[ctl->nargs++] = argv[i++];
		}
	}
	/* "bantam ctl help"; a socket of that name has a command behind it. */
	if (ctl->socket && !strcmp(ctl->socket, "help") && !ctl->command)
		ctl->option[CTL_HELP] = "";
	if (ctl->option[CTL_HELP])
		return CTL_OK;
	if (!ctl->command)
		return ctl_fail(
			ctl, CTL_USAGE,
			"usage: bantam ctl SOCKET COMMAND [OPTION]…; see bantam ctl --help");
	if (ctl->nargs < (int)ctl->command->min_args || ctl->nargs > (int)ctl->command->max_args)
		return ctl_fail(ctl, CTL_USAGE, "usage: bantam ctl SOCKET %s%s%s [OPTION]…",
				ctl->command->name, *ctl->command->args ? " " : "",
				ctl->command->args);
	return CTL_OK;
}

static int run(struct ctl *ctl)
{
	struct err err = { "" };
	int status;

	if (client_connect(&ctl->client, ctl->socket, &err))
		return ctl_fail(ctl, CTL_ERROR, "%s", err.text);
	status = ctl->command->run(ctl);
	client_close(&ctl->client);
	if ((fflush(stdout) || ferror(stdout)) && !status)
		return ctl_fail(ctl, CTL_ERROR, "cannot write to standard output: %s",
				strerror(errno));
	return status;
}

int main(int argc, char **argv)
{
	struct ctl ctl = { .client.fd = -1 };
	int status;

	output_begin();
	signal(SIGXFSZ, SIG_IGN);
	ctl.arg = calloc((size_t)argc + 1, sizeof(*ctl.arg));
	if (!ctl.arg)
		return ctl_fail(&ctl, CTL_ERROR, "%s", strerror(ENOMEM));
	status = parse(&ctl, argc, argv);
	if (!status && ctl.option[CTL_HELP])
		help();
	else if (!status)
		status = run(&ctl);
	free(ctl.arg);
	return output_end(status, CTL_ERROR);
}
