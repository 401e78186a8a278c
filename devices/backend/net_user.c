/* net_user: see net.h. */
#include "devices/backend/net.h"

#include <errno.h>

int net_user_open(const struct net_config *cfg, struct net **out, struct err *err)
{
	return err_set(err, ENOTSUP, "%s user: not built", cfg->option);
}
