/* keys: see keys.h. */
#include "vmm/core/keys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/foreign.h"
#include "vmm/core/parse.h"

bool keys_option(const char *word, char name[KEYS_NAME_MAX], const char **value)
{
	size_t len;

	if (word[0] != '-' || word[1] != '-' || !word[2])
		return false;
	len = strcspn(word + 2, "=");
	*value = word[2 + len] ? word + 3 + len : NULL;
	snprintf(name, KEYS_NAME_MAX, "%.*s", (int)len, word + 2);
	return true;
}

const char *keys_next_word(int argc, char **argv, int *at)
{
	return *at + 1 < argc && strncmp(argv[*at + 1], "--", 2) != 0 ? argv[++*at] : NULL;
}

int keys_find(const struct key *table, const char *name)
{
	for (int i = 0; table[i].name; i++)
		if (!strcmp(table[i].name, name))
			return i;
	return -1;
}

const char *keys_text_of(const struct keyvals *kv, const char *name)
{
	int i = keys_find(kv->table, name);

	return i < 0 ? NULL : keys_text(kv, (unsigned)i);
}

uint64_t keys_num_of(const struct keyvals *kv, const char *name)
{
	int i = keys_find(kv->table, name);

	return i < 0 ? 0 : keys_num(kv, (unsigned)i);
}

/* As keys_find, but only keys that a user may give. */
static int find_shown(const struct key *table, const char *name)
{
	int i = keys_find(table, name);

	return i >= 0 && table[i].flags & KEY_HIDDEN ? -1 : i;
}

static int find_bare(const struct key *table)
{
	for (int i = 0; table[i].name; i++)
		if (table[i].flags & KEY_BARE)
			return i;
	return -1;
}

const char *keys_foreign(const char *option, const char *name)
{
	for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++)
		if (!strcmp(foreign[i].option, option) && !strcmp(foreign[i].name, name))
			return foreign[i].says;
	return NULL;
}

int keys_no_option(const char *command, const char *name, const char *const *names, size_t n,
		   struct err *err)
{
	const char *says = keys_foreign("", name), *near;

	if (says)
		return err_set(err, EINVAL, "unknown option --%s; %s", name, says);
	near = parse_nearest(name, names, n);
	if (near)
		return err_set(err, EINVAL, "unknown option --%s; did you mean --%s?", name, near);
	return err_set(err, EINVAL, "unknown option --%s; see bantam %s --help", name, command);
}

int keys_no_word(const char *what, const char *word, const char *const *names, size_t n,
		 const char *see, struct err *err)
{
	bool dashes = !strncmp(word, "--", 2);
	char typed[KEYS_NAME_MAX];
	const char *near;

	/* Of --NAME=VALUE, the name. */
	snprintf(typed, sizeof(typed), "%.*s", dashes ? (int)strcspn(word + 2, "=") : KEYS_NAME_MAX,
		 dashes ? word + 2 : word);
	near = *typed ? parse_nearest(typed, names, n) : NULL;
	if (near)
		return err_set(err, EINVAL, "\"%.60s\": no such %s; did you mean %s%s?", word, what,
			       dashes ? "--" : "", near);
	return err_set(err, EINVAL, "\"%.60s\": no such %s; see %s", word, what, see);
}

int keys_no_dashes(const char *word, const char *const *names, size_t n, const char *instead,
		   struct err *err)
{
	const char *name = word + 1, *says = *word == '-' && *name ? keys_foreign("", name) : NULL;

	if (says)
		return err_set(err, EINVAL, "unknown option %s; %s", word, says);
	for (size_t i = 0; *word == '-' && i < n; i++)
		if (!strcmp(name, names[i]))
			return err_set(err, EINVAL, "\"%s\": options begin with two dashes: --%s",
				       word, name);
	return err_set(err, EINVAL, "\"%.200s\": not an option; %s", word, instead);
}

static int unknown(const struct keyvals *kv, const char *name, struct err *err)
{
	const char *names[KEYS_MAX], *near, *says;
	size_t n = 0;

	for (const struct key *key = kv->table; key->name; key++)
		if (!(key->flags & KEY_HIDDEN))
			names[n++] = key->name;
	if (!*kv->option)
		return keys_no_option("run", name, names, n, err);
	says = keys_foreign(kv->option, name);
	if (says)
		return err_set(err, EINVAL, "%s: unknown key \"%s\"; %s", kv->option, name, says);
	near = parse_nearest(name, names, n);
	return err_set(err, EINVAL, "%s: unknown key \"%s\"%s%s%s", kv->option, name,
		       near		  ? "; did you mean \"" :
		       *kv->option == '-' ? "; see bantam run --help" :
					    "; see --help",
		       near ? near : "", near ? "\"?" : "");
}

