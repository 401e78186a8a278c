/*
 * parse: see parse.h.
 *
 * Theory of operation. llhttp finds the parts of a request and calls back; it pauses behind the
 * request line, behind the headers and behind the body, so that each of these stages has an exact
 * number of bytes, whatever the pieces. A stage with a limit gets at most as many bytes as it may
 * have; a byte more is an error.
 *
 * The parser keeps the target (its size is known to be small) and the body. The body's memory
 * grows with the bytes that have come, not with what Content-Length promises. Of the headers only
 * three matter here: Content-Length (checked to be digits, since llhttp is more generous),
 * Transfer-Encoding (refused), and Expect. llhttp looks at Connection itself.
 *
 * Each request gets a fresh llhttp_t: no state of a request can reach the next one.
 */
#include "vmm/http/parse.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BODY_FIRST_BYTES 4096u
#define TARGET_FIRST_BYTES 64u

static struct http_parse *parser_of(llhttp_t *core)
{
	return core->data;
}

/* Notes the first error. Returns what makes llhttp stop. */
static int bad(struct http_parse *p, int status, const char *error)
{
	if (!p->error) {
		p->status = status;
		p->error = error;
	}
	return HPE_USER;
}

/* Make room for more bytes, and one for a NUL, behind the have bytes of *buf. */
static bool grow(char **buf, uint32_t *room, uint32_t have, size_t more, uint32_t first,
		 uint32_t most)
{
	size_t need = have + more + 1, size = *room ? *room : first;
	char *new;

	if (need <= *room)
		return true;
	while (size < need)
		size *= 2;
	if (size > most + 1)
		size = most + 1;
	new = realloc(*buf, size);
	if (!new)
		return false;
	*buf = new;
	*room = (uint32_t)size;
	return true;
}

/* --- what llhttp calls ------------------------------------------------------------------ */

static int on_begin(llhttp_t *core)
{
	parser_of(core)->begun = true;
	return 0;
}

static int on_url(llhttp_t *core, const char *at, size_t bytes)
{
	struct http_parse *p = parser_of(core);

	for (size_t i = 0; i < bytes; i++)
		if (at[i] <= ' ' || at[i] >= 0x7f)
			return bad(p, 400, "the request's target has a byte that no URI has");
	/* The stage's limit holds for the target too. */
	if (!grow(&p->target, &p->target_room, p->target_bytes, bytes, TARGET_FIRST_BYTES,
		  HTTP_LINE_MAX))
		return bad(p, 500, "out of memory");
	memcpy(p->target + p->target_bytes, at, bytes);
	p->target_bytes += (uint32_t)bytes;
	return 0;
}

static int on_pause(llhttp_t *core)
{
	return HPE_PAUSED;
}

/* Appends to a short text; what does not fit only counts as "longer". */
static void collect(char *text, uint8_t *have, size_t room, const char *at, size_t bytes)
{
	for (size_t i = 0; i < bytes && *have < room; i++)
		text[(*have)++] = at[i];
}

static int on_field(llhttp_t *core, const char *at, size_t bytes)
{
	struct http_parse *p = parser_of(core);

	if (p->name_ended) {
		p->name_ended = false;
		p->name_bytes = p->value_bytes = 0;
	}
	collect(p->name, &p->name_bytes, sizeof(p->name), at, bytes);
	return 0;
}

static bool is_field(const struct http_parse *p, const char *name)
{
	return p->name_bytes == strlen(name) && !strncasecmp(p->name, name, p->name_bytes);
}

static int on_field_end(llhttp_t *core)
{
	struct http_parse *p = parser_of(core);

	p->name_ended = true;
	if (is_field(p, "transfer-encoding"))
		return bad(p, 400, "Transfer-Encoding is not supported: send Content-Length");
	if (!is_field(p, "content-length"))
		return 0;
	if (p->has_length)
		return bad(p, 400, "Content-Length is given twice");
	p->has_length = true;
	return 0;
}

static int on_value(llhttp_t *core, const char *at, size_t bytes)
{
	struct http_parse *p = parser_of(core);

	collect(p->value, &p->value_bytes, sizeof(p->value), at, bytes);
	if (!is_field(p, "content-length"))
		return 0;
	for (size_t i = 0; i < bytes; i++) {
		bool space = at[i] == ' ';

		/* Spaces may only follow the digits; llhttp drops those before. */
		if (!space && (at[i] < '0' || at[i] > '9' || p->length_ended))
			return bad(p, 400, "Content-Length is no decimal number");
		p->length_ended |= space;
	}
	return 0;
}

