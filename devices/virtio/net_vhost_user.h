/* net_vhost_user: a network card that a vhost-user daemon serves (--net vhost-user=SOCKET). */
#ifndef BANTAM_NET_VHOST_USER_H
#define BANTAM_NET_VHOST_USER_H

#include "devices/device.h"

bool net_vhost_user_wanted(const struct keyvals *cfg);
/* What does not go with that. */
int net_vhost_user_check(const struct keyvals *cfg, struct err *err);
/* As device_type.create, where it is wanted. */
int net_vhost_user_create(const struct device_env *env, const struct keyvals *cfg,
			  struct device **out, struct err *err);

#endif