/* How the user wrote it: "--disk: ro=maybe", or at the top level "--cpus 0". */
static const char *typed(const struct keyvals *kv, const char *name, const char *text, char *buf,
			 size_t len)
{
	if (*kv->option)
		snprintf(buf, len, "%s: %s%s%s", kv->option, name, text ? "=" : "",
			 text ? text : "");
	else
		snprintf(buf, len, "--%s%s%s", name, text ? " " : "", text ? text : "");
	return buf;
}

static int needs_value(const struct keyvals *kv, const struct key *key, struct err *err)
{
	const char *what = key->meta		   ? key->meta :
			   key->kind == KEY_CHOICE ? key->choices :
			   key->kind == KEY_BOOL   ? "on|off" :
						     "text";
	char buf[300];

	return err_set(err, EINVAL, "%s: needs a value (%s)",
		       typed(kv, key->name, NULL, buf, sizeof(buf)), what);
}

static int choice(const char *choices, const char *text)
{
	size_t len = strlen(text);

	for (int i = 0;; i++) {
		size_t n = strcspn(choices, "|");

		if (n == len && !memcmp(choices, text, n))
			return i;
		if (!choices[n])
			return -1;
		choices += n + 1;
	}
}

/* text: the value as written. too_big: the number does not fit 64 bits, so num means nothing. */
static int check_num(const struct key *key, const char *as, const char *text, uint64_t num,
		     bool too_big, struct err *err)
{
	const char *unit = "";
	char lo[32], hi[32];

	if (too_big && !key->max)
		return err_set(err, EINVAL, "%s: too large", as);
	if (!too_big &&
	    ((!key->min && !key->max) || (num >= key->min && (!key->max || num <= key->max)))) {
		if (key->flags & KEY_POWER2 && (!num || num & (num - 1)))
			return err_set(err, EINVAL, "%s: must be a power of two", as);
		return 0;
	}
	if (key->kind == KEY_SIZE) {
		parse_size_text(key->min, lo, sizeof(lo));
		parse_size_text(key->max, hi, sizeof(hi));
		/* Other monitors read --memory 1024 as MiB. */
		if (!too_big && num && num < key->min && text[strspn(text, "0123456789")] == 0)
			unit = "; without a unit (K, M, G) it is a number of bytes";
	} else {
		snprintf(lo, sizeof(lo), "%llu", (unsigned long long)key->min);
		snprintf(hi, sizeof(hi), "%llu", (unsigned long long)key->max);
	}
	if (!key->max)
		return err_set(err, EINVAL, "%s: must be at least %s%s", as, lo, unit);
	return err_set(err, EINVAL, "%s: must be from %s to %s%s", as, lo, hi, unit);
}

static int convert(const struct keyvals *kv, const struct key *key, const char *text, uint64_t *num,
		   struct err *err)
{
	char buf[300];
	const char *as = typed(kv, key->name, text, buf, sizeof(buf));
	bool on;
	int at, rc;

	*num = 0;
	if (!*text && !(key->flags & KEY_EMPTY))
		return needs_value(kv, key, err);
	switch (key->kind) {
	case KEY_TEXT:
	case KEY_PATH:
		return 0;
	case KEY_NUM:
		rc = parse_u64(text, num);
		if (rc == -EINVAL)
			return err_set(err, EINVAL, "%s: not a whole number", as);
		return check_num(key, as, text, *num, rc == -ERANGE, err);
	case KEY_SIZE:
		rc = parse_size(text, num);
		if (rc == -EINVAL)
			return err_set(err, EINVAL, "%s: not a size; write it like 512M or 2G", as);
		return check_num(key, as, text, *num, rc == -ERANGE, err);
	case KEY_DURATION:
		rc = parse_duration(text, num);
		if (rc == -EINVAL)
			return err_set(err, EINVAL,
				       "%s: not a duration; write it like 500ms, 60s, 5m or 2h",
				       as);
		return rc ? err_set(err, EINVAL, "%s: too long", as) : 0;
	case KEY_BOOL:
		if (parse_bool(text, &on))
			return err_set(err, EINVAL, "%s: must be on or off", as);
		*num = on;
		return 0;
	case KEY_CHOICE:
		at = choice(key->choices, text);
		if (at < 0)
			return err_set(err, EINVAL, "%s: must be one of %s", as, key->choices);
		*num = (uint64_t)at;
		return 0;
	}
	BUG_ON(true);
}

static int store(struct keyvals *kv, int i, const char *text, struct err *err)
{
	uint64_t num;
	int rc = convert(kv, &kv->table[i], text, &num, err);

	if (rc)
		return rc;
	free(kv->val[i].text);
	kv->val[i].text = strdup(text);
	if (!kv->val[i].text)
		return err_sys(err, ENOMEM, "%s", kv->option);
	kv->val[i].num = num;
	return 0;
}

