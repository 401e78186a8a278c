/*
 * cloud: makes the documents of cloud-init's NoCloud data source from options.
 *
 * It writes every scalar from the user as a JSON string, which YAML reads as a string whatever
 * its content. It escapes characters that YAML treats as line ends or does not allow;
 * the others stay UTF-8, because YAML has no surrogate pairs.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "tools/bantam-seed/seed.h"
#include "vmm/core/parse.h"

static bool is_utf8(const char *text)
{
	const uint8_t *at = (const uint8_t *)text;

	while (*at)
		if (parse_utf8(&at) < 0)
			return false;
	return true;
}

static void put_scalar(FILE *out, const char *text)
{
	const uint8_t *at = (const uint8_t *)text;

	fputc('"', out);
	while (*at) {
		const uint8_t *from = at;
		int32_t c = parse_utf8(&at);

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < ' ' || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 ||
			 c == 0xfeff || c >= 0x10fffe || (c & 0xfffe) == 0xfffe)
			fprintf(out, c > 0xffff ? "\\U%08X" : "\\u%04X", (unsigned)c);
		else
			fwrite(from, 1, (size_t)(at - from), out);
	}
	fputc('"', out);
}

static void put_pair(FILE *out, const char *key, const char *value)
{
	fprintf(out, "%s: ", key);
	put_scalar(out, value);
	fputc('\n', out);
}

static void put_list(FILE *out, const char *indent, const char *key, const struct list *list)
{
	if (!list->n)
		return;
	fprintf(out, "%s%s:\n", indent, key);
	for (size_t i = 0; i < list->n; i++) {
		fprintf(out, "%s  - ", indent);
		put_scalar(out, list->item[i]);
		fputc('\n', out);
	}
}

/* Closes a memory stream. Returns 0, or -ENOMEM with text cleared. */
static int finish(FILE *out, struct text *text, struct err *err)
{
	bool failed = !out || ferror(out);

	if (out && fclose(out))
		failed = true;
	if (!failed)
		return 0;
	text_clear(text);
	return err_sys(err, ENOMEM, "cloud-init");
}

/* --- checks of the options ----------------------------------------------------- */

static const char *hostname_fault(const char *name)
{
	size_t label = 0, len = strlen(name);

	if (len > 253)
		return "is longer than 253 characters";
	for (size_t i = 0; i <= len; i++) {
		if (name[i] && name[i] != '.') {
			if (!isalnum((uint8_t)name[i]) && name[i] != '-')
				return "may have letters, digits, - and . only";
			label++;
			continue;
		}
		if (!label || label > 63 || name[i - label] == '-' || name[i - 1] == '-')
			return "must have 1 to 63 characters between dots, and no - at their ends";
		label = 0;
	}
	return NULL;
}

static const char *user_fault(const char *name)
{
	size_t len = strlen(name);

	if (!len || len > 32)
		return "must have 1 to 32 characters";
	if (!isalpha((uint8_t)name[0]) && name[0] != '_')
		return "must begin with a letter or _";
	for (size_t i = 0; i < len; i++)
		if (!isalnum((uint8_t)name[i]) && !strchr("_-.", name[i]))
			return "may have letters, digits, _, - and . only";
	return NULL;
}

static bool is_address(const char *text, bool *v6)
{
	uint8_t buf[16];

	*v6 = inet_pton(AF_INET6, text, buf) == 1;
	return *v6 || inet_pton(AF_INET, text, buf) == 1;
}

/* ADDR/PREFIX */
static bool is_prefix(const char *text, bool *v6)
{
	const char *slash = strchr(text, '/');
	char addr[64];
	uint64_t bits;

	if (!slash || slash - text >= (long)sizeof(addr) || !slash[1] || strlen(slash + 1) > 3 ||
	    slash[1 + strspn(slash + 1, "0123456789")] || parse_u64(slash + 1, &bits))
		return false;
	snprintf(addr, sizeof(addr), "%.*s", (int)(slash - text), text);
	return is_address(addr, v6) && bits <= (*v6 ? 128u : 32u);
}

