/*
 * sshkey: public keys, as sshd reads them in authorized_keys (sshd(8), "AUTHORIZED_KEYS FILE FORMAT"). See seed.h.
 */
#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tools/bantam-seed/seed.h"
#include "vmm/core/bytes.h"

#define DATA_BYTES 128u /* of a key's data, in which its type stands */

static const char *skip_blanks(const char *at)
{
	return at + strspn(at, " \t");
}

/* A type that sshd may know, blanks, base64. The type is a name of letters, digits and "-@.". */
static bool begins_key(const char *text)
{
	static const char *const kinds[] = { "ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-",
					     "webauthn-sk-" };
	size_t len = strcspn(text, " \t");
	const char *key = skip_blanks(text + len);

	if (key == text + len || !(isalnum((unsigned char)*key) || *key == '+' || *key == '/'))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)text[i]) && !strchr("-@.", text[i]))
			return false;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strncmp(text, kinds[i], strlen(kinds[i])) && len > strlen(kinds[i]))
			return true;
	return false;
}

/*
 * As sshd reads a line of authorized_keys: options without blanks but in quotes, then the key. Returns where
 * the key begins, or NULL if there is none.
 */
static const char *find_key(const char *line)
{
	const char *at = skip_blanks(line);
	bool quoted = false;

	if (begins_key(at))
		return at;
	for (; *at && (quoted || (*at != ' ' && *at != '\t')); at++) {
		if (*at == '\\' && at[1] == '"')
			at++;
		else if (*at == '"')
			quoted = !quoted;
	}
	at = skip_blanks(at);
	return begins_key(at) ? at : NULL;
}

/* Is the argument itself a text of keys, and not a file's name? Its first line of text tells. */
static bool is_keys(const char *arg)
{
	const char *at = arg + strspn(arg, " \t\r\n");
	size_t len = strcspn(at, "\r\n");
	char *line;
	bool is;

	while (*at == '#' && at[len]) {
		at += len;
		at += strspn(at, " \t\r\n");
		len = strcspn(at, "\r\n");
	}
	line = strndup(at, len);
	is = line && find_key(line);
	free(line);
	return is;
}

int cloud_add_key(struct cloud *cloud, const char *arg, struct text *hold, struct err *err)
{
	const char *from = is_keys(arg) ? "--ssh-key" : arg;
	size_t before = cloud->keys.n;
	char *save = NULL;
	int rc;

	*hold = (struct text){ NULL, 0 };
	if (from != arg) {
		*hold = (struct text){ strdup(arg), strlen(arg) };
		if (!hold->data)
			return err_sys(err, ENOMEM, "--ssh-key");
	} else {
		rc = text_load(arg, hold, err);
		if (rc)
			return rc;
	}
	if (strstr(hold->data, "PRIVATE KEY"))
		return err_set(err, EINVAL,
			       "%s: is a private key; give the public one, which ends in .pub",
			       from);
	if (strlen(hold->data) == hold->len) {
		for (char *line = strtok_r(hold->data, "\r\n", &save); line;
		     line = strtok_r(NULL, "\r\n", &save)) {
			line += strspn(line, " \t");
			if (!*line || *line == '#')
				continue;
			if (!find_key(line))
				return err_set(err, EINVAL,
					       "%s: has a line that is no SSH public key", from);
			if (list_add(&cloud->keys, line))
				return err_sys(err, ENOMEM, "--ssh-key");
		}
	}
	if (cloud->keys.n == before)
		return err_set(err, EINVAL, "%s: has no SSH public key", from);
	return 0;
}

/* --- keys that sshd refuses ------------------------------------------------------ */

/* Decodes text, which ends with a blank, up to room bytes. Returns their number; -1: it is no base64. */
static int decode(const char *text, uint8_t *to, size_t room)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t len = strcspn(text, " \t\r\n"), digit_len = len, n = 0;
	uint32_t bits = 0;

	while (digit_len && len - digit_len < 2 && text[digit_len - 1] == '=')
		digit_len--;
	if (!digit_len || len % 4)
		return -1;
	for (size_t i = 0; i < digit_len; i++) {
		const char *digit = strchr(digits, text[i]);

		if (!digit)
			return -1;
		bits = bits << 6 | (uint32_t)(digit - digits);
		if (i % 4 && n < room)
			to[n++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
	}
	return (int)n;
}

/* A key's data begins with its type, as a string with its length (RFC 4253, 6.6). */
static bool data_fits(const char *key)
{
	size_t len = strcspn(key, " \t");
	uint8_t data[DATA_BYTES];
	int n = decode(skip_blanks(key + len), data, sizeof(data));

	/* That of a browser's key is the type without its prefix. */
	if (!strncmp(key, "webauthn-", 9)) {
		key += 9;
		len -= 9;
	}
	return n >= (int)(len + 4) && get_be32(data) == len && !memcmp(data + 4, key, len);
}

/* The name of the first option before the key that sshd does not know, with its length; or NULL. */
static const char *unknown_option(const char *line, const char *key, size_t *len)
{
	static const char *const known[] = {
		"agent-forwarding",
		"cert-authority",
		"command",
		"environment",
		"expiry-time",
		"from",
		"no-agent-forwarding",
		"no-port-forwarding",
		"no-pty",
		"no-touch-required",
		"no-user-rc",
		"no-x11-forwarding",
		"permitlisten",
		"permitopen",
		"port-forwarding",
		"principals",
		"pty",
		"restrict",
		"tunnel",
		"user-rc",
		"verify-required",
		"x11-forwarding",
	};
	bool quoted = false;

	for (const char *at = skip_blanks(line); at < key;) {
		bool found = false;

		*len = strcspn(at, "=, \t");
		for (size_t i = 0; !found && i < sizeof(known) / sizeof(known[0]); i++)
			found = strlen(known[i]) == *len && !strncasecmp(at, known[i], *len);
		if (!found)
			return at;
		for (; at < key && (quoted || !strchr(", \t", *at)); at++) {
			if (*at == '\\' && at[1] == '"')
				at++;
			else if (*at == '"')
				quoted = !quoted;
		}
		at = *at == ',' ? at + 1 : key;
	}
	return NULL;
}

bool cloud_key_fault(const char *line, char *why, size_t len)
{
	const char *key = find_key(line), *option;
	size_t n;

	if (!key)
		return false;
	option = unknown_option(line, key, &n);
	if (option)
		snprintf(why, len, "has the option \"%.*s\"", (int)(n < 40 ? n : 40), option);
	else if (!data_fits(key))
		snprintf(why, len, "has data that are no key of type %.*s (was it cut?)",
			 (int)(strcspn(key, " \t") < 60 ? strcspn(key, " \t") : 60), key);
	return option || !data_fits(key);
}
