/*
 * parse: reads HTTP/1.x requests (RFC 9112) from bytes that come in any pieces.
 *
 * A pure function over buffers: no descriptor, no clock, no log. The bytes are hostile. What the
 * parser says about a sequence of bytes does not depend on how they were cut into pieces. It holds
 * memory only for the request that it reads: the target, and as much of the body as has come.
 *
 * One request at a time: after HTTP_PARSE_DONE the caller uses the fields below and calls
 * http_parse_next. Bytes behind a request stay with the caller until then.
 */
#ifndef BANTAM_HTTP_PARSE_H
#define BANTAM_HTTP_PARSE_H

#include <llhttp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_LINE_MAX 8192u	/* the request line, without its CR LF */
#define HTTP_HEADERS_MAX 65536u /* all bytes from there to the body */
#define HTTP_BODY_MAX (4u << 20)

enum http_parse_result {
	HTTP_PARSE_MORE,     /* all bytes are used up; the request is not complete */
	HTTP_PARSE_CONTINUE, /* the head is complete; the client waits for "100 Continue" */
	HTTP_PARSE_DONE,     /* a request is complete */
	HTTP_PARSE_BAD,	     /* no request, nor will there be one: see status and error */
};

enum http_parse_stage {
	HTTP_STAGE_LINE,
	HTTP_STAGE_HEADERS,
	HTTP_STAGE_BODY,
	HTTP_STAGE_DONE,
	HTTP_STAGE_BAD
};

struct http_parse {
	/* The request, after HTTP_PARSE_DONE. The texts last until http_parse_next. */
	const char *method;
	const char *path; /* printable ASCII, begins with '/' (or is "*"); no '/' at its end */
	char *query;	  /* what follows the '?', or NULL */
	char *body;	  /* NUL-terminated behind its bytes; NULL: none */
	uint32_t body_bytes;
	bool keep_alive; /* the client may send another request */
	/* After HTTP_PARSE_BAD: 400, 413 or 500, and the reason: printable, without '"' and '\'. */
	int status;
	const char *error;
	/* private */
	enum http_parse_stage stage;
	bool begun, expect, has_length, length_ended, name_ended;
	uint8_t name_bytes, value_bytes;
	char name[20], value[24]; /* of the header at hand, as far as they matter */
	uint32_t stage_bytes, target_bytes, target_room, body_room, length;
	char *target;
	llhttp_t core;
};

void http_parse_init(struct http_parse *p);
/* Frees the memory of a request. The object may be used again after http_parse_init. */
void http_parse_clear(struct http_parse *p);

/*
 * Reads on. *used_bytes: how many of the bytes belong to this request. After HTTP_PARSE_CONTINUE
 * the caller goes on with the rest; after DONE and BAD the parser takes no more bytes.
 */
enum http_parse_result http_parse_feed(struct http_parse *p, const char *buf, size_t bytes,
				       size_t *used_bytes);
/* Forgets the complete request and waits for the next one. */
void http_parse_next(struct http_parse *p);

/* Returns true before the first byte of a request (empty lines do not count). */
bool http_parse_idle(const struct http_parse *p);
/* The memory that the request holds now. */
size_t http_parse_held_bytes(const struct http_parse *p);

#endif
