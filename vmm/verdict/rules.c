/*
 * verdict/rules: which lines of the kernel begin a report; see verdict.h.
 *
 * Theory of operation. A guest may print millions of lines, and each meets all rules. So a rule has a word: the
 * longest run of plain characters that every match must contain. memmem looks for it first, and the
 * regular expression runs only over lines that have it. An expression without such a word (it has a "|"
 * outside of parentheses, or only brackets) always runs.
 */
#include "vmm/verdict/verdict.h"

#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

struct rule {
	bool deny;
	enum verdict_splat_kind kind;
	regex_t regex;
	char *word; /* "" : none */
	size_t word_len;
};

struct verdict_rules {
	struct rule *rule;
	size_t n, max;
};

#define RULES_MAX 4096
#define RULE_BYTES 1024 /* of one line */

static const char kind_names[VERDICT_SPLAT_KINDS][16] = {
	[VERDICT_SPLAT_OOPS] = "oops",
	[VERDICT_SPLAT_BUG] = "bug",
	[VERDICT_SPLAT_WARN] = "warn",
	[VERDICT_SPLAT_KASAN] = "kasan",
	[VERDICT_SPLAT_KMSAN] = "kmsan",
	[VERDICT_SPLAT_KCSAN] = "kcsan",
	[VERDICT_SPLAT_KFENCE] = "kfence",
	[VERDICT_SPLAT_UBSAN] = "ubsan",
	[VERDICT_SPLAT_LOCKDEP] = "lockdep",
	[VERDICT_SPLAT_RCU] = "rcu",
	[VERDICT_SPLAT_HUNG_TASK] = "hung_task",
	[VERDICT_SPLAT_LOCKUP] = "lockup",
	[VERDICT_SPLAT_ATOMIC] = "atomic",
	[VERDICT_SPLAT_PAGE] = "page",
	[VERDICT_SPLAT_OOM] = "oom",
	[VERDICT_SPLAT_PANIC] = "panic",
	[VERDICT_SPLAT_OTHER] = "other",
	[VERDICT_SPLAT_TAINT] = "taint",
};

const char *verdict_splat_name(enum verdict_splat_kind kind)
{
	return kind < VERDICT_SPLAT_KINDS ? kind_names[kind] : "";
}

int verdict_rules_create(struct verdict_rules **out, struct err *err)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : err_set(err, ENOMEM, "rules for splats: no memory");
}

void verdict_rules_destroy(struct verdict_rules *rules)
{
	if (!rules)
		return;
	for (size_t i = 0; i < rules->n; i++) {
		regfree(&rules->rule[i].regex);
		free(rules->rule[i].word);
	}
	free(rules->rule);
	free(rules);
}

/* Behind a bracket expression that begins at p. */
static const char *behind_bracket(const char *p)
{
	p++;
	if (*p == '^')
		p++;
	if (*p == ']')
		p++;
	while (*p && *p != ']') {
		if (p[0] == '[' && (p[1] == ':' || p[1] == '.' || p[1] == '=')) {
			char end = p[1];

			for (p += 2; *p && !(p[0] == end && p[1] == ']'); p++)
				;
			if (*p)
				p++;
		}
		if (*p)
			p++;
	}
	return *p ? p + 1 : p;
}

/* Behind the group that begins at p. */
static const char *behind_group(const char *p)
{
	unsigned depth = 0;

	while (*p) {
		if (*p == '[') {
			p = behind_bracket(p);
			continue;
		}
		if (*p == '\\' && p[1])
			p++;
		else if (*p == '(')
			depth++;
		else if (*p == ')' && !--depth)
			return p + 1;
		p++;
	}
	return p;
}

/* Keeps the run as the word if it is longer. */
static void end_run(char *word, char *run, size_t *len)
{
	run[*len] = 0;
	if (*len > strlen(word))
		strcpy(word, run);
	*len = 0;
}