static int on_value_end(llhttp_t *core)
{
	struct http_parse *p = parser_of(core);

	if (is_field(p, "content-length") && !p->value_bytes)
		return bad(p, 400, "Content-Length is no decimal number");
	while (p->value_bytes && p->value[p->value_bytes - 1] == ' ')
		p->value_bytes--;
	if (is_field(p, "expect") && p->value_bytes == 12 &&
	    !strncasecmp(p->value, "100-continue", 12))
		p->expect = true;
	return 0;
}

static int on_body(llhttp_t *core, const char *at, size_t bytes)
{
	struct http_parse *p = parser_of(core);

	if (bytes > p->length - p->body_bytes)
		return bad(p, 400, "the body is longer than Content-Length");
	if (!grow(&p->body, &p->body_room, p->body_bytes, bytes, BODY_FIRST_BYTES, p->length))
		return bad(p, 500, "out of memory");
	memcpy(p->body + p->body_bytes, at, bytes);
	p->body_bytes += (uint32_t)bytes;
	return 0;
}

static const llhttp_settings_t settings = {
	.on_message_begin = on_begin,
	.on_url = on_url,
	.on_version_complete = on_pause,
	.on_header_field = on_field,
	.on_header_field_complete = on_field_end,
	.on_header_value = on_value,
	.on_header_value_complete = on_value_end,
	.on_headers_complete = on_pause,
	.on_body = on_body,
	.on_message_complete = on_pause,
};

/* --- from stage to stage ------------------------------------------------------------------ */

/* Cuts path and query out of the target. Returns false if it is none that this server has. */
static bool split_target(struct http_parse *p)
{
	char *s = p->target, *end;
	bool absolute = false;

	if (!s)
		return false;
	s[p->target_bytes] = 0;
	if (!strncasecmp(s, "http://", 7) || !strncasecmp(s, "unix://", 7)) {
		s += 7;
		s += strcspn(s, "/?#");
		absolute = true;
	}
	end = strpbrk(s, "?#");
	if (end) {
		if (*end == '?') {
			p->query = end + 1;
			p->query[strcspn(p->query, "#")] = 0;
		}
		*end = 0;
	}
	end = s + strlen(s);
	if (end > s + 1 && end[-1] == '/')
		end[-1] = 0;
	p->path = absolute && !*s ? "/" : s;
	return absolute || *s == '/' || !strcmp(s, "*");
}

/* The head is complete: is it a request that this server takes? */
static int check_head(struct http_parse *p)
{
	if (llhttp_get_http_major(&p->core) != 1)
		return bad(p, 400, "the version of HTTP is not 1.0 or 1.1");
	if (!split_target(p))
		return bad(p, 400, "the request's target is no path");
	if (p->has_length && !(p->core.flags & F_CONTENT_LENGTH))
		return bad(p, 400, "Content-Length is no decimal number");
	if (p->core.flags & (F_CHUNKED | F_TRANSFER_ENCODING))
		return bad(p, 400, "Transfer-Encoding is not supported: send Content-Length");
	if (p->has_length && p->core.content_length > HTTP_BODY_MAX)
		return bad(p, 413, "the body is larger than 4 MiB");
	p->length = p->has_length ? (uint32_t)p->core.content_length : 0;
	p->method = llhttp_method_name((llhttp_method_t)llhttp_get_method(&p->core));
	p->keep_alive = llhttp_should_keep_alive(&p->core);
	/* A change of protocol is not offered: the request counts as it stands. */
	p->core.upgrade = 0;
	return 0;
}