static bool is_mac(const char *text)
{
	for (unsigned i = 0; i < 17; i++)
		if (i % 3 == 2 ? text[i] != ':' : !isxdigit((uint8_t)text[i]))
			return false;
	return !text[17];
}

static int check_text(const char *option, const char *text, struct err *err)
{
	if (text && !is_utf8(text))
		return err_set(err, EINVAL, "%s: is not UTF-8", option);
	if (text && !*text)
		return err_set(err, EINVAL, "%s: is empty", option);
	return 0;
}

static int check_texts(const char *option, const struct list *list, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < list->n; i++)
		rc = check_text(option, list->item[i], err);
	return rc;
}

/* True for a crypt(3) hash; else the text is the password itself, which the guest hashes. */
static bool is_hashed(const char *password)
{
	return password[0] == '$' && strchr(password + 1, '$');
}

/* For the default user, cloud-init recognises only hashes of these kinds: not yescrypt. */
static int check_password(const struct cloud *cloud, struct err *err)
{
	static const char *const kinds[] = { "$1$", "$2a$", "$2y$", "$5$", "$6$" };

	if (!cloud->password || cloud->user || !is_hashed(cloud->password))
		return 0;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strncmp(cloud->password, kinds[i], strlen(kinds[i])))
			return 0;
	return err_set(err, EINVAL,
		       "--password: cloud-init takes a hash of this kind with --user only; "
		       "for its default user use $6$ (mkpasswd -m sha-512)");
}

/*
 * cloud-init's renderers for NetworkManager, ifupdown and sysconfig know no "any card". A random
 * address that is for the user to copy.
 */
static int no_card(struct err *err)
{
	uint8_t b[5];

	if (getrandom(b, sizeof(b), 0) != sizeof(b))
		memset(b, 1, sizeof(b));
	return err_set(
		err, EINVAL,
		"--ip and --dns need a card: give --mac 02:%02x:%02x:%02x:%02x:%02x here and "
		"the same mac= to bantam run's --net, or --interface and the card's name in "
		"the guest",
		b[0], b[1], b[2], b[3], b[4]);
}

static int check_network(const struct cloud *cloud, struct err *err)
{
	unsigned gateways[2] = { 0, 0 }, ips[2] = { 0, 0 };
	bool v6;

	for (size_t i = 0; i < cloud->ips.n; i++) {
		if (!is_prefix(cloud->ips.item[i], &v6))
			return err_set(err, EINVAL,
				       "--ip %.80s: must be an address and the length of its "
				       "prefix, like 192.0.2.5/24 or 2001:db8::5/64",
				       cloud->ips.item[i]);
		ips[v6]++;
	}
	for (size_t i = 0; i < cloud->gateways.n; i++) {
		const char *at = cloud->gateways.item[i];

		if (!is_address(at, &v6))
			return err_set(err, EINVAL, "--gateway %.80s: is not an IP address", at);
		if (!ips[v6])
			return err_set(err, EINVAL, "--gateway %.80s: needs an --ip of its family",
				       at);
		if (gateways[v6]++)
			return err_set(err, EINVAL, "--gateway %.80s: is the second of its family",
				       at);
	}
	for (size_t i = 0; i < cloud->dns.n; i++)
		if (!is_address(cloud->dns.item[i], &v6))
			return err_set(err, EINVAL, "--dns %.80s: is not an IP address",
				       cloud->dns.item[i]);
	if (cloud->mac && !is_mac(cloud->mac))
		return err_set(err, EINVAL, "--mac %.80s: must be like 52:54:00:12:34:56",
			       cloud->mac);
	if (cloud->mac && cloud->interface)
		return err_set(err, EINVAL, "--mac and --interface: give one of them");
	if (cloud->interface &&
	    (!*cloud->interface || strlen(cloud->interface) > 15 ||
	     strpbrk(cloud->interface, "/ :\"\\") || !is_utf8(cloud->interface)))
		return err_set(err, EINVAL,
			       "--interface: must be a name like eth0 of at most 15 characters");
	if (cloud->interface && strpbrk(cloud->interface, "*?["))
		return err_set(err, EINVAL,
			       "--interface %s: most of cloud-init's renderers take a pattern for "
			       "the name itself; give a name, --mac, or a --network-config",
			       cloud->interface);
	if ((cloud->mac || cloud->interface) && !cloud->ips.n && !cloud->dns.n)
		return err_set(err, EINVAL,
			       "--mac and --interface say what --ip and --dns are for; "
			       "give one of those");
	if ((cloud->ips.n || cloud->dns.n) && !cloud->mac && !cloud->interface)
		return no_card(err);
	return 0;
}

