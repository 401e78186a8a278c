/*
 * keys: options with keys, such as --disk path=X,ro.
 *
 * A device's page declares a const table of its keys; parsing the command line, reading JSON,
 * --help, the check of the man page and "did you mean" all read that table. Values are checked
 * here, by kind and range, before a device sees them. Pure; any thread.
 */
#ifndef BANTAM_KEYS_H
#define BANTAM_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/err.h"

enum key_kind { KEY_TEXT, KEY_PATH, KEY_SIZE, KEY_NUM, KEY_BOOL, KEY_CHOICE, KEY_DURATION };

#define KEYS_MAX 40
/*
 * A first bare word ("--disk FILE") is this key's value; so is a later one, if it is one of the
 * key's choices ("--port name=N,pty").
 */
#define KEY_BARE 1u
#define KEY_REQUIRED 2u
#define KEY_UNLESS 8u /* with KEY_REQUIRED: not required if a key with KEY_INSTEAD is given */
#define KEY_INSTEAD 16u
/* KEY_TEXT that may be given again: the values are joined by ","; KEY_PATH: by a newline */
#define KEY_LIST 4u
#define KEY_POWER2 32u /* KEY_NUM and KEY_SIZE: a power of two */
/*
 * Not for users: only keys_set_hidden sets it. The command line and --config do not know such a key,
 * and neither --help nor "did you mean" names it.
 */
#define KEY_HIDDEN 64u
#define KEY_EMPTY 128u	/* KEY_TEXT that may be empty, which is not the same as not given */
#define KEY_UNIQUE 256u /* no two devices with this option have the same value (config.h) */
/* What the value needs of the host, for the process's confinement (vmm/confine). */
#define KEY_FDS 512u	    /* KEY_TEXT: inherited descriptors, "N[:N…]" or "fd:N" */
#define KEY_NETWORK 1024u   /* the host's network, unless it is 0 or off */
#define KEY_INTERFACE 2048u /* it makes or sets an interface of the host */
#define KEY_NAME                                                                                   \
	4096u /* a path in whose folder names are made, used or removed while the guest runs */
/*
 * KEY_PATH: how the file is opened while the machine is made; other files cannot be opened then. A folder is meant with all that is below.
 * KEY_WRITES: also written, unless the option's keys ro or readonly are given. KEY_MAKES: made if it is not there; of an option that has a key
 * create, if that is given. KEY_AROUND: it may name further files, in its own folder, if it is no raw image.
 */
#define KEY_READS 8192u
#define KEY_WRITES 16384u
#define KEY_MAKES 32768u
#define KEY_AROUND 65536u

struct key {
	const char *name;
	enum key_kind kind;
	unsigned flags;
	const char *choices; /* KEY_CHOICE: "pci|mmio" */
	const char *def;     /* default as text, or NULL: unset */
	uint64_t min, max;   /* KEY_NUM and KEY_SIZE; both 0: any */
	const char *meta;    /* how --help shows the value: "FILE" */
	const char *help;    /* one line */
};

/* Values by their index in the table. keys_clear frees the texts. */
struct keyvals {
	const char *option;	 /* "--disk", for messages; "": the keys are options themselves */
	const struct key *table; /* ends with name NULL */
	struct {
		char *text;   /* as written, or the default; NULL: unset */
		uint64_t num; /* size, number, bool (0/1), choice (its index), duration (µs) */
		bool set;     /* the user wrote it */
	} val[KEYS_MAX];
};

#define KEYS_NAME_MAX 64
/*
 * Splits a word of a command line, "--NAME" or "--NAME=VALUE"; *value is NULL without "=". A NAME that is
 * too long is cut. Returns false if the word is no option.
 */
bool keys_option(const char *word, char name[KEYS_NAME_MAX], const char **value);
/*
 * The word behind argv[*at], of an option that needs a value; then *at is that word's index. Returns NULL if
 * there is none, or it is an option itself.
 */
const char *keys_next_word(int argc, char **argv, int *at);

/*
 * For a word of another monitor's command line: what bantam has in its place, or NULL. option: "" and
 * name an option without dashes, or "--disk" and name one of its keys.
 */
const char *keys_foreign(const char *option, const char *name);
/*
 * A word of the command line that none of n names is. Both set err, with the nearest name or else with what the
 * user reads, and return -EINVAL. keys_no_option: --NAME of bantam run or test (name and names have no
 * dashes), which also knows other monitors' names. keys_no_word: any word as it was typed; what it should be
 * ("command", "option" …), and see ("bantam help").
 */
int keys_no_option(const char *command, const char *name, const char *const *names, size_t n,
		   struct err *err);
int keys_no_word(const char *what, const char *word, const char *const *names, size_t n,
		 const char *see, struct err *err);
/*
 * A word that stands where an option should and does not begin with two dashes, of bantam run or test,
 * whose options are names: "-m", "-kernel", or anything else, of which instead says what to do. Returns -EINVAL.
 */
int keys_no_dashes(const char *word, const char *const *names, size_t n, const char *instead,
		   struct err *err);

/*
 * Parse "k=v,…" against table. Returns 0 or -errno; err names the option, the key and the nearest
 * valid key. Call keys_clear on *kv in every case.
 */
int keys_parse(struct keyvals *kv, const char *option, const struct key *table, const char *text,
	       struct err *err);

/* The same, key by key (JSON, the API): start, set each, finish (defaults, required). */
void keys_start(struct keyvals *kv, const char *option, const struct key *table);
int keys_set(struct keyvals *kv, const char *name, const char *value, struct err *err);
/* As keys_set, also for keys with KEY_HIDDEN: for code that makes a configuration (the API). */
int keys_set_hidden(struct keyvals *kv, const char *name, const char *value, struct err *err);
int keys_finish(struct keyvals *kv, struct err *err);
void keys_clear(struct keyvals *kv);
/* Makes a key as if it had not been given. A name that the table does not have: nothing happens. */
void keys_unset(struct keyvals *kv, const char *name);

/* The index of the key of that name, hidden or not, or -1. */
int keys_find(const struct key *table, const char *name);
/* By name, for code that does not know the table: NULL or 0 if it has no such key, or no value. */
const char *keys_text_of(const struct keyvals *kv, const char *name);
uint64_t keys_num_of(const struct keyvals *kv, const char *name);

static inline const char *keys_text(const struct keyvals *kv, unsigned i)
{
	return kv->val[i].text;
}

static inline uint64_t keys_num(const struct keyvals *kv, unsigned i)
{
	return kv->val[i].num;
}

static inline bool keys_has(const struct keyvals *kv, unsigned i)
{
	return kv->val[i].text != NULL;
}

#endif
