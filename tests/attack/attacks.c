/* attacks: see attacks.h. */
#include "tests/attack/attacks.h"

#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_alg.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/vhost.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define TOOLS (IMAGE | SEED)

#define CALL(name, ...)                                                                            \
	{                                                                                          \
		SYS_##name,                                                                        \
		{                                                                                  \
			__VA_ARGS__                                                                \
		}                                                                                  \
	}
#define STOP                                                                                       \
	{                                                                                          \
		-1,                                                                                \
		{                                                                                  \
			0                                                                          \
		}                                                                                  \
	}

const struct attack attacks[] = {
	/* Files. Tools that read and make them keep the calls; Landlock says which files. */
	{ "open, to read",
	  { CALL(openat, AT_FDCWD, B(marker), O_RDONLY), STOP },
	  SEED /* copies files */,
	  WORKS,
	  .old = READER /* files are its work */ },
	{ "open, to write", { CALL(openat, AT_FDCWD, B(marker), O_WRONLY), STOP }, 0, WORKS },
	{ "open, O_PATH",
	  { CALL(openat, AT_FDCWD, B(marker), O_PATH), STOP },
	  TOOLS | READER /* Landlock lets it pass: no bytes come of it */,
	  WORKS },
	{ "open, by the older call",
	  { CALL(open, B(marker), O_RDONLY), STOP },
	  SEED,
	  WORKS,
	  .old = READER },
	{ "open, to cut", { CALL(openat, AT_FDCWD, B(marker), O_WRONLY | O_TRUNC), STOP } },
	{ "creat", { CALL(creat, B(unborn), 0600), STOP } },
	{ "a new file",
	  { CALL(openat, AT_FDCWD, B(unborn), O_CREAT | O_EXCL | O_RDWR, 0600), STOP } },
	{ "a new file without a name",
	  { CALL(openat, AT_FDCWD, B(folder), O_TMPFILE | O_RDWR, 0600), STOP },
	  0,
	  WORKS },
	{ "openat2", { CALL(openat2, AT_FDCWD, B(marker), B(how), 24), STOP }, SEED, WORKS },
	{ "open of the root",
	  { CALL(openat, AT_FDCWD, B(root), O_RDONLY | O_DIRECTORY), STOP },
	  SEED,
	  WORKS,
	  .old = READER },
	{ "open of /proc", { CALL(openat, AT_FDCWD, B(proc), O_RDONLY), STOP }, SEED, WORKS },
	{ "name_to_handle_at",
	  { CALL(name_to_handle_at, AT_FDCWD, B(marker), B(handle), B(out), 0), STOP } },
	{ "open_by_handle_at", { CALL(open_by_handle_at, FD_ANY, B(handle), O_RDONLY), STOP } },
	{ "stat",
	  { CALL(newfstatat, AT_FDCWD, B(marker), B(out), 0), STOP },
	  TOOLS | READER /* names and sizes are no secret of the user */,
	  WORKS },
	{ "stat, no link",
	  { CALL(newfstatat, AT_FDCWD, B(marker), B(out), AT_SYMLINK_NOFOLLOW), STOP },
	  TOOLS | READER,
	  WORKS,
	  MACHINE | TEST | API /* for the names of sockets and reports */ },
	{ "stat, as of a descriptor",
	  { CALL(newfstatat, AT_FDCWD, B(marker), B(out), AT_EMPTY_PATH), STOP },
	  TOOLS | READER,
	  WORKS,
	  TEST /* the C library writes at the end; no filter sees that a path is empty */ },
	{ "stat, by another process's root",
	  { CALL(newfstatat, FD_PROC, B(through), B(out), AT_SYMLINK_NOFOLLOW), STOP },
	  TOOLS | READER | MACHINE | API /* they have no such folder */ },
	{ "link, by another process's root",
	  { CALL(linkat, FD_PROC, B(through), AT_FDCWD, B(unborn), AT_SYMLINK_FOLLOW), STOP },
	  TOOLS /* no such folder */ },
	{ "open, by another process's root",
	  { CALL(openat, FD_PROC, B(through), O_RDWR | O_CREAT), STOP },
	  TOOLS | READER },
	{ "stat, by the older call",
	  { CALL(stat, B(marker), B(out)), STOP },
	  TOOLS | READER,
	  WORKS },
	{ "statx",
	  { CALL(statx, AT_FDCWD, B(marker), 0, STATX_SIZE, B(out)), STOP },
	  TOOLS,
	  WORKS },
	{ "access", { CALL(access, B(marker), 4), STOP }, TOOLS, WORKS },
	{ "readlink",
	  { CALL(readlink, B(link), B(out), 64), STOP },
	  TOOLS,
	  WORKS,
	  MACHINE /* for the link of a pty */ },
	{ "getdents",
	  { CALL(openat, AT_FDCWD, B(folder), O_RDONLY | O_DIRECTORY),
	    CALL(getdents64, RES, B(out), 600), STOP },
	  SEED,
	  WORKS },
	{ "unlink", { CALL(unlink, B(marker)), STOP } },
	{ "unlinkat", { CALL(unlinkat, AT_FDCWD, B(marker), 0), STOP } },
	{ "rename", { CALL(rename, B(marker), B(unborn)), STOP } },
	{ "renameat2",
	  { CALL(renameat2, AT_FDCWD, B(marker), AT_FDCWD, B(unborn), RENAME_EXCHANGE), STOP } },
	{ "link", { CALL(link, B(marker), B(unborn)), STOP } },
	{ "symlink", { CALL(symlink, B(marker), B(unborn)), STOP } },
	{ "mkdir", { CALL(mkdir, B(unborn), 0700), STOP } },
	{ "mknod", { CALL(mknod, B(unborn), S_IFIFO | 0600, 0), STOP } },
	{ "chmod", { CALL(chmod, B(marker), 0777), STOP } },
	{ "chown", { CALL(chown, B(marker), 12345, 12345), STOP } },
	{ "truncate", { CALL(truncate, B(marker), 0), STOP } },
	{ "utimensat", { CALL(utimensat, AT_FDCWD, B(marker), 0, 0), STOP } },
	{ "setxattr", { CALL(setxattr, B(marker), B(name), B(out), 1, 0), STOP } },
	{ "chdir", { CALL(chdir, B(folder)), STOP }, 0, WORKS },
	{ "inotify", { CALL(inotify_init1, 0), STOP }, 0, WORKS },
	{ "fanotify", { CALL(fanotify_init, 0, 0), STOP }, 0, WORKS },
	{ "sendfile", { CALL(sendfile, FD_ANY, FD_ANY, 0, 0), STOP } },
	{ "splice", { CALL(splice, FD_ANY, 0, FD_ANY, 0, 0, 0), STOP } },

	/* Sockets. The network helper has TCP, UDP and ping: connections to outside are its work. */
	{ "TCP to the host's loopback",
	  { CALL(socket, AF_INET, SOCK_STREAM, 0),
	    CALL(connect, RES, B(tcp), sizeof(struct sockaddr_in)), STOP },
	  NET /* no filter sees addresses */,
	  WORKS },
	{ "UDP to the host's loopback",
	  { CALL(socket, AF_INET, SOCK_DGRAM, 0),
	    CALL(sendto, RES, B(out), 1, 0, B(udp), sizeof(struct sockaddr_in)), STOP },
	  NET /* the same */,
	  WORKS },
	{ "a datagram to an address",
	  { CALL(sendto, FD_SOCKET, B(out), 1, MSG_DONTWAIT, B(udp), sizeof(struct sockaddr_in)),
	    STOP },
	  NET /* its work */ },
	{ "a TCP port of the host",
	  { CALL(socket, AF_INET, SOCK_STREAM, 0),
	    CALL(bind, RES, B(wildcard), sizeof(struct sockaddr_in)), CALL(listen, RES, 1) },
	  0,
	  0 },
	{ "an abstract Unix socket of the host",
	  { CALL(socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
	    CALL(connect, RES, B(abstract), sizeof(struct sockaddr_un)), STOP },
	  0,
	  WORKS,
	  .old = MACHINE /* in the network of the host */ },
	{ "a Unix socket of the host",
	  { CALL(socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
	    CALL(connect, RES, B(path), sizeof(struct sockaddr_un)), STOP },
	  0,
	  WORKS,
	  MACHINE /* for vsock and streams; no filter sees paths, nor does Landlock */ },
	{ "a Unix socket, blocking", { CALL(socket, AF_UNIX, SOCK_STREAM, 0), STOP }, 0, WORKS },
	{ "Unix datagrams", { CALL(socket, AF_UNIX, SOCK_DGRAM, 0), STOP }, 0, WORKS },
	{ "TCP over IPv6", { CALL(socket, AF_INET6, SOCK_STREAM, 0), STOP }, NET },
	{ "UDP over IPv6", { CALL(socket, AF_INET6, SOCK_DGRAM, 0), STOP }, NET },
	{ "MPTCP", { CALL(socket, AF_INET, SOCK_STREAM, 262), STOP } },
	{ "SCTP", { CALL(socket, AF_INET, SOCK_SEQPACKET, IPPROTO_SCTP), STOP } },
	{ "UDP-Lite", { CALL(socket, AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE), STOP } },
	{ "raw IP", { CALL(socket, AF_INET, SOCK_RAW, IPPROTO_ICMP), STOP }, 0, WORKS },
	{ "raw IPv6", { CALL(socket, AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), STOP } },
	{ "packets", { CALL(socket, AF_PACKET, SOCK_RAW, 0), STOP } },
	{ "netlink", { CALL(socket, AF_NETLINK, SOCK_RAW, 0), STOP }, 0, WORKS },
	{ "vsock", { CALL(socket, AF_VSOCK, SOCK_STREAM, 0), STOP } },
	{ "the kernel's ciphers", { CALL(socket, AF_ALG, SOCK_SEQPACKET, 0), STOP } },
	{ "XDP", { CALL(socket, AF_XDP, SOCK_RAW, 0), STOP } },
	{ "Bluetooth", { CALL(socket, AF_BLUETOOTH, SOCK_RAW, 1), STOP } },
	{ "CAN", { CALL(socket, AF_CAN, SOCK_RAW, 1), STOP } },
	{ "TIPC", { CALL(socket, AF_TIPC, SOCK_SEQPACKET, 0), STOP } },
	{ "a pair of sockets",
	  { CALL(socketpair, AF_UNIX, SOCK_STREAM, 0, B(out)), STOP },
	  0,
	  WORKS },
	{ "descriptors of another process",
	  { CALL(recvmsg, FD_SOCKET, B(msg), MSG_DONTWAIT), STOP },
	  NET | API /* a client's; the monitor's bells; errors */ },
	{ "the same in a batch",
	  { CALL(recvmmsg, FD_SOCKET, B(msg), 1, MSG_DONTWAIT, 0), STOP },
	  LOOP | IO | MACHINE /* a card's socket, which others may make block */ },
	{ "bind to a device",
	  { CALL(setsockopt, FD_SOCKET, SOL_SOCKET, SO_BINDTODEVICE, B(name), 2), STOP } },
	{ "a mark", { CALL(setsockopt, FD_SOCKET, SOL_SOCKET, SO_MARK, B(one), 4), STOP } },
	{ "a filter of a socket",
	  { CALL(setsockopt, FD_SOCKET, SOL_SOCKET, SO_ATTACH_FILTER, B(filter), 16), STOP } },
	{ "bytes past the limit",
	  { CALL(setsockopt, FD_SOCKET, SOL_SOCKET, SO_SNDBUFFORCE, B(one), 4), STOP } },
	{ "another protocol for a socket",
	  { CALL(setsockopt, FD_SOCKET, SOL_TCP, TCP_ULP, B(name), 3), STOP } },

	/* Programs, processes, threads. */
	{ "exec", { CALL(execve, B(program), B(argv), 0), STOP }, 0, WORKS },
	{ "execveat", { CALL(execveat, AT_FDCWD, B(program), B(argv), 0, 0), STOP }, 0, WORKS },
	{ "a file in memory", { CALL(memfd_create, B(name), 0), STOP }, 0, WORKS },
	{ "exec of a descriptor",
	  { CALL(memfd_create, B(name), 0),
	    CALL(execveat, RES, B(empty), B(argv), 0, AT_EMPTY_PATH), STOP } },
	{ "fork", { CALL(fork), STOP }, 0, WORKS },
	{ "vfork", { CALL(vfork), STOP }, 0, WORKS },
	{ "clone", { CALL(clone, SIGCHLD), STOP }, 0, WORKS },
	{ "clone, without a signal", { CALL(clone, 0), STOP }, 0, WORKS },
	{ "clone3", { CALL(clone3, B(clone_args), 64), STOP }, 0, WORKS },
	{ "clone, a user namespace", { CALL(clone, CLONE_NEWUSER | SIGCHLD), STOP }, 0, WORKS },
	{ "unshare, a user namespace", { CALL(unshare, CLONE_NEWUSER), STOP } },
	{ "unshare, mounts", { CALL(unshare, CLONE_NEWNS), STOP }, 0, WORKS },
	{ "unshare, network", { CALL(unshare, CLONE_NEWNET), STOP }, 0, WORKS },
	{ "setns", { CALL(setns, FD_ANY, 0), STOP } },
	{ "pidfd_open", { CALL(pidfd_open, OTHER, 0), STOP }, 0, WORKS },
	{ "setns by a process",
	  { CALL(pidfd_open, OTHER, 0), CALL(setns, RES, CLONE_NEWNS), STOP },
	  0,
	  WORKS },
	{ "a descriptor of another process",
	  { CALL(pidfd_open, OTHER, 0), CALL(pidfd_getfd, RES, 0, 0), STOP },
	  0,
	  WORKS },
	{ "ptrace, attach", { CALL(ptrace, PTRACE_ATTACH, OTHER, 0, 0), STOP }, 0, WORKS },
	{ "ptrace, seize", { CALL(ptrace, PTRACE_SEIZE, OTHER, 0, 0), STOP }, 0, WORKS },
	{ "process_vm_readv",
	  { CALL(process_vm_readv, OTHER, B(here), 1, B(there), 1, 0), STOP },
	  0,
	  WORKS },
	{ "process_vm_writev",
	  { CALL(process_vm_writev, OTHER, B(here), 1, B(there), 1, 0), STOP } },
	{ "process_madvise",
	  { CALL(pidfd_open, OTHER, 0), CALL(process_madvise, RES, B(there), 1, 20 /* COLD */, 0),
	    STOP } },
	{ "kcmp", { CALL(kcmp, OTHER, SELF, 0, 0, 0), STOP } },
	{ "kill", { CALL(kill, OTHER, SIGUSR1), STOP } },
	{ "kill, all", { CALL(kill, -1, 0), STOP }, 0, WORKS },
	{ "kill, a group", { CALL(kill, 0, 0), STOP }, 0, WORKS },
	{ "tkill", { CALL(tkill, OTHER, SIGUSR1), STOP } },
	{ "tgkill", { CALL(tgkill, OTHER, OTHER, SIGUSR1), STOP } },
	{ "rt_sigqueueinfo", { CALL(rt_sigqueueinfo, OTHER, SIGUSR1, B(out)), STOP } },
	{ "pidfd_send_signal",
	  { CALL(pidfd_open, OTHER, 0), CALL(pidfd_send_signal, RES, SIGUSR1, 0, 0), STOP } },
	{ "setpriority", { CALL(setpriority, 0, OTHER, 1), STOP } },
	{ "another's processors", { CALL(sched_setaffinity, OTHER, 128, B(cpus)), STOP } },
	{ "another's processors, to know them",
	  { CALL(sched_getaffinity, OTHER, 128, B(cpus)), STOP },
	  TOOLS,
	  WORKS },
	{ "sched_setscheduler", { CALL(sched_setscheduler, OTHER, 0, B(out)), STOP } },
	{ "prlimit of another", { CALL(prlimit64, OTHER, 7, 0, B(out)), STOP }, TOOLS, WORKS },
	{ "prlimit, processes",
	  { CALL(prlimit64, 0, 6, B(limits), 0), STOP },
	  TOOLS /* not above the hard limit */ },
	{ "ioprio_set", { CALL(ioprio_set, 1, OTHER, 0x4000), STOP } },
	{ "getpgid of another", { CALL(getpgid, OTHER), STOP }, 0, WORKS },
	{ "setsid", { CALL(setsid), STOP } },

	/* Memory that can be executed. */
	{ "mprotect, to executable",
	  { CALL(mprotect, PAGE, 4096, PROT_READ | PROT_EXEC), STOP },
	  0,
	  WORKS },
	{ "mprotect, all",
	  { CALL(mprotect, PAGE, 4096, PROT_READ | PROT_WRITE | PROT_EXEC), STOP },
	  0,
	  WORKS },
	{ "pkey_mprotect",
	  { CALL(pkey_mprotect, PAGE, 4096, PROT_READ | PROT_EXEC, -1), STOP },
	  0,
	  WORKS },
	{ "mmap, executable",
	  { CALL(mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), STOP },
	  0,
	  WORKS },
	{ "mmap, executable and fixed",
	  { CALL(mmap, PAGE, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
	    STOP },
	  0,
	  WORKS },
	{ "remap_file_pages", { CALL(remap_file_pages, PAGE, 4096, 0, 0, 0), STOP } },
	{ "shmget", { CALL(shmget, 0, 4096, 01700), STOP }, 0, WORKS },
	{ "shmat, executable",
	  { CALL(shmget, 0, 4096, 01700), CALL(shmat, RES, 0, 0100000), STOP },
	  0,
	  WORKS },
	{ "personality", { CALL(personality, 0x0400000 /* READ_IMPLIES_EXEC */), STOP }, 0, WORKS },
	{ "modify_ldt", { CALL(modify_ldt, 0, B(out), 16), STOP }, 0, WORKS },
	{ "arch_prctl", { CALL(arch_prctl, 0x1003 /* ARCH_GET_FS */, B(out)), STOP }, 0, WORKS },
	{ "userfaultfd", { CALL(userfaultfd, 1), STOP }, 0, WORKS },
	{ "memory that stays", { CALL(mlockall, 4), STOP } },

	/* Other ways into the kernel. */
	{ "io_uring_setup", { CALL(io_uring_setup, 4, B(uring)), STOP }, 0, WORKS },
	{ "io_uring_register",
	  { CALL(io_uring_register, FD_ANY, IORING_REGISTER_BUFFERS, 0, 0), STOP } },
	{ "io_setup", { CALL(io_setup, 1, B(action)), STOP } },
	{ "bpf", { CALL(bpf, 0, B(bpf), 72), STOP }, 0, WORKS },
	{ "perf_event_open", { CALL(perf_event_open, B(perf), 0, -1, -1, 0), STOP } },
	{ "add_key", { CALL(add_key, B(name), B(name), B(out), 1, -3), STOP } },
	{ "keyctl", { CALL(keyctl, 0, -3, 0), STOP } },
	{ "request_key", { CALL(request_key, B(name), B(name), 0, 0), STOP } },
	{ "init_module", { CALL(init_module, B(out), 16, B(empty)), STOP } },
	{ "finit_module", { CALL(finit_module, FD_ANY, B(empty), 0), STOP } },
	{ "delete_module", { CALL(delete_module, B(name), O_NONBLOCK), STOP } },
	{ "kexec_load", { CALL(kexec_load, 0, 0, 0, 0), STOP } },
	{ "kexec_file_load", { CALL(kexec_file_load, FD_ANY, FD_ANY, 0, 0, 0), STOP } },
	{ "reboot", { CALL(reboot, 0, 0, 0), STOP } },
	{ "iopl", { CALL(iopl, 3), STOP } },
	{ "ioperm", { CALL(ioperm, 0, 1, 1), STOP } },
	{ "syslog", { CALL(syslog, 3, B(out), 64), STOP } },
	{ "acct", { CALL(acct, B(unborn)), STOP } },
	{ "swapon", { CALL(swapon, B(marker), 0), STOP } },
	{ "quotactl", { CALL(quotactl, 0, B(marker), 0, 0), STOP } },
	{ "settimeofday", { CALL(settimeofday, 0, B(out)), STOP } },
	{ "clock_settime",
	  { CALL(clock_settime, 1 /* CLOCK_MONOTONIC, which stays */, B(out)), STOP } },
	{ "adjtimex", { CALL(adjtimex, B(out)), STOP } },
	{ "sethostname", { CALL(sethostname, B(name), 3), STOP } },
	{ "mq_open", { CALL(mq_open, B(name), O_CREAT | O_RDWR, 0600, 0), STOP } },
	{ "semget", { CALL(semget, 0, 1, 0600), STOP }, 0, WORKS },
	{ "msgget", { CALL(msgget, 0, 0600), STOP }, 0, WORKS },

	/* Mounts and roots. */
	{ "mount", { CALL(mount, B(folder), B(folder), 0, MS_BIND, 0), STOP }, 0, 0 },
	{ "umount", { CALL(umount2, B(root), MNT_DETACH), STOP } },
	{ "pivot_root", { CALL(pivot_root, B(folder), B(folder)), STOP } },
	{ "chroot", { CALL(chroot, B(folder)), STOP }, 0, WORKS },
	{ "fsopen", { CALL(fsopen, B(name), 0), STOP } },
	{ "open_tree", { CALL(open_tree, AT_FDCWD, B(root), 1 /* CLONE */), STOP }, 0, WORKS },
	{ "move_mount", { CALL(move_mount, FD_ANY, B(empty), AT_FDCWD, B(folder), 4), STOP } },
	{ "mount_setattr", { CALL(mount_setattr, AT_FDCWD, B(root), 0, B(out), 32), STOP } },

	/* Rights. */
	{ "dumpable", { CALL(prctl, PR_SET_DUMPABLE, 1, 0, 0, 0), STOP }, 0, WORKS },
	{ "who may trace it", { CALL(prctl, 0x59616d61 /* PR_SET_PTRACER */, -1, 0, 0, 0), STOP } },
	{ "securebits", { CALL(prctl, PR_SET_SECUREBITS, 1, 0, 0, 0), STOP }, 0, WORKS },
	{ "ambient capabilities",
	  { CALL(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 12, 0, 0), STOP } },
	{ "keep capabilities", { CALL(prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0), STOP }, 0, WORKS },
	{ "no death with the parent",
	  { CALL(prctl, PR_SET_PDEATHSIG, 0, 0, 0, 0), STOP },
	  0,
	  WORKS },
	{ "a part of its own for a process's memory",
	  { CALL(prctl, PR_SET_MM, PR_SET_MM_BRK, PAGE, 0, 0), STOP } },
	{ "capset", { CALL(capset, B(cap_header), B(cap_data)), STOP }, 0, WORKS },
	{ "setuid", { CALL(setuid, 0), STOP }, 0, WORKS },
	{ "setgid", { CALL(setgid, 0), STOP }, 0, WORKS },
	{ "setresuid", { CALL(setresuid, 0, 0, 0), STOP }, 0, WORKS },
	{ "setresgid", { CALL(setresgid, 0, 0, 0), STOP }, 0, WORKS },
	{ "setreuid", { CALL(setreuid, 0, 0), STOP }, 0, WORKS },
	{ "setfsuid", { CALL(setfsuid, 0), STOP }, 0, WORKS },
	{ "setgroups", { CALL(setgroups, 0, 0), STOP }, 0, WORKS },
	{ "a second filter", { CALL(seccomp, 1, 0, B(filter)), STOP }, 0, WORKS },
	{ "a second filter, by prctl",
	  { CALL(prctl, PR_SET_SECCOMP, 2, B(filter), 0, 0), STOP },
	  0,
	  WORKS },
	{ "a domain of Landlock", { CALL(landlock_create_ruleset, 0, 0, 1), STOP }, 0, WORKS },
	{ "another handler of SIGSYS",
	  { CALL(rt_sigaction, SIGSYS, B(action), 0, 8), STOP },
	  0,
	  WORKS },
	{ "the same, with bits that the kernel cuts",
	  { CALL(rt_sigaction, 1l << 32 | SIGSYS, B(action), 0, 8), STOP },
	  0,
	  WORKS },

	/* Descriptors and devices that are open. */
	{ "O_NONBLOCK off",
	  { CALL(fcntl, FD_ANY, F_SETFL, 0), STOP },
	  TOOLS /* they share none with a VM */,
	  WORKS },
	{ "O_NONBLOCK off, by ioctl", { CALL(ioctl, FD_EVENT, FIONBIO, B(zero)), STOP }, 0, WORKS },
	{ "signals by ioctl", { CALL(ioctl, FD_ANY, FIOASYNC, B(zero)), STOP }, 0, 0 },
	{ "an owner for a descriptor", { CALL(fcntl, FD_ANY, F_SETOWN, OTHER), STOP }, 0, WORKS },
	{ "the signal of a descriptor",
	  { CALL(fcntl, FD_ANY, F_SETSIG, SIGKILL), STOP },
	  0,
	  WORKS },
	{ "a larger pipe", { CALL(fcntl, FD_ANY, F_SETPIPE_SZ, 1 << 20), STOP } },
	{ "a lease", { CALL(fcntl, FD_ANY, F_SETLEASE, F_UNLCK), STOP } },
	{ "dup", { CALL(dup, FD_ANY), STOP }, TOOLS, WORKS },
	{ "F_DUPFD", { CALL(fcntl, FD_ANY, F_DUPFD, 0), STOP }, 0, WORKS },
	{ "TIOCSTI", { CALL(ioctl, 0, TIOCSTI, B(name)), STOP } },
	{ "TIOCSTI, with bits that the kernel cuts",
	  { CALL(ioctl, 0, 1l << 32 | TIOCSTI, B(name)), STOP } },
	{ "TIOCLINUX", { CALL(ioctl, 0, TIOCLINUX, B(name)), STOP } },
	{ "TIOCSCTTY", { CALL(ioctl, 0, TIOCSCTTY, 1), STOP } },
	{ "TIOCCONS", { CALL(ioctl, 0, TIOCCONS, 0), STOP } },
	{ "KVM_CREATE_VM", { CALL(ioctl, FD_VM, KVM_CREATE_VM, 0), STOP } },
	{ "KVM_CREATE_VCPU", { CALL(ioctl, FD_VM, KVM_CREATE_VCPU, 7), STOP } },
	{ "KVM_CREATE_DEVICE", { CALL(ioctl, FD_VM, KVM_CREATE_DEVICE, B(out)), STOP } },
	{ "KVM_SET_USER_MEMORY_REGION",
	  { CALL(ioctl, FD_VM, KVM_SET_USER_MEMORY_REGION, B(out)), STOP } },
	{ "KVM_ENABLE_CAP", { CALL(ioctl, FD_VM, KVM_ENABLE_CAP, B(out)), STOP } },
	{ "KVM_SET_REGS", { CALL(ioctl, FD_VCPU, KVM_SET_REGS, B(out)), STOP } },
	{ "KVM_SET_SREGS", { CALL(ioctl, FD_VCPU, KVM_SET_SREGS, B(out)), STOP } },
	{ "KVM_SET_MSRS", { CALL(ioctl, FD_VCPU, KVM_SET_MSRS, B(out)), STOP } },
	{ "KVM_GET_MSRS", { CALL(ioctl, FD_VCPU, KVM_GET_MSRS, B(out)), STOP } },
	{ "KVM_SET_CPUID2", { CALL(ioctl, FD_VCPU, KVM_SET_CPUID2, B(out)), STOP } },
	{ "TUNSETIFF", { CALL(ioctl, FD_TUN, TUNSETIFF, B(ifreq)), STOP } },
	{ "TUNSETPERSIST", { CALL(ioctl, FD_TUN, TUNSETPERSIST, 1), STOP } },
	{ "TUNSETOWNER", { CALL(ioctl, FD_TUN, TUNSETOWNER, 0), STOP } },
	{ "TUNATTACHFILTER", { CALL(ioctl, FD_TUN, TUNATTACHFILTER, B(filter)), STOP } },
	{ "TUNSETFILTEREBPF", { CALL(ioctl, FD_TUN, TUNSETFILTEREBPF, B(one)), STOP } },
	{ "an address for an interface",
	  { CALL(ioctl, FD_SOCKET, 0x8916 /* SIOCSIFADDR */, B(ifreq)), STOP } },
	{ "the interfaces", { CALL(ioctl, FD_SOCKET, 0x8912 /* SIOCGIFCONF */, B(out)), STOP } },
	{ "VHOST_SET_OWNER", { CALL(ioctl, FD_ANY, VHOST_SET_OWNER, 0), STOP } },
	{ "VHOST_SET_MEM_TABLE", { CALL(ioctl, FD_ANY, VHOST_SET_MEM_TABLE, B(out)), STOP } },
	{ "VHOST_SET_LOG_BASE", { CALL(ioctl, FD_ANY, VHOST_SET_LOG_BASE, B(out)), STOP } },
	{ "FICLONE", { CALL(ioctl, FD_ANY, FICLONE, 0), STOP } },
	{ "FS_IOC_SETFLAGS", { CALL(ioctl, FD_ANY, FS_IOC_SETFLAGS, B(out)), STOP } },
	{ "BLKFLSBUF", { CALL(ioctl, FD_ANY, BLKFLSBUF, 0), STOP } },

	/* Numbers of other ABIs, which mean other calls. */
	{ "x32: execve", { { 520, { B(program), B(argv), 0 } }, STOP }, 0, FATAL | X32 },
	{ "i386: execve", { { 11, { B(program), B(argv), 0 } }, STOP }, 0, FATAL | I386 },
	{ "a call that there is not", { { 9999, { 0 } }, STOP } },
};
const unsigned nattacks = sizeof(attacks) / sizeof(attacks[0]);

const char *attack_target_name(unsigned target)
{
	static const char *const names[] = {
		"vCPU",	     "loop",  "I/O",  "worker", "signals", "net-user", "reader of names",
		"bantam-fs", "image", "seed", "test",	"machine", "API",      "executor",
		"control"
	};

	return names[__builtin_ctz(target)];
}

static long meaning(long arg, long result, const struct victim *v, const struct facts *f)
{
	const long values[] = { result,	 f->other, f->self,  f->any,  f->socket,     f->vm,
				f->vcpu, f->tun,   f->event, f->proc, (long)v->block };

	if (arg >= B(marker))
		return (long)v->block + arg - B(marker);
	return arg >= SPECIAL ? values[arg - SPECIAL] : arg;
}

struct outcome attack_make(const struct attack *a, const struct victim *v, const struct facts *f)
{
	enum inject_abi abi = a->flags & X32  ? INJECT_X32 :
			      a->flags & I386 ? INJECT_I386 :
						INJECT_NATIVE;
	struct outcome o = { INJECT_DONE };
	struct block block = f->block;

	/* Its own pointers. */
	block.argv[0] = v->block + offsetof(struct block, program);
	block.here.iov_base = (char *)v->block + offsetof(struct block, out);
	block.msg.msg_iov = (struct iovec *)(v->block + offsetof(struct block, here));
	block.filter.filter = (struct sock_filter *)(v->block + offsetof(struct block, allow));
	if (!inject_write(v, v->block, &block, sizeof(block)))
		return (struct outcome){ INJECT_DIED };
	for (unsigned i = 0; i < STEPS && a->step[i].nr >= 0; i++) {
		long arg[6], result = o.value;

		for (unsigned k = 0; k < 6; k++)
			arg[k] = meaning(a->step[i].arg[k], result, v, f);
		o = inject_call(v, abi, a->step[i].nr, arg);
		if (o.born)
			inject_kill(o.born);
		if (o.verdict != INJECT_DONE || (o.value < 0 && o.value > -4096))
			break;
	}
	return o;
}

bool attack_refused(const struct outcome *o)
{
	static const int no[] = { EPERM, EACCES, ENOSYS, EROFS, ENOENT, ECONNREFUSED };

	if (o->verdict == INJECT_REFUSED || o->verdict == INJECT_FAULT)
		return true;
	if (o->verdict == INJECT_DIED)
		return WIFSIGNALED(o->status) && WTERMSIG(o->status) == SIGSYS;
	for (unsigned i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		if (o->verdict == INJECT_DONE && o->value == -no[i])
			return true;
	return false;
}

const char *attack_text(const struct outcome *o, char text[40])
{
	if (o->verdict == INJECT_DIED && WIFEXITED(o->status))
		snprintf(text, 40, "ended with %d", WEXITSTATUS(o->status));
	else if (o->verdict == INJECT_DIED)
		snprintf(text, 40, "killed: %s", strsignal(WTERMSIG(o->status)));
	else if (o->verdict == INJECT_DONE && o->value < 0 && o->value > -4096)
		snprintf(text, 40, "%s", strerrorname_np((int)-o->value));
	else if (o->verdict == INJECT_DONE)
		snprintf(text, 40, "%#lx", (unsigned long)o->value);
	else
		snprintf(text, 40, "%s",
			 o->verdict == INJECT_REFUSED ? "SIGSYS" :
			 o->verdict == INJECT_EXEC    ? "a new program" :
							"no such instruction");
	return text;
}
