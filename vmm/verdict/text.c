/* verdict/text: text of a guest made fit for reports, and the last line for people; see verdict.h. */
#include <stdlib.h>
#include <string.h>

#include "vmm/core/parse.h"
#include "vmm/core/printable.h"
#include "vmm/verdict/verdict.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* XML 1.0, 2.2: Char. */
static bool xml_has(int32_t c)
{
	return c == '\t' || c == '\n' || c == '\r' || (c >= 0x20 && c != 0xfffe && c != 0xffff);
}

char *verdict_utf8(const char *text, bool xml)
{
	const uint8_t *at = (const uint8_t *)text;
	char *copy = malloc(3 * strlen(text) + 1), *to = copy;

	if (!copy)
		return NULL;
	while (*at) {
		const uint8_t *from = at;
		int32_t c = parse_utf8(&at);

		if (c < 0)
			at = from + 1;
		if (c < 0 || (xml && !xml_has(c))) {
			memcpy(to, REPLACEMENT, 3);
			to += 3;
		} else {
			memcpy(to, from, (size_t)(at - from));
			to += at - from;
		}
	}
	*to = 0;
	return copy;
}

void verdict_line_text(const struct verdict_result *r, char *buf, size_t len)
{
	unsigned long long msec = r->usec / 1000;
	const char *first = r->because ? r->because->heading : NULL;

	if (r->kind == VERDICT_ERROR || r->kind == VERDICT_SKIPPED)
		snprintf(buf, len, "%s: %s", verdict_name(r->kind), r->reason);
	else
		snprintf(buf, len, "%s after %llu.%03llu s (%s): %s", verdict_name(r->kind),
			 msec / 1000, msec % 1000, verdict_phase_name(r->phase), r->reason);
	if (first && r->kind != VERDICT_SPLAT) {
		size_t at = strlen(buf);

		snprintf(buf + at, len - at, "; the first mistake of the kernel: %s", first);
	}
	printable(buf);
}