/* The longest text that is in every match of the valid expression. word has strlen(regex) + 1 bytes. */
static void find_word(const char *regex, char *word, char *run)
{
	size_t len = 0;

	word[0] = 0;
	for (const char *p = regex; *p;) {
		char c = *p;

		if (c == '|') { /* outside of groups */
			word[0] = 0;
			return;
		}
		if (c == '*' || c == '?' || c == '{') {
			if (len)
				len--; /* what it repeats may be absent */
			end_run(word, run, &len);
			while (c == '{' && *p && *p != '}')
				p++;
			if (*p)
				p++;
		} else if (c == '[' || c == '(' || c == '.' || c == '^' || c == '$' || c == '+') {
			end_run(word, run, &len);
			p = c == '[' ? behind_bracket(p) : c == '(' ? behind_group(p) : p + 1;
		} else if (c == '\\' && isalnum((unsigned char)p[1])) {
			end_run(word, run, &len); /* an extension as \w */
			p += 2;
		} else if (c == '\\' && strchr("<>`'", p[1])) {
			end_run(word, run, &len);
			p += p[1] ? 2 : 1;
		} else {
			p += c == '\\';
			run[len++] = *p++;
		}
	}
	end_run(word, run, &len);
}

/* A back reference makes matching exponential. */
static bool refers_back(const char *regex)
{
	for (const char *p = regex; *p; p++) {
		if (*p != '\\' || !p[1])
			continue;
		if (p[1] >= '1' && p[1] <= '9')
			return true;
		p++;
	}
	return false;
}

static int add_rule(struct verdict_rules *rules, const char *name, unsigned at, bool deny,
		    enum verdict_splat_kind kind, const char *regex, struct err *err)
{
	char run[RULE_BYTES], word[RULE_BYTES], text[128];
	struct rule *r;
	int rc;

	if (!*regex)
		return err_set(err, EINVAL, "%s:%u: the rule has no expression", name, at);
	if (refers_back(regex))
		return err_set(
			err, EINVAL,
			"%s:%u: back references as \\1 are not possible in a rule; write the "
			"text twice",
			name, at);
	if (rules->n == RULES_MAX)
		return err_set(err, EINVAL, "%s:%u: more than %u rules", name, at, RULES_MAX);
	if (rules->n == rules->max) {
		size_t max = rules->max ? 2 * rules->max : 64;
		struct rule *more = realloc(rules->rule, max * sizeof(*more));

		if (!more)
			return err_set(err, ENOMEM, "%s:%u: no memory", name, at);
		rules->rule = more;
		rules->max = max;
	}
	r = &rules->rule[rules->n];
	find_word(regex, word, run);
	*r = (struct rule){ .deny = deny, .kind = kind, .word = strdup(word) };
	r->word_len = strlen(word);
	if (!r->word)
		return err_set(err, ENOMEM, "%s:%u: no memory", name, at);
	rc = regcomp(&r->regex, regex, REG_EXTENDED | REG_NOSUB);
	if (rc) {
		regerror(rc, &r->regex, text, sizeof(text));
		free(r->word);
		return err_set(err, EINVAL, "%s:%u: \"%s\" is no extended regular expression: %s",
			       name, at, regex, text);
	}
	rules->n++;
	return 0;
}

/* --- text ---------------------------------------------------------------------------------- */

/* Takes the next word of *at, which it ends with a NUL. */
static char *next_word(char **at)
{
	char *word = *at + strspn(*at, " \t");
	char *end = word + strcspn(word, " \t");

	if (*end)
		*end++ = 0;
	*at = end;
	return word;
}

static bool fits(const char *pattern, const char *what)
{
	return !strcmp(pattern, "*") || (what && !fnmatch(pattern, what, 0));
}

/* "release 6.1.* arch x86_64" */
static int section(char *text, const char *name, unsigned at, const char *release, const char *arch,
		   bool *ours, struct err *err)
{
	char *key, *value;

	*ours = true;
	while (*(key = next_word(&text))) {
		value = next_word(&text);
		if ((strcmp(key, "release") != 0 && strcmp(key, "arch") != 0) || !*value)
			return err_set(err, EINVAL,
				       "%s:%u: between \"[\" and \"]\" stand \"release PATTERN\" "
				       "and \"arch PATTERN\", or nothing",
				       name, at);
		if (!fits(value, *key == 'r' ? release : arch))
			*ours = false;
	}
	return 0;
}