/* Add one more value of a KEY_LIST. */
static int append(struct keyvals *kv, int i, const char *value, struct err *err)
{
	const char *before = kv->val[i].text;
	size_t len = strlen(before) + strlen(value) + 2;
	char *joined = malloc(len);
	int rc;

	if (!joined)
		return err_sys(err, ENOMEM, "%s", kv->option);
	snprintf(joined, len, "%s%c%s", before, kv->table[i].kind == KEY_PATH ? '\n' : ',', value);
	rc = store(kv, i, *value ? joined : value, err);
	free(joined);
	return rc;
}

void keys_start(struct keyvals *kv, const char *option, const struct key *table)
{
	unsigned n = 0;

	while (table[n].name)
		n++;
	BUG_ON(n > KEYS_MAX);
	memset(kv, 0, sizeof(*kv));
	kv->option = option;
	kv->table = table;
}

/* i: the key's index, or -1. */
static int set(struct keyvals *kv, int i, const char *name, const char *value, struct err *err)
{
	char buf[300];
	int rc;

	if (i < 0)
		return unknown(kv, name, err);
	if (kv->val[i].set && value && kv->table[i].flags & KEY_LIST)
		return append(kv, i, value, err);
	if (kv->val[i].set)
		return err_set(err, EINVAL, "%s: given twice",
			       typed(kv, name, NULL, buf, sizeof(buf)));
	if (!value) {
		if (kv->table[i].kind != KEY_BOOL)
			return needs_value(kv, &kv->table[i], err);
		value = "on";
	}
	rc = store(kv, i, value, err);
	kv->val[i].set = !rc;
	return rc;
}

int keys_set(struct keyvals *kv, const char *name, const char *value, struct err *err)
{
	return set(kv, find_shown(kv->table, name), name, value, err);
}

int keys_set_hidden(struct keyvals *kv, const char *name, const char *value, struct err *err)
{
	return set(kv, keys_find(kv->table, name), name, value, err);
}

/* Returns true if a key is given that replaces a required one. */
static bool instead(const struct keyvals *kv)
{
	for (unsigned i = 0; kv->table[i].name; i++)
		if (kv->table[i].flags & KEY_INSTEAD && kv->val[i].set)
			return true;
	return false;
}

int keys_finish(struct keyvals *kv, struct err *err)
{
	for (int i = 0; kv->table[i].name; i++) {
		const struct key *key = &kv->table[i];
		int rc;

		if (kv->val[i].set)
			continue;
		if (key->flags & KEY_REQUIRED && !(key->flags & KEY_UNLESS && instead(kv))) {
			char buf[300];

			return err_set(err, EINVAL, "%s is missing",
				       typed(kv, key->name, key->meta ? key->meta : "…", buf,
					     sizeof(buf)));
		}
		rc = key->def ? store(kv, i, key->def, err) : 0;
		if (rc)
			return rc;
	}
	return 0;
}

/* "--disk FILE", "--serial stdio", "--port name=N,pty": a word that is no key's name. */
static bool is_bare(const struct key *key, bool first, const struct key *table, const char *word)
{
	return find_shown(table, word) < 0 &&
	       (first || (key->kind == KEY_CHOICE && choice(key->choices, word) >= 0));
}

int keys_parse(struct keyvals *kv, const char *option, const struct key *table, const char *text,
	       struct err *err)
{
	struct parse_pair pair[KEYS_MAX];
	size_t n;
	char *copy;
	int rc;

	keys_start(kv, option, table);
	rc = parse_pairs(text, pair, KEYS_MAX, &n, &copy);
	if (rc)
		rc = err_set(err, -rc, "%s: %s", option,
			     rc == -E2BIG ? "too many keys" : "out of memory");
	for (size_t i = 0; !rc && i < n; i++) {
		int bare = pair[i].val ? -1 : find_bare(table);

		if (bare >= 0 && is_bare(&table[bare], !i, table, pair[i].key))
			rc = keys_set(kv, table[bare].name, pair[i].key, err);
		else
			rc = keys_set(kv, pair[i].key, pair[i].val, err);
	}
	free(copy);
	return rc ? rc : keys_finish(kv, err);
}

void keys_unset(struct keyvals *kv, const char *name)
{
	int i = keys_find(kv->table, name);

	if (i < 0)
		return;
	free(kv->val[i].text);
	memset(&kv->val[i], 0, sizeof(kv->val[i]));
}

void keys_clear(struct keyvals *kv)
{
	for (int i = 0; i < KEYS_MAX; i++)
		free(kv->val[i].text);
	memset(kv, 0, sizeof(*kv));
}
