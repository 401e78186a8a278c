/* calls: see calls.h. */
#include "tools/bantam-net-user/calls.h"

#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define TYPE_MASK 0xf /* the rest of a type are SOCK_CLOEXEC and SOCK_NONBLOCK */

#define SOCKET(family, type, protocol)                                                             \
	GIVEUP_KEEP_IF(socket, SCMP_A0(SCMP_CMP_EQ, family),                                       \
		       SCMP_A1(SCMP_CMP_MASKED_EQ, TYPE_MASK, type),                               \
		       SCMP_A2(SCMP_CMP_EQ, protocol))
#define OPTION(level, option)                                                                      \
	GIVEUP_KEEP_IF(setsockopt, SCMP_A1(SCMP_CMP_EQ, level), SCMP_A2(SCMP_CMP_EQ, option))
#define FCNTL(command) GIVEUP_KEEP_IF(fcntl, SCMP_A1(SCMP_CMP_EQ, command))
#define IOCTL(request) GIVEUP_KEEP_IF(ioctl, SCMP_A1(SCMP_CMP_EQ, request))

/*
 * Nothing here takes a path, makes a process, or does harm with any descriptor that is open. There is no bind and no
 * listen: the forwarded ports are bound before.
 */
const struct giveup_call calls_kept[] = {
	SOCKET(AF_INET, SOCK_STREAM, 0),
	SOCKET(AF_INET, SOCK_DGRAM, 0),
	SOCKET(AF_INET, SOCK_DGRAM,
	       IPPROTO_ICMP), /* ping, where the host's ping_group_range has us */
	SOCKET(AF_INET6, SOCK_STREAM, 0),
	SOCKET(AF_INET6, SOCK_DGRAM, 0),
	SOCKET(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6),
	OPTION(SOL_SOCKET, SO_REUSEADDR),
	OPTION(SOL_SOCKET, SO_OOBINLINE),
	OPTION(IPPROTO_TCP, TCP_NODELAY),
	OPTION(IPPROTO_IP, IP_TTL),
	OPTION(IPPROTO_IP, IP_TOS),
	OPTION(IPPROTO_IP, IP_RECVERR),
	OPTION(IPPROTO_IPV6, IPV6_V6ONLY),
	OPTION(IPPROTO_IPV6, IPV6_UNICAST_HOPS),
	OPTION(IPPROTO_IPV6, IPV6_RECVERR),
	GIVEUP_KEEP(getsockopt),
	GIVEUP_KEEP(getsockname),
	GIVEUP_KEEP(getpeername),
	GIVEUP_KEEP(connect),
	GIVEUP_KEEP(accept),
	GIVEUP_KEEP(accept4),
	GIVEUP_KEEP(shutdown),
	GIVEUP_KEEP(recvfrom),
	GIVEUP_KEEP(recvmsg), /* the monitor's descriptors; a socket's errors */
	GIVEUP_KEEP(sendto),
	GIVEUP_KEEP(sendmsg),
	GIVEUP_KEEP(close),
	FCNTL(F_GETFD),
	FCNTL(F_SETFD),
	FCNTL(F_GETFL),
	/* Never off: a descriptor that another process waits on would make that process wait. */
	GIVEUP_KEEP_IF(fcntl, SCMP_A1(SCMP_CMP_EQ, F_SETFL),
		       SCMP_A2(SCMP_CMP_MASKED_EQ, O_NONBLOCK, O_NONBLOCK)),
	/* Not FIONBIO, which takes O_NONBLOCK away. */
	IOCTL(FIONREAD),
	/* bells, the monitor's status pipe, the log */
	GIVEUP_KEEP(read),
	GIVEUP_KEEP(write),
	GIVEUP_KEEP(writev),
	GIVEUP_KEEP(pwritev2),
	GIVEUP_KEEP(poll),
	GIVEUP_KEEP(ppoll), /* poll, where a processor has no other */
	GIVEUP_KEEP(clock_gettime),
	/* memory; the guest's, too */
	GIVEUP_KEEP(brk),
	GIVEUP_KEEP_IF(mmap, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)),
	GIVEUP_KEEP(munmap),
	GIVEUP_KEEP(mremap),
	GIVEUP_KEEP(madvise),
	GIVEUP_KEEP(getrandom),
	GIVEUP_KEEP(futex),
	/* the end, also by abort */
	GIVEUP_KEEP(exit_group),
	GIVEUP_KEEP(rt_sigreturn),
	GIVEUP_KEEP(rt_sigprocmask),
	GIVEUP_KEEP(restart_syscall),
	GIVEUP_KEEP(getpid),
	GIVEUP_KEEP(gettid),
	GIVEUP_KEEP_SELF(tgkill),
	GIVEUP_LIBRARY,
	/* A libslirp that looks for resolv.conf by a function that names.c does not replace. */
	GIVEUP_ERROR(stat),
	GIVEUP_ERROR(open),
	GIVEUP_ERROR(lseek),
	/* A libslirp that gives a new socket an address of the host: its connection fails. */
	GIVEUP_ERROR(bind),
	GIVEUP_ERROR(listen),
};
const unsigned calls_nkept = sizeof(calls_kept) / sizeof(calls_kept[0]);

static bool confined;

int calls_confine(void)
{
	int rc = giveup_calls(calls_kept, calls_nkept, "bantam-net-user");

	confined = true;
	/* libseccomp has left hundreds of free pieces, through which each look of memory.c at malloc would walk. */
	malloc_trim(0);
	return rc;
}

bool calls_confined(void)
{
	return confined;
}

bool calls_permit_socket(int domain, int type, int protocol)
{
	uint64_t arg[6] = { (uint64_t)domain, (uint64_t)type, (uint64_t)protocol };

	return !confined || giveup_permits(calls_kept, calls_nkept, SCMP_SYS(socket), arg);
}

bool calls_permit_option(int level, int option)
{
	uint64_t arg[6] = { 0, (uint64_t)level, (uint64_t)option };

	return !confined || giveup_permits(calls_kept, calls_nkept, SCMP_SYS(setsockopt), arg);
}
