/* test/command: what the agent is to run, from the options. See test_impl.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/test/test_impl.h"

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define DEFAULTS 3

/* Sets a variable; a later one of the same name takes its place. Returns the new number of variables. */
static size_t set(char **envp, size_t n, const char *variable)
{
	size_t name = strcspn(variable, "=") + 1, i = 0;

	while (i < n && strncmp(envp[i], variable, name) != 0)
		i++;
	envp[i] = (char *)variable;
	return i == n ? n + 1 : n;
}

/* The variables that every program expects, then the user's. */
static char **make_env(const struct test_options *o, char *term)
{
	char **envp = calloc(o->env.n + DEFAULTS + 1, sizeof(*envp));
	bool root = !o->user || !strcmp(o->user, "root") || !strcmp(o->user, "0");
	size_t n = 0;

	if (!envp)
		return NULL;
	n = set(envp, n, DEFAULT_PATH);
	n = set(envp, n, root ? "HOME=/root" : "HOME=/");
	if (o->tty)
		n = set(envp, n, term);
	for (unsigned i = 0; i < o->env.n; i++)
		n = set(envp, n, o->env.item[i]);
	return envp;
}

int test_command_make(struct test *t, struct err *err)
{
	const struct test_options *o = t->options;
	const char *term = getenv("TERM");

	if (!o->command)
		return 0;
	snprintf(t->term, sizeof(t->term), "TERM=%s", term && *term ? term : "linux");
	t->envp = make_env(o, t->term);
	if (!t->envp)
		return err_sys(err, ENOMEM, "--env");
	t->command = (struct agent_command){
		.argv = o->command,
		.envp = t->envp,
		.cwd = o->cwd ? o->cwd : "/",
		.user = o->user ? o->user : "root",
		.host_name = o->hostname ? o->hostname : "bantam",
		.tty = o->tty,
	};
	if (t->terminal)
		test_terminal_size(t->terminal, &t->command.rows, &t->command.cols);
	return 0;
}
