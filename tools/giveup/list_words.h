/* list_words: the words of the lists of system calls of helper programs (tools/…/X.calls), for tools/mkfilters and the tests. */
#ifndef BANTAM_GIVEUP_LIST_WORDS_H
#define BANTAM_GIVEUP_LIST_WORDS_H

/* What conditions name. */
#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* The processes. */
enum {
	NET_USER = 1,	    /* bantam-net-user: libslirp, on the guest's frames */
	NET_NAMES = 2,	    /* its reader of resolv.conf */
	FS_READER = 4,	    /* bantam-fs: reads file systems */
	IMAGE_LOOKS = 8,    /* bantam image: only reads images */
	IMAGE_MAKES = 16,   /* makes one; its file is open already */
	IMAGE_CHANGES = 32, /* changes one where it is */
	IMAGE = IMAGE_LOOKS | IMAGE_MAKES | IMAGE_CHANGES,
	SEED = 64, /* bantam seed */
};

#endif
