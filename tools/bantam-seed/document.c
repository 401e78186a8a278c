/*
 * document: would cloud-init ignore a document that the user gives? See seed.h.
 *
 * cloud-init decides by the first characters what user-data and vendor-data are
 * (cloudinit/user_data.py, cloudinit/handlers), and says nothing on the console if it knows no such
 * form. meta-data and network-config are YAML, of which only a mapping counts. This looks at the
 * beginning and the characters; it does not parse YAML.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

#include "tools/bantam-seed/seed.h"
#include "vmm/core/parse.h"

#define MIME_BYTES 4096u	/* of the beginning, in which cloud-init looks for a MIME header */
#define UNPACKED_MAX (1u << 20) /* of a compressed document, of which the beginning is looked at */
#define BLANKS " \t\n\r\v\f"

static const char config_line[] = "#cloud-config";
static const char jinja_line[] = "## template: jinja";
static const char utf16[] = "is UTF-16; cloud-init reads UTF-8";

/* A document must begin with one of these; upper case counts as lower. The longer ones first. */
static const char *const forms[] = { jinja_line,
				     "#cloud-config-archive",
				     "#cloud-config-jsonp",
				     "#cloud-boothook",
				     config_line,
				     "#part-handler",
				     "#include",
				     "#!" };
#define NFORMS (sizeof(forms) / sizeof(forms[0]))

static bool begins(const char *at, const char *with)
{
	return !strncasecmp(at, with, strlen(with));
}

/* The length of a line without the blanks at its end. */
static int line_len(const char *line)
{
	int len = (int)strcspn(line, "\r\n");

	while (len && isblank((unsigned char)line[len - 1]))
		len--;
	return len;
}

static const char *next_line(const char *line)
{
	line += strcspn(line, "\n");
	return *line ? line + 1 : line;
}

static bool is_gzip(const struct text *text)
{
	return text->len >= 2 && !memcmp(text->data, "\x1f\x8b", 2);
}

static bool is_utf16(const struct text *text)
{
	return text->len >= 2 &&
	       (!memcmp(text->data, "\xff\xfe", 2) || !memcmp(text->data, "\xfe\xff", 2));
}

/* YAML has no control characters but tab and line ends. *line: where the first one is. */
static const char *characters_fault(const struct text *text, unsigned *line)
{
	const uint8_t *at = (const uint8_t *)text->data, *end = at + text->len;

	*line = 0;
	if (is_gzip(text))
		return "is compressed; cloud-init unpacks user-data and vendor-data only";
	if (is_utf16(text))
		return utf16;
	for (*line = 1; at < end;) {
		int32_t c = *at ? parse_utf8(&at) : *at++;

		if (c < 0)
			return "is not UTF-8";
		if (c == '\n')
			++*line;
		else if ((c < ' ' || c == 0x7f) && c != '\t' && c != '\r')
			return "has a control character, which YAML forbids";
	}
	*line = 0;
	return NULL;
}

/* What keeps text, a YAML document, from being a mapping; "" : it has no content. */
static const char *mapping_fault(const char *text, unsigned line, unsigned *where)
{
	const char *first = NULL, *end;

	for (const char *at = text; *at; at = next_line(at), line++) {
		const char *word = at + strspn(at, " ");

		/* Within a value a tab may follow the indentation, and quotes are rare. */
		if (*at == '\t' || (!first && *word == '\t')) {
			*where = line;
			return "is indented by a tab, which YAML forbids";
		}
		word += *word == '\r';
		if (!first && *word && !strchr("\n#%", *word) && strncmp(word, "---", 3)) {
			first = word;
			*where = line;
		}
	}
	if (!first)
		return "";
	if (*first == '[' || (*first == '-' && (isspace((unsigned char)first[1]) || !first[1])))
		return "is a list; it must be a mapping, with lines like KEY: VALUE";
	if (strchr("{?&!", *first))
		return NULL;
	end = first + line_len(first);
	for (const char *at = first; at < end; at++)
		if (*at == ':' && (at + 1 == end || isblank((unsigned char)at[1])))
			return NULL;
	return "is no mapping: it must have lines like KEY: VALUE";
}

static bool say(char *why, size_t len, unsigned line, const char *fault)
{
	if (line)
		snprintf(why, len, "line %u %s", line, fault);
	else
		snprintf(why, len, "%s", fault);
	return true;
}

static bool is_mime(const struct text *text)
{
	for (size_t i = 0; i < text->len && i < MIME_BYTES; i++)
		if (begins(text->data + i, "mime-version:"))
			return true;
	return false;
}

