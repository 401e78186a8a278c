/*
 * watch: GET vm.events, an answer without an end: one event a line, from now on. See endpoints.h.
 *
 * The module events calls a listener under its lock, in any thread; the stream only queues there. The
 * stream's end (the client is gone, or too slow) comes in the loop's thread.
 */
#include <errno.h>
#include <stdlib.h>

#include "vmm/api/endpoints_impl.h"

struct watcher {
	struct events *events;
	struct http_stream *stream;
	unsigned id;
};

static void on_event(void *opaque, const char *json, size_t len)
{
	struct watcher *w = opaque;

	http_stream_write(w->stream, json, len);
	http_stream_write(w->stream, "\n", 1);
}

static void on_reader_gone(void *opaque)
{
	struct watcher *w = opaque;

	events_unlisten(w->events, w->id);
	http_stream_end(w->stream);
	free(w);
}

int api_watch(struct call *call, struct err *err)
{
	struct watcher *w = calloc(1, sizeof(*w));

	if (!w)
		return err_sys(err, ENOMEM, "vm.events");
	call->answered = true;
	w->events = call->process.events;
	w->stream = http_stream_begin(call->x, "application/x-ndjson", on_reader_gone, w);
	if (!w->stream) {
		free(w);
		return 0;
	}
	if (events_listen(w->events, on_event, w, &w->id))
		on_reader_gone(w);
	return 0;
}