int cloud_check(const struct cloud *cloud, struct err *err)
{
	const char *fault = cloud->hostname ? hostname_fault(cloud->hostname) : NULL;
	int rc;

	if (fault)
		return err_set(err, EINVAL, "--hostname %.80s: %s", cloud->hostname, fault);
	fault = cloud->user ? user_fault(cloud->user) : NULL;
	if (fault)
		return err_set(err, EINVAL, "--user %.80s: %s", cloud->user, fault);
	rc = check_text("--password", cloud->password, err);
	if (!rc)
		rc = check_password(cloud, err);
	if (!rc)
		rc = check_text("--instance-id", cloud->instance_id, err);
	if (!rc)
		rc = check_texts("--package", &cloud->packages, err);
	if (!rc)
		rc = check_texts("--run", &cloud->runs, err);
	if (!rc)
		rc = check_texts("--ssh-key", &cloud->keys, err);
	return rc ? rc : check_network(cloud, err);
}

/* --- the documents ------------------------------------------------------------- */

static void put_user(FILE *out, const struct cloud *cloud)
{
	fputs("users:\n  - name: ", out);
	put_scalar(out, cloud->user);
	fputs("\n    shell: /bin/bash\n    sudo: \"ALL=(ALL) NOPASSWD:ALL\"\n", out);
	if (cloud->password) {
		bool hashed = is_hashed(cloud->password);

		fputs("    lock_passwd: false\n    ", out);
		put_pair(out, hashed ? "hashed_passwd" : "plain_text_passwd", cloud->password);
	}
	put_list(out, "    ", "ssh_authorized_keys", &cloud->keys);
}

int cloud_user_data(const struct cloud *cloud, struct text *text, struct err *err)
{
	FILE *out = open_memstream(&text->data, &text->len);

	if (!out)
		return finish(out, text, err);
	fputs("#cloud-config\n", out);
	if (cloud->hostname) {
		const char *dot = strchr(cloud->hostname, '.');
		char name[64];

		snprintf(name, sizeof(name), "%.*s", dot ? (int)(dot - cloud->hostname) : 63,
			 cloud->hostname);
		put_pair(out, "hostname", name);
		/* Also put the name in /etc/hosts: sudo and others look it up. */
		put_pair(out, "manage_etc_hosts", "localhost");
		if (dot)
			put_pair(out, "fqdn", cloud->hostname);
	}
	if (cloud->user) {
		put_user(out, cloud);
	} else {
		/* For the distribution's default user. */
		put_list(out, "", "ssh_authorized_keys", &cloud->keys);
		if (cloud->password)
			put_pair(out, "password", cloud->password);
	}
	if (cloud->password)
		fputs("ssh_pwauth: true\nchpasswd:\n  expire: false\n", out);
	if (cloud->packages.n)
		fputs("package_update: true\n", out);
	put_list(out, "", "packages", &cloud->packages);
	put_list(out, "", "runcmd", &cloud->runs);
	return finish(out, text, err);
}

