/*
 * verdict/lines: the kernel's log as lines; see verdict.h.
 *
 * Theory of operation. A reader is a state machine over bytes with one buffer, so that the lines do not
 * depend on how the bytes come in pieces.
 *
 * On a serial console programs and the kernel write in turns, so a kernel's line may begin in the middle
 * of a program's. The prefix "[    1.234567]" tells it: when a blank or "[" follows a "]", the end of the
 * buffer is looked at, and a prefix there ends the line before it. The kernel pads the seconds to five
 * columns, which other text in brackets rarely does. A full buffer becomes a line, too, without a tail
 * that may be the beginning of a prefix. Escape sequences of terminals are dropped, but
 * what does not fit their form is text: a program that ends in the middle of a sequence hides no line of the
 * kernel.
 *
 * A record of /dev/kmsg (Documentation/ABI/testing/dev-kmsg) is "PRIORITY,SEQUENCE,USEC,FLAGS[,caller=T1];
 * TEXT", followed by lines that begin with a blank. The kernel writes unprintable bytes and the backslash
 * as \xHH; a newline in a record so gives several lines with the same head.
 */
#include "vmm/verdict/verdict.h"

#include <ctype.h>
#include <string.h>

enum {
	TEXT,
	ESCAPE, /* ESC has come, and count bytes more, which are in escape */
	HEAD,	/* kmsg: before the semicolon */
	REST,	/* kmsg: what is not the record's first line */
	HEX,	/* kmsg: a backslash and count - 1 bytes more */
};

#define ESC 0x1b
#define SEQUENCE_MAX (sizeof(((struct verdict_reader *)0)->escape))
#define HEAD_MAX 128
#define PREFIX_MAX 32 /* bytes of "<6>[    1.234567]" */

void verdict_reader_init(struct verdict_reader *r, enum verdict_source source,
			 verdict_on_line *on_line, void *opaque)
{
	memset(r, 0, sizeof(*r));
	r->source = source;
	r->on_line = on_line;
	r->opaque = opaque;
	r->state = source == VERDICT_KMSG ? HEAD : TEXT;
	r->head.level = -1;
}

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Reads a number of at most 19 digits; advances *at only if there is one. */
static bool number(const char **at, uint64_t *out)
{
	const char *p = *at;
	uint64_t v = 0;

	while (digit(*p) && p - *at < 20)
		v = v * 10 + (uint64_t)(*p++ - '0');
	if (p == *at || p - *at > 19)
		return false;
	*at = p;
	*out = v;
	return true;
}

/* "<6>": a priority, level and facility. */
static bool priority(const char **at, struct verdict_line *line)
{
	const char *p = *at;
	uint64_t v;

	if (*p++ != '<' || !number(&p, &v) || *p++ != '>' || v > 0xfff)
		return false;
	line->level = (int)(v & 7);
	*at = p;
	return true;
}

/* "[    1.234567]" */
static bool stamp(const char **at, struct verdict_line *line)
{
	const char *p = *at, *fraction;
	uint64_t sec, usec;

	if (*p++ != '[')
		return false;
	while (*p == ' ')
		p++;
	if (!number(&p, &sec) || *p++ != '.')
		return false;
	fraction = p;
	if (!number(&p, &usec) || p - fraction != 6 || *p++ != ']' || sec > UINT64_MAX / 2000000)
		return false;
	line->timed = true;
	line->usec = sec * 1000000 + usec;
	*at = p;
	return true;
}

/* "T12" or "C3": CONFIG_PRINTK_CALLER. */
static bool caller(const char **at, struct verdict_line *line)
{
	const char *p = *at;
	char kind = *p++;
	uint64_t id;

	if ((kind != 'T' && kind != 'C') || !number(&p, &id) || id > UINT32_MAX)
		return false;
	line->caller = kind;
	line->caller_id = (uint32_t)id;
	*at = p;
	return true;
}

/* Moves line->text behind what the kernel puts before a line on a console. */
static void console_prefix(struct verdict_line *line)
{
	const char *p = line->text, *q;

	priority(&p, line);
	if (stamp(&p, line)) {
		q = p;
		if (*q == '[') {
			do
				q++;
			while (*q == ' ');
			if (caller(&q, line) && *q == ']')
				p = q + 1;
			else
				line->caller = 0;
		}
		if (*p == ' ')
			p++;
	}
	line->len -= (size_t)(p - line->text);
	line->text = p;
}

/* "** 12 printk messages dropped **" */
static void count_lost(struct verdict_reader *r, const struct verdict_line *line)
{
	const char *p = line->text;
	uint64_t n;

	if (!strncmp(p, "** ", 3) && (p += 3, number(&p, &n)) &&
	    !strncmp(p, " printk messages dropped", 24))
		r->lost += n;
}

