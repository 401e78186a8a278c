/* chardev/open: the factory: the keys of --serial and --console, and which sink they mean. */
#include "devices/backend/chardev/chardev_impl.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/core/log.h"
#include "vmm/core/unix_socket.h"

const struct key chardev_keys[] = { CHARDEV_KEYS, { 0 } };

_Static_assert(sizeof(chardev_keys) / sizeof(chardev_keys[0]) == CHARDEV_NKEYS + 1, "keys");

enum sink { SINK_STDIO, SINK_PTY, SINK_NULL, SINK_OFF }; /* in the order of "sink" */

static int open_null(const struct keyvals *cfg, struct loop *loop, struct chardev **out,
		     struct err *err)
{
	static const struct chardev_ops ops;

	return chardev_new(cfg, loop, &ops, sizeof(struct chardev), 0, out, err, "null");
}

bool chardev_off(const struct keyvals *cfg)
{
	return keys_has(cfg, CHARDEV_KEY_SINK) && keys_num(cfg, CHARDEV_KEY_SINK) == SINK_OFF;
}

/*
 * Checks that path can be written to, or created. It opens nothing, because another process might
 * notice that.
 */
static int look_at_file(const char *option, const char *path, struct err *err)
{
	char buf[PATH_MAX];
	struct stat st;

	if (strlen(path) >= sizeof(buf))
		return err_sys(err, ENAMETOOLONG, "%s file=%s", option, path);
	if (!stat(path, &st)) {
		if (S_ISDIR(st.st_mode))
			return err_sys(err, EISDIR, "%s file=%s", option, path);
	} else {
		strcpy(buf, path);
		path = dirname(buf);
	}
	if (access(path, W_OK))
		return err_sys(err, errno, "%s file=%s", option, path);
	return 0;
}

/* Describe what open would open, without a trace on the host. */
static int look(const struct keyvals *cfg, struct loop *loop, struct chardev **out, struct err *err)
{
	static const struct chardev_ops ops;
	const char *file = keys_text(cfg, CHARDEV_KEY_FILE);
	const char *path = keys_text(cfg, CHARDEV_KEY_SOCKET);
	int rc = 0;

	if (file)
		rc = look_at_file(cfg->option, file, err);
	else if (path)
		rc = unix_socket_look(cfg->option, "socket", path, err);
	if (rc)
		return rc;
	return chardev_new(cfg, loop, &ops, sizeof(struct chardev), 0, out, err, "%s%s",
			   file ? "file=" :
			   path ? "socket=" :
				  "pty",
			   file ? file :
			   path ? path :
				  "");
}

static bool tell_ptys, tell_sockets;

void chardev_print_names(bool sockets)
{
	tell_ptys = true;
	tell_sockets = sockets;
}

/* No warning, but what the user needs to reach the guest. */
static int told(int rc, bool tell, struct chardev *const *chr)
{
	if (!rc && tell)
		log_put_for((*chr)->what, LOG_WARN, "%s", (*chr)->what);
	return rc;
}

int chardev_open(const struct keyvals *cfg, struct loop *loop, bool dry_run, struct chardev **out,
		 struct err *err)
{
	bool sink = keys_has(cfg, CHARDEV_KEY_SINK);
	bool file = keys_has(cfg, CHARDEV_KEY_FILE);
	bool socket_path = keys_has(cfg, CHARDEV_KEY_SOCKET);
	bool pty = sink && keys_num(cfg, CHARDEV_KEY_SINK) == SINK_PTY;

	*out = NULL;
	if (keys_num(cfg, CHARDEV_KEY_WINSIZE))
		return chardev_open_winsize(cfg, loop, out, err);
	if (sink + file + socket_path != 1)
		return err_set(err, EINVAL,
			       "%s: give one of stdio, pty, null, off, file=FILE, socket=PATH",
			       cfg->option);
	if (keys_num(cfg, CHARDEV_KEY_APPEND) && !file)
		return err_set(err, EINVAL, "%s: append goes with file=FILE only", cfg->option);
	if (keys_has(cfg, CHARDEV_KEY_LIMIT) && !file)
		return err_set(err, EINVAL, "%s: limit=SIZE goes with file=FILE only", cfg->option);
	if (keys_num(cfg, CHARDEV_KEY_LIMIT) &&
	    keys_num(cfg, CHARDEV_KEY_LIMIT) < CHARDEV_LIMIT_MIN)
		return err_set(err, EINVAL, "%s: limit=%s is less than 64K; limit=0 sets no limit",
			       cfg->option, keys_text(cfg, CHARDEV_KEY_LIMIT));
	if (keys_has(cfg, CHARDEV_KEY_LINK) && !pty)
		return err_set(err, EINVAL, "%s: link=PATH goes with pty only", cfg->option);
	if (dry_run && (file || socket_path || pty))
		return look(cfg, loop, out, err);
	if (file)
		return chardev_open_file(cfg, loop, out, err);
	if (socket_path)
		return told(chardev_open_socket(cfg, loop, out, err), tell_sockets, out);
	if (pty)
		return told(chardev_open_pty(cfg, loop, out, err), tell_ptys, out);
	if (keys_num(cfg, CHARDEV_KEY_SINK) == SINK_STDIO)
		return chardev_open_stdio(cfg, loop, out, err);
	return open_null(cfg, loop, out, err);
}

/* --- pools ------------------------------------------------------------------------------ */

struct opening {
	struct chardev_pool *pool;
	const struct keyvals *cfg;
	struct chardev *chr;
	struct err *err;
	int rc;
};

static void open_here(void *opaque)
{
	struct opening *o = opaque;

	o->rc = chardev_open(o->cfg, chardev_pool_loop(o->pool), false, &o->chr, o->err);
}

/* Returns true if cfg names a sink that does nothing: it needs no loop. */
static bool is_null(const struct keyvals *cfg)
{
	return keys_has(cfg, CHARDEV_KEY_SINK) && keys_num(cfg, CHARDEV_KEY_SINK) == SINK_NULL;
}

int chardev_pool_open(struct chardev_pool *pool, const char *id, const struct keyvals *cfg,
		      struct err *err)
{
	struct opening o = { .pool = pool, .cfg = cfg, .err = err };
	int rc = 0;

	if (chardev_off(cfg))
		return 0;
	if (chardev_pool_find(pool, id))
		return err_set(err, EEXIST, "%s: there is another console named %s", cfg->option,
			       id);
	if (!is_null(cfg))
		rc = chardev_pool_start(pool, err);
	if (rc)
		return rc;
	chardev_pool_call(pool, open_here, &o);
	return o.rc ? o.rc : chardev_pool_add(pool, id, o.chr, err);
}

int chardev_obtain(struct chardev_pool *pool, const char *id, const struct keyvals *cfg,
		   struct loop *loop, bool dry_run, struct chardev **out, struct err *err)
{
	struct chardev *chr = id && !dry_run ? chardev_pool_find(pool, id) : NULL;

	if (!chr)
		return chardev_open(cfg, loop, dry_run, out, err);
	*out = NULL;
	if (chr->taken)
		return err_set(err, EBUSY, "%s: another device has the console %s", cfg->option,
			       id);
	chr->taken = true;
	*out = chr;
	return 0;
}