static enum http_parse_result fail(struct http_parse *p)
{
	static const struct {
		llhttp_errno_t code;
		const char *error;
	} known[] = {
		{ HPE_INVALID_METHOD, "the method is unknown" },
		{ HPE_INVALID_URL, "the request's target is no URI" },
		{ HPE_INVALID_VERSION, "the version of HTTP is not 1.0 or 1.1" },
		{ HPE_INVALID_CONTENT_LENGTH, "Content-Length is no decimal number" },
		{ HPE_UNEXPECTED_CONTENT_LENGTH, "Content-Length is given twice" },
		{ HPE_INVALID_TRANSFER_ENCODING,
		  "Transfer-Encoding is not supported: send Content-Length" },
		{ HPE_INVALID_HEADER_TOKEN, "a header has a byte that none may have" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (llhttp_get_errno(&p->core) == known[i].code)
			bad(p, 400, known[i].error);
	bad(p, 400, "the bytes are no request of HTTP/1.1");
	p->stage = HTTP_STAGE_BAD;
	return HTTP_PARSE_BAD;
}

/* How many more bytes the stage may have. */
static size_t stage_room(const struct http_parse *p)
{
	switch (p->stage) {
	case HTTP_STAGE_LINE:
		return HTTP_LINE_MAX - p->stage_bytes;
	case HTTP_STAGE_HEADERS:
		return HTTP_HEADERS_MAX - p->stage_bytes;
	default:
		return SIZE_MAX;
	}
}

static enum http_parse_result too_large(struct http_parse *p)
{
	bad(p, 413,
	    p->stage == HTTP_STAGE_LINE ? "the request line is longer than 8 KiB" :
					  "the headers are larger than 64 KiB");
	return fail(p);
}

/* llhttp paused: the next stage begins. */
static enum http_parse_result next_stage(struct http_parse *p)
{
	bool head_ended = p->stage == HTTP_STAGE_HEADERS;

	if (p->stage == HTTP_STAGE_BODY) {
		if (p->body)
			p->body[p->body_bytes] = 0;
		p->stage = HTTP_STAGE_DONE;
		return HTTP_PARSE_DONE;
	}
	p->stage++;
	p->stage_bytes = 0;
	if (llhttp_get_http_major(&p->core) != 1) {
		bad(p, 400, "the version of HTTP is not 1.0 or 1.1");
		return fail(p);
	}
	llhttp_resume(&p->core);
	if (!head_ended)
		return HTTP_PARSE_MORE;
	if (check_head(p))
		return fail(p);
	return p->expect && p->length ? HTTP_PARSE_CONTINUE : HTTP_PARSE_MORE;
}

enum http_parse_result http_parse_feed(struct http_parse *p, const char *buf, size_t bytes,
				       size_t *used_bytes)
{
	enum http_parse_result result = HTTP_PARSE_MORE;
	size_t used = 0;

	*used_bytes = 0;
	if (p->stage == HTTP_STAGE_DONE)
		return HTTP_PARSE_DONE;
	if (p->stage == HTTP_STAGE_BAD)
		return HTTP_PARSE_BAD;
	/* A request without a body ends after its head: llhttp says so without another byte. */
	while (result == HTTP_PARSE_MORE &&
	       (used < bytes || (p->stage == HTTP_STAGE_BODY && !p->length))) {
		const char *at = buf + used;
		size_t n = bytes - used, room = stage_room(p);
		llhttp_errno_t rc;

		if (!room) {
			result = too_large(p);
			break;
		}
		if (n > room)
			n = room;
		rc = llhttp_execute(&p->core, at, n);
		if (rc != HPE_OK && rc != HPE_PAUSED) {
			result = fail(p);
			break;
		}
		if (rc == HPE_PAUSED)
			n = (size_t)(llhttp_get_error_pos(&p->core) - at);
		used += n;
		p->stage_bytes += (uint32_t)n;
		if (rc == HPE_PAUSED)
			result = next_stage(p);
	}
	*used_bytes = used;
	return result;
}

void http_parse_init(struct http_parse *p)
{
	memset(p, 0, sizeof(*p));
	llhttp_init(&p->core, HTTP_REQUEST, &settings);
	p->core.data = p;
}

void http_parse_clear(struct http_parse *p)
{
	free(p->target);
	free(p->body);
	p->target = p->body = NULL;
}

void http_parse_next(struct http_parse *p)
{
	http_parse_clear(p);
	http_parse_init(p);
}

bool http_parse_idle(const struct http_parse *p)
{
	return !p->begun;
}

size_t http_parse_held_bytes(const struct http_parse *p)
{
	return (size_t)p->target_room + p->body_room;
}