/* Tells the first len bytes of the buffer as a line, and keeps the rest. */
static void tell(struct verdict_reader *r, size_t len, bool cut)
{
	struct verdict_line line = r->head;
	size_t rest = r->len - len;
	char next = r->buf[len];

	r->buf[len] = 0;
	line.source = r->source;
	line.number = r->newlines + 1;
	line.cut = cut;
	line.text = r->buf;
	line.len = len;
	if (r->source != VERDICT_KMSG)
		console_prefix(&line);
	while (line.len && line.text[line.len - 1] == ' ')
		line.len--;
	r->buf[(size_t)(line.text - r->buf) + line.len] = 0;
	if (line.len) {
		if (r->source != VERDICT_KMSG)
			count_lost(r, &line);
		r->on_line(r->opaque, &line);
	}
	r->buf[len] = next;
	memmove(r->buf, r->buf + len, rest);
	r->len = rest;
}

/* If the buffer ends with a kernel's prefix, returns where that begins, else the buffer's length. */
static size_t prefix_at(const struct verdict_reader *r)
{
	size_t at = r->len - 1, digits = 0, width = 0;

	if (r->buf[at] != ']')
		return r->len;
	while (at > 0 && digit(r->buf[at - 1])) {
		at--;
		digits++;
	}
	if (digits != 6 || !at || r->buf[--at] != '.')
		return r->len;
	for (; at > 0 && digit(r->buf[at - 1]); width++)
		at--;
	if (!width)
		return r->len;
	for (; at > 0 && r->buf[at - 1] == ' '; width++)
		at--;
	if (width < 5 || width > 16 || !at || r->buf[--at] != '[')
		return r->len;
	/* "<6>" before it */
	if (at >= 3 && r->buf[at - 1] == '>' && digit(r->buf[at - 2]) && r->buf[at - 3] == '<')
		at -= 3;
	return at;
}

/* The length of the buffer without a tail that may become a prefix. */
static size_t without_tail(const struct verdict_reader *r)
{
	for (size_t at = r->len; at > r->len - PREFIX_MAX; at--) {
		char c = r->buf[at - 1];

		if (c == '[' || c == '<')
			return at - 1;
		if (!digit(c) && c != ' ' && c != '.' && c != ']' && c != '>')
			break;
	}
	return r->len;
}

static void put(struct verdict_reader *r, uint8_t b)
{
	if (!b)
		return;
	if (b == '\t')
		b = ' ';
	else if (b < 0x20 || b == 0x7f)
		b = '?';
	if (r->source != VERDICT_KMSG && r->len && (b == ' ' || b == '[')) {
		size_t at = prefix_at(r);

		if (at && at < r->len)
			tell(r, at, true);
	}
	if (r->len == VERDICT_LINE_MAX)
		tell(r, r->source != VERDICT_KMSG ? without_tail(r) : r->len, true);
	r->buf[r->len++] = (char)b;
}

/* What looked like a sequence is none: it is text. */
static void escape_ends(struct verdict_reader *r)
{
	unsigned n = r->count;

	r->state = TEXT;
	r->count = 0;
	for (unsigned i = 0; i < n; i++)
		put(r, r->escape[i]);
}

/*
 * Returns true if the byte belongs to an escape sequence. ESC, "[" (or nothing), bytes from "0" on, bytes
 * below "0", one byte from "@" on (ECMA-48, 5.4); a kernel's prefix after ESC does not fit that.
 */
static bool escapes(struct verdict_reader *r, uint8_t b)
{
	uint8_t last = r->count ? r->escape[r->count - 1] : 0;
	bool fits = r->count < SEQUENCE_MAX;

	if (!r->count) {
		fits = b >= 0x20 && b < 0x7f;
	} else if (b >= 0x20 && b < 0x30) {
		/* one more between */
	} else if (b >= 0x30 && b < 0x40) {
		fits = fits && r->escape[0] == '[' && (r->count == 1 || last >= 0x30);
	} else {
		fits = fits && b >= 0x40 && b < 0x7f && b != '[';
	}
	if (!fits) {
		escape_ends(r);
		return false;
	}
	r->escape[r->count++] = b;
	if (r->count == 1 ? b != '[' && b >= 0x30 : b >= 0x40) {
		r->count = 0;
		r->state = TEXT;
	}
	return true;
}

static void console_byte(struct verdict_reader *r, uint8_t b)
{
	if (r->state == ESCAPE && escapes(r, b))
		return;
	if (b == ESC) {
		r->state = ESCAPE;
	} else if (b == '\n' || b == '\r') {
		tell(r, r->len, false);
		r->newlines += b == '\n';
	} else {
		put(r, b);
	}
}

/* --- /dev/kmsg ----------------------------------------------------------------------------- */