/* Does the text name this, other than in lock_passwd? */
static bool names(const struct text *text, const char *word)
{
	static const char lock[] = "lock_";
	const size_t n = sizeof(lock) - 1, len = strlen(word);
	const char *at = text->data, *end = text->data + text->len;

	while ((at = memmem(at, (size_t)(end - at), word, len))) {
		if (at < text->data + n || memcmp(at - n, lock, n))
			return true;
		at += len;
	}
	return false;
}

bool cloud_lets_in(const struct text *user, const struct text *meta, const struct text *vendor)
{
	/* As cloud-init's modules name them; the last three run commands or write any file. */
	static const char words[][24] = { "ssh_authorized_keys",
					  "ssh-authorized-keys",
					  "ssh_import_id",
					  "ssh-import-id",
					  "passwd",
					  "password",
					  "bootcmd",
					  "runcmd",
					  "write_files" };
	static const char head[] = "#cloud-config\n";

	if (vendor->data || (meta->data && names(meta, "public-keys")))
		return true;
	if (!user->data || user->len < sizeof(head) - 1 ||
	    memcmp(user->data, head, sizeof(head) - 1))
		return true;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (names(user, words[i]))
			return true;
	return false;
}

int cloud_network_config(const struct cloud *cloud, struct text *text, struct err *err)
{
	/* systemd-networkd's renderer uses the key as the name, not the match. */
	const char *name = cloud->interface ? cloud->interface : "net0";
	bool v6, have_v4 = false;
	FILE *out;

	*text = (struct text){ NULL, 0 };
	if (!cloud->ips.n && !cloud->dns.n)
		return 0;
	out = open_memstream(&text->data, &text->len);
	if (!out)
		return finish(out, text, err);
	fputs("version: 2\nethernets:\n  ", out);
	put_scalar(out, name);
	fputs(":\n", out);
	/* The renderers for networkd and ifupdown use the key as the card's name. */
	if (cloud->mac) {
		fputs("    match:\n      ", out);
		put_pair(out, "macaddress", cloud->mac);
		fputs("    ", out);
		put_pair(out, "set-name", name);
	}
	for (size_t i = 0; i < cloud->ips.n; i++)
		have_v4 |= is_prefix(cloud->ips.item[i], &v6) && !v6;
	fprintf(out, "    dhcp4: %s\n", have_v4 ? "false" : "true");
	put_list(out, "    ", "addresses", &cloud->ips);
	/*
	 * Not "routes": for ifupdown, cloud-init turns them into route(8) commands and ignores
	 * their failure, and Debian has no route(8) by default.
	 */
	for (size_t i = 0; i < cloud->gateways.n; i++) {
		is_address(cloud->gateways.item[i], &v6);
		fputs("    ", out);
		put_pair(out, v6 ? "gateway6" : "gateway4", cloud->gateways.item[i]);
	}
	if (cloud->dns.n)
		fputs("    nameservers:\n", out);
	put_list(out, "      ", "addresses", &cloud->dns);
	return finish(out, text, err);
}

int cloud_meta_data(const struct cloud *cloud, const struct text *user, const struct text *network,
		    const struct text *vendor, struct text *text, struct err *err)
{
	FILE *out = open_memstream(&text->data, &text->len);
	uint64_t sum = 0;
	char id[32];

	if (!out)
		return finish(out, text, err);
	/* New content makes a new instance, to which cloud-init applies it. */
	sum = lzma_crc64((const uint8_t *)user->data, user->len, sum);
	if (network->data)
		sum = lzma_crc64((const uint8_t *)network->data, network->len, sum);
	if (vendor->data)
		sum = lzma_crc64((const uint8_t *)vendor->data, vendor->len, sum);
	if (cloud->hostname)
		sum = lzma_crc64((const uint8_t *)cloud->hostname, strlen(cloud->hostname), sum);
	snprintf(id, sizeof(id), "iid-%016llx", (unsigned long long)sum);
	put_pair(out, "instance-id", cloud->instance_id ? cloud->instance_id : id);
	if (cloud->hostname)
		put_pair(out, "local-hostname", cloud->hostname);
	return finish(out, text, err);
}