/* No form is known that begins like at. */
static bool unknown_form(const char *at, char *why, size_t len)
{
	const char *near = NULL;
	char line[60];

	snprintf(line, sizeof(line), "%.*s", line_len(at), at);
	for (char *c = line; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	if (begins(at, "\xef\xbb\xbf"))
		return say(why, len, 0,
			   "begins with a byte order mark (BOM), which hides its first line; "
			   "remove that mark");
	if (begins(at, "content-type:"))
		return say(why, len, 0, "has a MIME header without the line MIME-Version: 1.0");
	if (strstr(line, "cloud"))
		near = config_line;
	if (!near)
		near = parse_nearest(line, forms, NFORMS);
	if (near)
		snprintf(why, len, "begins with \"%.40s\"; did you mean %s?", line, near);
	else
		snprintf(why, len,
			 "begins with \"%.40s\"; its first line must be #cloud-config, #! and an "
			 "interpreter, or another form that cloud-init knows",
			 line);
	return true;
}

static bool plain_fault(const struct text *text, char *why, size_t len)
{
	const char *at = text->data, *fault;
	unsigned line, where = 0;
	size_t form = 0;

	if (is_utf16(text))
		return say(why, len, 0, utf16);
	if (is_mime(text))
		return false;
	do {
		at += strspn(at, BLANKS);
		if (!*at)
			return say(why, len, 0, "is empty");
		for (form = 0; form < NFORMS && !begins(at, forms[form]); form++)
			;
		if (form == NFORMS)
			return unknown_form(at, why, len);
		if (forms[form] == jinja_line)
			at = next_line(at);
	} while (forms[form] == jinja_line);
	/* A template is YAML only after it was expanded. */
	if (forms[form] != config_line ||
	    begins(text->data + strspn(text->data, BLANKS), jinja_line))
		return false;
	fault = characters_fault(text, &line);
	if (fault)
		return say(why, len, line, fault);
	fault = mapping_fault(text->data, 1, &where);
	return fault && *fault ? say(why, len, where, fault) : false;
}

/*
 * Unpacks the beginning of a gzip file, up to the end of a line if there is more. Returns false if
 * there is no memory, or with *damaged if it is none: then cloud-init takes it as it is.
 */
static bool unpack(const struct text *packed, struct text *plain, bool *damaged)
{
	z_stream z = { .next_in = (Bytef *)packed->data, .avail_in = (uInt)packed->len };
	int rc;

	*damaged = false;
	*plain = (struct text){ .data = calloc(1, UNPACKED_MAX + 1) };
	if (!plain->data || inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
		return false;
	z.next_out = (Bytef *)plain->data;
	z.avail_out = UNPACKED_MAX;
	rc = inflate(&z, Z_FINISH);
	plain->len = UNPACKED_MAX - z.avail_out;
	*damaged = rc != Z_STREAM_END && (rc != Z_BUF_ERROR || z.avail_out);
	inflateEnd(&z);
	while (rc == Z_BUF_ERROR && plain->len && plain->data[plain->len - 1] != '\n')
		plain->data[--plain->len] = 0;
	return !*damaged && (plain->len || rc == Z_STREAM_END);
}

static bool data_fault(const struct text *text, char *why, size_t len)
{
	struct text plain;
	bool damaged, fault;
	char inner[160];

	if (!is_gzip(text))
		return plain_fault(text, why, len);
	fault = unpack(text, &plain, &damaged) && plain_fault(&plain, inner, sizeof(inner));
	if (damaged)
		say(why, len, 0, "is a damaged gzip file");
	else if (fault)
		snprintf(why, len, "is compressed, and unpacked %s%s",
			 strncmp(inner, "line ", 5) ? "it " : "its ", inner);
	free(plain.data);
	return damaged || fault;
}

/* Is there a word "version:" or, where all is off, "config: disabled"? */
static bool has_version(const char *text)
{
	for (const char *at = text; *at; at = next_line(at)) {
		const char *end = at + strcspn(at, "#\r\n");

		for (const char *c = at; c < end; c++) {
			const char *after = c + strlen("version");

			if ((c > at && (isalnum((unsigned char)c[-1]) || c[-1] == '-')) ||
			    (strncmp(c, "version", strlen("version")) && strncmp(c, "disabled", 8)))
				continue;
			after += strspn(after, "\"' \t");
			if (*c == 'd' || *after == ':')
				return true;
		}
	}
	return false;
}

static bool yaml_fault(const struct text *text, bool network, char *why, size_t len)
{
	unsigned line, where = 0;
	const char *fault = characters_fault(text, &line);

	if (fault)
		return say(why, len, line, fault);
	fault = mapping_fault(begins(text->data, "\xef\xbb\xbf") ? text->data + 3 : text->data, 1,
			      &where);
	if (fault && *fault)
		return say(why, len, where, fault);
	if (network && fault)
		return say(why, len, 0, "is empty");
	if (network && !has_version(text->data))
		return say(why, len, 0, "has no \"version: 1\" or \"version: 2\"");
	return false;
}

bool cloud_document_fault(enum cloud_document kind, const struct text *text, char *why, size_t len)
{
	if (kind == CLOUD_USER_DATA || kind == CLOUD_VENDOR_DATA)
		return data_fault(text, why, len);
	return yaml_fault(text, kind == CLOUD_NETWORK_CONFIG, why, len);
}