/* Reads the head in the buffer; false: it is none. */
static bool read_head(struct verdict_reader *r)
{
	const char *p = r->buf, *more;
	struct verdict_line line = { .level = -1 };
	uint64_t prio;

	r->buf[r->len] = 0;
	if (!number(&p, &prio) || prio > 0xfff || *p++ != ',' || !number(&p, &line.seq) ||
	    *p++ != ',' || !number(&p, &line.usec) || *p != ',')
		return false;
	line.level = (int)(prio & 7);
	line.user = prio > 7;
	line.timed = line.sequenced = true;
	more = strstr(p, ",caller=");
	if (more) {
		more += strlen(",caller=");
		caller(&more, &line);
	}
	if (r->next_seq && line.seq > r->next_seq)
		r->lost += line.seq - r->next_seq;
	r->next_seq = line.seq + 1;
	r->head = line;
	r->len = 0;
	return true;
}

static void record_end(struct verdict_reader *r)
{
	tell(r, r->len, false);
	r->newlines++;
	r->head = (struct verdict_line){ .level = -1 };
	r->state = HEAD;
}

/* Returns true if the byte belongs to the escape. */
static bool unescape(struct verdict_reader *r, uint8_t b)
{
	bool fits = r->count == 1 ? b == 'x' : isxdigit(b);

	if (!fits) {
		/* No escape of the kernel's: what it looked like is text. */
		static const char hex[] = "0123456789abcdef";

		put(r, '\\');
		if (r->count > 1)
			put(r, 'x');
		if (r->count > 2)
			put(r, (uint8_t)hex[r->hex & 15]);
		r->state = TEXT;
		return false;
	}
	if (r->count > 1)
		r->hex = (uint8_t)(r->hex << 4 |
				   (digit((char)b) ? b - '0' : (tolower(b) - 'a' + 10)));
	if (++r->count < 4)
		return true;
	r->state = TEXT;
	if (r->hex == '\n')
		tell(r, r->len, false);
	else
		put(r, r->hex);
	return true;
}

static void kmsg_byte(struct verdict_reader *r, uint8_t b)
{
	if (r->state == HEX && unescape(r, b))
		return;
	if (b == '\n') {
		if (r->state == REST)
			r->state = HEAD;
		else
			record_end(r);
	} else if (r->state == REST) {
		return;
	} else if (r->state == HEAD && !r->len && b == ' ') {
		r->state = REST;
	} else if (r->state == HEAD && b == ';') {
		if (!read_head(r))
			put(r, b);
		r->state = TEXT;
	} else if (r->state == TEXT && b == '\\') {
		r->state = HEX;
		r->count = 1;
		r->hex = 0;
	} else {
		put(r, b);
		if (r->state == HEAD && r->len > HEAD_MAX)
			r->state = TEXT;
	}
}

void verdict_reader_feed(struct verdict_reader *r, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < len; i++) {
		if (r->source == VERDICT_KMSG)
			kmsg_byte(r, p[i]);
		else
			console_byte(r, p[i]);
	}
}

void verdict_reader_flush(struct verdict_reader *r)
{
	if (r->state == ESCAPE)
		escape_ends(r);
	tell(r, r->len, true);
}

/* --- phases -------------------------------------------------------------------------------- */

static bool starts(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

enum verdict_phase verdict_line_phase(const struct verdict_line *line)
{
	const char *text = line->text;
	size_t len = line->len;
	static const char run_end[] = " as init process";

	if (starts(text, "Run /") && len > strlen(run_end) &&
	    !strcmp(text + len - strlen(run_end), run_end))
		return VERDICT_INIT;
	if (starts(text, "Freeing unused kernel "))
		return VERDICT_KERNEL;
	/* Its first words after the one CPU is up, in any configuration. */
	if (starts(text, "smp: Brought up ") || starts(text, "smp: Bringing up ") ||
	    starts(text, "devtmpfs: initialized") || starts(text, "clocksource: jiffies:") ||
	    starts(text, "NET: Registered "))
		return VERDICT_KERNEL;
	if (starts(text, "Linux version ") || starts(text, "Command line: ") ||
	    starts(text, "Booting Linux on physical CPU "))
		return VERDICT_EARLY_KERNEL;
	return VERDICT_LOADER;
}

const char *verdict_phase_name(enum verdict_phase phase)
{
	static const char names[VERDICT_PHASES][16] = { "loader", "early kernel", "kernel", "init",
							"command" };

	return phase < VERDICT_PHASES ? names[phase] : "";
}

const char *verdict_source_name(enum verdict_source source)
{
	static const char names[VERDICT_SOURCES][8] = { "console", "hvc", "kmsg" };

	return source < VERDICT_SOURCES ? names[source] : "";
}
