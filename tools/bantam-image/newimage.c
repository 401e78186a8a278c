/* newimage: see newimage.h. */
#include "tools/bantam-image/newimage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/qcow2_image/writer.h"
#include "tools/bantam-image/image.h"
#include "vmm/core/parse.h"

static int parse_version(const char *text, unsigned *out, struct err *err)
{
	*out = 3;
	if (!text || !strcmp(text, "3") || !strcmp(text, "v3") || !strcmp(text, "1.1"))
		return 0;
	*out = 2;
	if (!strcmp(text, "2") || !strcmp(text, "v2") || !strcmp(text, "0.10"))
		return 0;
	return err_set(err, EINVAL, "--compat %.40s: must be 2 (QEMU's 0.10) or 3 (QEMU's 1.1)",
		       text);
}

static int parse_cluster(const char *text, uint32_t *out, struct err *err)
{
	uint64_t n;

	*out = 0;
	if (!text)
		return 0;
	if (parse_size(text, &n) || !qcow2_cluster_bytes_ok(n))
		return err_set(err, EINVAL,
			       "--cluster-size %.40s: is not a power of two from 512 to 2M", text);
	*out = (uint32_t)n;
	return 0;
}

static int open_base(const char *path, struct store_create *create, struct store **base,
		     struct err *err)
{
	char *full = store_backing_path(path, create->backing);
	struct err why = { "" };
	int rc;

	if (!full)
		return err_sys(err, ENOMEM, "%s", path);
	if (image_same_file(path, full)) {
		free(full);
		return err_set(err, EINVAL,
			       "%s: is its own backing file, from which it would be made", path);
	}
	if (create->backing_format == STORE_AUTO) {
		enum store_format content;

		rc = image_detect(full, NULL, &content, &why);
		if (rc)
			err_set(err, -rc, "backing file %s: %s", create->backing, why.text);
		else if (store_format_guess(full, &create->backing_format))
			rc = store_format_refuse("backing file", create->backing,
						 "--backing-format ", err);
		if (rc) {
			free(full);
			return rc;
		}
	}
	rc = image_open_store(full, create->backing_format, true, base, err);
	free(full);
	return rc ? rc : store_check_backing(create->backing, *base, err);
}

int newimage_parse(const struct newimage_words *words, const char *path, struct store_create *out,
		   struct store **base, struct err *err)
{
	bool only_qcow2 = words->backing || words->cluster_size || words->compat || words->lazy;
	int rc;

	*base = NULL;
	*out = (struct store_create){ .path = path, .backing = words->backing };
	rc = image_parse_format(words->format_option, words->format, &out->format, err);
	if (rc)
		return rc;
	if (out->format == STORE_AUTO)
		out->format = store_format_of_name(path);
	if (out->format == STORE_RAW && only_qcow2)
		return err_set(err, EINVAL, "%s: a raw image has no %s; use %s qcow2", path,
			       words->backing	   ? "backing file" :
			       words->cluster_size ? "clusters" :
			       words->compat	   ? "version" :
						     "refcounts",
			       words->format_option);
	if (words->backing_format && !words->backing)
		return err_set(err, EINVAL, "--backing-format: needs --backing, too");
	out->lazy_refcounts = words->lazy;
	rc = parse_version(words->compat, &out->version, err);
	if (!rc)
		rc = parse_cluster(words->cluster_size, &out->cluster_bytes, err);
	if (!rc)
		rc = image_parse_format("--backing-format", words->backing_format,
					&out->backing_format, err);
	if (!rc && words->backing && !words->backing[0])
		rc = err_set(err, EINVAL, "--backing: the file's name is empty");
	if (!rc && words->backing)
		rc = open_base(path, out, base, err);
	return rc;
}
