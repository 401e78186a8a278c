/* net_client: see net_client.h. */
#include "tests/unit/net_client.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <unistd.h>

struct loop *loop;
struct net *net;
unsigned readable, writable, ups, downs;

static void on_readable(void *opaque, unsigned queue)
{
	readable++;
	net_want(net, queue, false, false);
}

static void on_writable(void *opaque, unsigned queue)
{
	writable++;
	net_want(net, queue, false, false);
}

static void on_link(void *opaque, bool up)
{
	ups += up;
	downs += !up;
}

static void stop(void *opaque)
{
	loop_stop(opaque);
}

void turns(unsigned n)
{
	while (n--) {
		loop_post(loop, stop, loop);
		loop_run(loop);
	}
}

bool until(const unsigned *what, unsigned n)
{
	for (unsigned i = 0; i < 3000 && *what < n; i++) {
		turns(1);
		usleep(*what < n ? 1000 : 0);
	}
	return *what >= n;
}

int open_net(struct net_config cfg, struct err *err)
{
	const struct net_client client = { on_readable, on_writable, on_link, NULL };
	int rc;

	readable = writable = ups = downs = 0;
	/* The helper is in build/; an instrumented test is in another folder. */
	setenv("BANTAM_LIBEXEC", "build", 0);
	if (!loop)
		cr_assert_eq(loop_create(&loop, err), 0);
	cfg.option = "--net";
	cfg.name = "net0";
	cfg.loop = loop;
	rc = net_open(&cfg, &net, err);
	if (!rc)
		net_attach(net, &client);
	return rc;
}

void end(void)
{
	net_close(net);
	loop_destroy(loop);
	net = NULL;
	loop = NULL;
}
