/*
 * fuzz_ctl: the bytes that bantam ctl gets from whatever answers at the socket. The first byte
 * chooses: an answer, which is shown as ping, info or counters; or a stream of events. What is shown
 * has no control character but the newline.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tools/bantam-ctl/client.c"
#include "tools/bantam-ctl/show.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A client to which all of data has been sent. */
static struct client connected(const uint8_t *data, size_t size)
{
	int pair[2];

	BUG_ON(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	BUG_ON(send(pair[1], data, size, MSG_DONTWAIT) != (ssize_t)size);
	close(pair[1]);
	return (struct client){ .path = "socket", .fd = pair[0] };
}

static void show(void (*fn)(json_t *value), json_t *value)
{
	FILE *was = stdout;
	char *text;
	size_t len;

	if (!json_is_object(value))
		return;
	stdout = open_memstream(&text, &len);
	fn(value);
	fclose(stdout);
	stdout = was;
	for (size_t i = 0; i < len; i++)
		if (text[i] == '\n')
			text[i] = ' ';
	BUG_ON(!printable_is(text) || strlen(text) != len);
	free(text);
}

static void fuzz_answer(struct client *c, void (*fn)(json_t *value))
{
	struct err err = { "" };
	struct answer a;

	if (client_request(c, "GET", "vm.info", NULL, &a, &err)) {
		BUG_ON(!*err.text || a.body);
		return;
	}
	BUG_ON(a.body[a.body_bytes]);
	if (client_ok(&a)) {
		json_t *value = json_loadb(a.body, a.body_bytes, 0, NULL);

		show(fn, value);
		json_decref(value);
	}
	free(a.body);
}

static void fuzz_stream(struct client *c)
{
	struct err err = { "" };
	struct answer a;
	char *line;

	if (client_stream(c, "vm.events", &a, &err)) {
		BUG_ON(!*err.text || a.body);
		return;
	}
	free(a.body);
	if (!client_ok(&a))
		return;
	while (client_line(c, &line, &err) == 1) {
		json_t *value = json_loads(line, 0, NULL);

		BUG_ON(strchr(line, '\n'));
		show(ctl_show_event, value);
		json_decref(value);
		free(line);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const shows[])(json_t *) = { ctl_show_ping, ctl_show_info,
						   ctl_show_counters };
	struct client c;

	if (!size || size > 64 << 10)
		return 0;
	c = connected(data + 1, size - 1);
	if (data[0] % 4 < 3)
		fuzz_answer(&c, shows[data[0] % 4]);
	else
		fuzz_stream(&c);
	client_close(&c);
	return 0;
}
