/* programs: see programs.h. The Makefile makes build/guest/NAME.stripped before it compiles this. */
#include "boot/pack/programs.h"

#include <errno.h>

#ifdef __x86_64__
/* clang-format off */
__asm__(".pushsection .guest_programs, \"a\", @progbits\n"
	".balign 64\n"
	"pack_init_begin:\n"
	".incbin \"build/guest/init.stripped\"\n"
	"pack_init_end:\n"
	".balign 64\n"
	"pack_agent_begin:\n"
	".incbin \"build/guest/agent.stripped\"\n"
	"pack_agent_end:\n"
	".popsection\n");
/* clang-format on */

extern const char pack_init_begin[], pack_init_end[], pack_agent_begin[], pack_agent_end[];

const void *pack_program(enum pack_program program, size_t *len_bytes)
{
	if (program == PACK_INIT) {
		*len_bytes = (size_t)(pack_init_end - pack_init_begin);
		return pack_init_begin;
	}
	*len_bytes = (size_t)(pack_agent_end - pack_agent_begin);
	return pack_agent_begin;
}
#else
const void *pack_program(enum pack_program program, size_t *len_bytes)
{
	*len_bytes = 0;
	return NULL;
}
#endif

int pack_add_program(struct pack *pack, const char *name, enum pack_program program,
		     struct err *err)
{
	size_t len;
	const void *data = pack_program(program, &len);

	return data ? pack_add_bytes(pack, name, 0755, data, len, err) :
		      err_set(err, ENOTSUP, "this build carries no programs for guests");
}
