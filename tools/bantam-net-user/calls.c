/* calls: see calls.h. */
#include "tools/bantam-net-user/calls.h"

#include <sys/syscall.h>

#include "tools/giveup/giveup.h"

static bool confined;

int calls_confine(void)
{
	confined = true;
	return giveup_calls(&giveup_net_user, "bantam-net-user");
}

bool calls_confined(void)
{
	return confined;
}

bool calls_permit_socket(int domain, int type, int protocol)
{
	uint64_t arg[6] = { (uint64_t)domain, (uint64_t)type, (uint64_t)protocol };

	return !confined || giveup_permits(&giveup_net_user, SYS_socket, arg);
}

bool calls_permit_option(int level, int option)
{
	uint64_t arg[6] = { 0, (uint64_t)level, (uint64_t)option };

	return !confined || giveup_permits(&giveup_net_user, SYS_setsockopt, arg);
}