static int kind_of(const char *word, const char *name, unsigned at, enum verdict_splat_kind *kind,
		   struct err *err)
{
	char all[256] = "";

	for (unsigned k = 0; k < VERDICT_SPLAT_TAINT; k++) {
		if (!strcmp(word, kind_names[k])) {
			*kind = k;
			return 0;
		}
		strcat(strcat(all, k ? ", " : ""), kind_names[k]);
	}
	return err_set(err, EINVAL, "%s:%u: \"%s\" is no kind of report; there are %s", name, at,
		       word, all);
}

static int rule_line(struct verdict_rules *rules, const char *name, unsigned at, char *text,
		     const char *release, const char *arch, bool *ours, struct err *err)
{
	enum verdict_splat_kind kind = VERDICT_SPLAT_OTHER;
	size_t len = strlen(text);
	bool deny;
	char *word;
	int rc = 0;

	if (*text == '#' || !text[strspn(text, " \t")])
		return 0;
	if (*text == '[') {
		if (text[len - 1] != ']')
			return err_set(err, EINVAL, "%s:%u: the \"]\" is missing", name, at);
		text[len - 1] = 0;
		return section(text + 1, name, at, release, arch, ours, err);
	}
	word = next_word(&text);
	deny = !strcmp(word, "deny");
	if (!deny && strcmp(word, "allow") != 0)
		return err_set(err, EINVAL,
			       "%s:%u: a rule begins with \"deny KIND\" or \"allow\", not \"%s\"",
			       name, at, word);
	if (deny)
		rc = kind_of(next_word(&text), name, at, &kind, err);
	text += strspn(text, " \t");
	if (!rc && !*ours) {
		struct verdict_rules none = { 0 };

		/* For another kernel, but checked. */
		rc = add_rule(&none, name, at, deny, kind, text, err);
		if (!rc) {
			regfree(&none.rule[0].regex);
			free(none.rule[0].word);
		}
		free(none.rule);
		return rc;
	}
	return rc ? rc : add_rule(rules, name, at, deny, kind, text, err);
}

int verdict_rules_add(struct verdict_rules *rules, const char *name, const char *text, size_t len,
		      const char *release, const char *arch, struct err *err)
{
	char line[RULE_BYTES];
	bool ours = true;
	unsigned at = 1;
	int rc = 0;

	for (size_t from = 0; !rc && from < len; at++) {
		const char *end = memchr(text + from, '\n', len - from);
		size_t n = end ? (size_t)(end - text) - from : len - from;

		if (n >= sizeof(line))
			return err_set(err, EINVAL, "%s:%u: the line is longer than %zu bytes",
				       name, at, sizeof(line) - 1);
		if (memchr(text + from, 0, n))
			return err_set(err, EINVAL, "%s:%u: there is a NUL byte", name, at);
		memcpy(line, text + from, n);
		line[n] = 0;
		if (n && line[n - 1] == '\r')
			line[n - 1] = 0;
		rc = rule_line(rules, name, at, line, release, arch, &ours, err);
		from += n + 1;
	}
	return rc;
}

static bool matches(const struct rule *r, const struct verdict_line *line)
{
	return memmem(line->text, line->len, r->word, r->word_len) &&
	       !regexec(&r->regex, line->text, 0, NULL, 0);
}

bool verdict_rules_deny(const struct verdict_rules *rules, const struct verdict_line *line,
			enum verdict_splat_kind *kind)
{
	for (size_t i = 0; i < rules->n; i++) {
		const struct rule *r = &rules->rule[i];

		if (r->deny && matches(r, line)) {
			*kind = r->kind;
			return true;
		}
	}
	return false;
}

bool verdict_rules_allow(const struct verdict_rules *rules, const struct verdict_line *line)
{
	for (size_t i = 0; i < rules->n; i++)
		if (!rules->rule[i].deny && matches(&rules->rule[i], line))
			return true;
	return false;
}
