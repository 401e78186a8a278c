# bantam: make            build build/bantam (release: -O2, hardened)
#         make run        install what is missing, build, boot a stock Debian kernel
#         make shell      the same, and a shell in the guest
#         make check      all tests; the last line counts them
#         make bench      measure against QEMU
#         make deps       install packages, nothing else
#         make install    into PREFIX (/usr/local), below DESTDIR; make uninstall removes it
#         make dist       build/bantam-VERSION.tar.xz, the sources of the last commit, and
#                         build/bantam-VERSION-ARCH.tar.xz, a folder that runs on any Linux
#         make deb        build/bantam_VERSION-1_ARCH.deb, a package for Debian
# A make without -j uses all processors; it prints one line for each file, with V=1 the commands.
# STATIC=1 links statically; SAN=address,undefined instruments; WERROR=1 is for CI.
# CROSS=aarch64-linux-gnu- compiles for another processor (make objects, make syntax); there is
# no program to link yet: vmm/arch and boot have a folder for x86_64 only.

ifdef CROSS
CC := $(CROSS)gcc
AR := $(CROSS)ar
# The libraries' headers are the same for every processor; the target's libc goes first.
CPPFLAGS += -idirafter /usr/include
else
CC ?= gcc
endif
STRIP ?= strip
PREFIX ?= /usr/local
ARCH := $(if $(CROSS),$(firstword $(subst -, ,$(shell $(CC) -dumpmachine))),$(shell uname -m))
# The only place of the version: the program, the man pages and the packages take it from here.
VERSION := 0.1

# Below BASE: objects in O, and in B what is linked of them, statically or not. TSan's objects do not go
# with those of the other sanitizers.
BASE := build$(if $(CROSS),/$(ARCH))$(if $(SAN),/$(if $(findstring thread,$(SAN)),tsan,san))
B := $(BASE)$(if $(STATIC),/static)
O := $(BASE)/o

# As many jobs as there are processors, if the user gave no -j and the goals have no order.
NPROC := $(shell nproc 2>/dev/null || echo 1)
ifeq ($(MAKELEVEL)$(filter check bench run shell deps uninstall clean,$(MAKECMDGOALS)),0)
MAKEFLAGS += -j$(NPROC)
endif
# For a make below a goal that has no jobs of its own.
JOBS = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(NPROC))

# A recipe begins with $(call run,WHAT,FILE): that is printed, and with V=1 the whole command instead.
# What needs a header or a library ends with $(or_hint), which names the packages that are missing.
run = $(if $(V:0=),,@$(if $(findstring s,$(firstword -$(MAKEFLAGS))),,printf '  %-7s %s\n' $1 '$2';))
or_hint = || tools/deps --hint $(DEB_BUILD) $(if $(findstring tests/,$<),libcriterion-dev)

DEB_BUILD := gcc make pkg-config libc6-dev liburing-dev libseccomp-dev libjansson-dev \
	libzstd-dev liblzma-dev liblz4-dev zlib1g-dev libdeflate-dev libslirp-dev \
	libext2fs-dev nettle-dev node-llhttp
DEB_RUN := qemu-system-x86 qemu-system-common qemu-utils busybox-static cpio kmod xz-utils zstd lz4 \
	dosfstools mtools e2fsprogs fdisk gdisk python3 dpkg apt
DEB_CHECK := libcriterion-dev clang libclang-rt-14-dev acpica-tools dmidecode fio socat jq git \
	clang-format strace mandoc curl universal-ctags iperf3 tcpdump iproute2 procps btrfs-progs python3-yaml python3-jsonschema \
	mmdebstrap uidmap fakeroot fdisk openssh-client groff-base dpkg-dev lintian \
	gcc-aarch64-linux-gnu libc6-dev-arm64-cross
export DEBIAN_FRONTEND := noninteractive

OPT := $(if $(SAN),-O1 -g -fno-omit-frame-pointer -fsanitize=$(SAN) -fno-sanitize-recover=all,-O2 -g)
HARDEN := -fstack-protector-strong $(if $(filter x86_64,$(ARCH)),-fcf-protection) $(if $(SAN),,-D_FORTIFY_SOURCE=2)
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
	-Wvla -Wno-unused-parameter -Wno-missing-field-initializers $(if $(WERROR),-Werror)
# Debian 12 packs llhttp as sources, which LLHTTP_OBJ compiles; without them it is a library.
LLHTTP ?= /usr/share/llhttp
CPPFLAGS += -idirafter /usr/share/include/llhttp
CPPFLAGS += -I. -D_GNU_SOURCE -DBANTAM_VERSION='"$(VERSION)"'
CFLAGS += -std=gnu17 $(OPT) $(HARDEN) $(WARN) -fPIE -pthread -ffunction-sections -fdata-sections
LDFLAGS += $(if $(STATIC),-static-pie,-pie) -pthread -Wl,-z,relro,-z,now -Wl,--gc-sections \
	-Wl,-z,noexecstack $(if $(SAN),-fsanitize=$(SAN))
# Other libraries are linked statically, libc dynamically: each shared library costs every VM
# start-up time and private pages (tests/bench/startup measures it).
LIBS := -Wl,-Bstatic $(if $(wildcard $(LLHTTP)/*.c),,-lllhttp) -luring -ljansson -lzstd -llzma -llz4 -lz -ldeflate -lnettle $(if $(STATIC),,-Wl,-Bdynamic)

# Sources of all folders; of the folders named after a processor, only the built one's.
SRC := $(sort $(shell find vmm devices boot -name '*.c' | grep -vE '^(vmm/arch|boot)/(x86_64|aarch64)/') \
	$(wildcard vmm/arch/$(ARCH)/*.c boot/$(ARCH)/*.c))
LLHTTP_OBJ := $(patsubst $(LLHTTP)/%.c,$O/llhttp/%.o,$(wildcard $(LLHTTP)/*.c))
OBJ := $(patsubst %.c,$O/%.o,$(filter-out vmm/main.c,$(SRC))) $(LLHTTP_OBJ)
LIB := $(BASE)/libbantam.a
# A helper program is one file, tools/X.c, or a folder of them, tools/X/*.c with a main.c.
TOOL_DIRS := $(patsubst tools/%/main.c,%,$(wildcard tools/*/main.c))
TOOL_FILES := $(filter-out tools/mkfilters.c,$(wildcard tools/*.c))
TOOLS := $(patsubst tools/%.c,$B/%,$(TOOL_FILES)) $(addprefix $B/,$(TOOL_DIRS))

all: $B/bantam $(TOOLS) guests

# The system call filters of threads (vmm/confine) and helpers (tools/giveup), made by libseccomp of the lists that lie
# beside the code. The program that makes them runs here, so it is none of the target's.
GEN := build$(if $(CROSS),/$(ARCH))/gen
FILTERS := $(GEN)/filters.inc
HELPER_FILTERS := $(GEN)/helper_filters.inc
CPPFLAGS += -I$(GEN)
CALLS := $(sort $(shell find vmm devices boot -name '*.calls' | grep -vE '^(vmm/arch|boot)/(x86_64|aarch64)/') \
	$(wildcard vmm/arch/$(ARCH)/*.calls))
HELPER_CALLS := $(sort $(wildcard tools/*/*.calls))
HOSTCC := $(if $(CROSS),cc,$(CC))
$(GEN)/mkfilters: tools/mkfilters.c vmm/confine/filter_table.h vmm/confine/list_words.h vmm/core/calls.h vmm/core/thread.h \
		tools/giveup/list_words.h $(CALLS) $(HELPER_CALLS) Makefile
	@mkdir -p $(@D)
	@printf '#include "%s"\n' $(CALLS) >$(GEN)/calls.inc
	@printf '#include "%s"\n' $(HELPER_CALLS) >$(GEN)/helper_calls.inc
	$(call run,HOSTCC,$@)$(HOSTCC) -O1 -Wall -Wextra -D_GNU_SOURCE -I. -I$(GEN) -o $@ $< -lseccomp $(or_hint)
$(FILTERS): $(GEN)/mkfilters
	$(call run,FILTERS,$@)$< $(ARCH) >$@.part && mv $@.part $@
$(HELPER_FILTERS): $(GEN)/mkfilters
	$(call run,FILTERS,$@)$< $(ARCH) --helpers >$@.part && mv $@.part $@
$O/tools/giveup/filters.o $O/tests/unit/test_giveup_lists.o: $(HELPER_FILTERS)
$O/vmm/confine/filter.o build/fuzz/o/vmm/confine/filter.o $O/tests/unit/test_confine_filter.o $O/tools/mkfilters.o: $(FILTERS)

# Everything that is compiled for the processor, without linking; syntax checks it and writes nothing.
TOOL_SRC := $(TOOL_FILES) $(wildcard tools/giveup/*.c) $(foreach dir,$(TOOL_DIRS),$(wildcard tools/$(dir)/*.c))
objects: $(patsubst %.c,$O/%.o,$(SRC) $(TOOL_SRC))
syntax: $(FILTERS) $(HELPER_FILTERS)
	@printf '%s\n' $(SRC) $(TOOL_SRC) | xargs -P 2 -n 16 $(CC) $(CPPFLAGS) $(CFLAGS) -fsyntax-only

# The objects in this order, not as the archive gives them: what a plain run uses is together, and the
# API and the test behind it, so that a plain VM has none of their pages.
API_OBJ := $(filter $O/vmm/usage/% $O/vmm/kernels/% $O/vmm/shell/% $O/vmm/test/% $O/vmm/agent/% $O/vmm/verdict/% $O/boot/pack/% $O/vmm/api/% $O/vmm/http/% $O/vmm/vm/% $O/vmm/vmconfig/% $O/vmm/digest/% $O/llhttp/%,$(OBJ))
$B/bantam: $O/vmm/main.o $(filter-out $(API_OBJ),$(OBJ)) $(API_OBJ)
	@mkdir -p $(@D)
	$(call run,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS) $(or_hint)

$(LIB): $(OBJ)
	@rm -f $@
	$(call run,AR,$@)$(AR) rcsP $@ $^

$O/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call run,CC,$<)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $< $(or_hint)

# Not ours: compiled where it is, without warnings. Strict: as all later versions are.
LLHTTP_FLAGS := $(CPPFLAGS) -DLLHTTP_STRICT_MODE=1
$O/llhttp/%.o: $(LLHTTP)/%.c Makefile
	@mkdir -p $(@D)
	$(call run,CC,$<)$(CC) $(LLHTTP_FLAGS) $(filter-out $(WARN),$(CFLAGS)) -w -c -o $@ $<

# Libraries that only one helper needs; some of them it links dynamically.
LIBS_bantam-fs := -Wl,-Bstatic -lext2fs -lcom_err $(if $(STATIC),,-Wl,-Bdynamic)
.SECONDEXPANSION:
# What those that read foreign bytes share.
GIVEUP := $(patsubst %.c,$O/%.o,$(wildcard tools/giveup/*.c))
tool_objs = $(patsubst %.c,$O/%.o,$(wildcard tools/$1.c tools/$1/*.c)) $(if $(filter bantam-fs bantam-image bantam-net-user bantam-seed,$1),$(GIVEUP))
$(filter-out $B/bantam-net-user,$(TOOLS)): $B/%: $$(call tool_objs,$$*) $(LIB)
	@mkdir -p $(@D)
	$(call run,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS) $(LIBS_$*) $(or_hint)
# A separate program, so that no VM links libslirp and glib. Debian has no static libslirp.
$B/bantam-net-user: $(call tool_objs,bantam-net-user) $(LIB)
	@mkdir -p $(@D)
	$(call run,LINK,$@)$(CC) $(filter-out -static-pie,$(LDFLAGS)) $(if $(STATIC),-pie) -o $@ $^ -lslirp $(or_hint)

# --- guest programs: freestanding, no libc ----------------------------------
GUEST_CFLAGS := -std=gnu17 -O2 -g -ffreestanding -nostdlib -static -fno-stack-protector -fno-pic \
	-no-pie -fcf-protection=none -mno-red-zone -Wall -Wextra -Wno-unused-parameter -I. -Wl,--build-id=none -Wl,-z,noexecstack
BARE := $(patsubst guest/bare/%.c,build/guest/%.elf,$(wildcard guest/bare/*.c))
INIT := $(patsubst guest/%.c,build/guest/%,$(wildcard guest/*.c))
guests: $(BARE) $(INIT)

# The runtime is an archive, so a guest links only the parts that it uses.
BARE_RT := $(patsubst %,build/guest/o/%.o,$(notdir $(wildcard guest/bare/lib/*.[cS])))
build/guest/o/%.o: guest/bare/lib/% $(wildcard guest/bare/lib/*.h) Makefile
	@mkdir -p $(@D)
	$(call run,GUEST,$<)$(CC) $(GUEST_CFLAGS) -mgeneral-regs-only -c -o $@ $<
build/guest/librt.a: $(BARE_RT)
	@rm -f $@
	$(call run,AR,$@)$(AR) rcs $@ $^
build/guest/%.elf: guest/bare/%.c build/guest/librt.a guest/bare/guest.ld
	@mkdir -p $(@D)
	$(call run,GUEST,$<)$(CC) $(GUEST_CFLAGS) -mgeneral-regs-only -T guest/bare/guest.ld -o $@ $< \
		build/guest/o/start.S.o build/guest/librt.a

build/guest/%: guest/%.c $(wildcard guest/*.h) Makefile
	@mkdir -p $(@D)
	$(call run,GUEST,$<)$(CC) $(GUEST_CFLAGS) -o $@ $<

# The programs that the program itself carries.
build/guest/%.stripped: build/guest/%
	$(call run,STRIP,$@)$(STRIP) -s -o $@ $<
ifndef CROSS
$O/boot/pack/programs.o build/fuzz/o/boot/pack/programs.o: build/guest/init.stripped build/guest/agent.stripped
endif

# --- tests -----------------------------------------------------------------
UNIT := $(patsubst tests/unit/%.c,$B/unit/%,$(wildcard tests/unit/test_*.c))
UNIT_COMMON := $(patsubst %.c,$O/%.o,$(filter-out $(wildcard tests/unit/test_*.c) tests/unit/fake_machine.c,$(wildcard tests/unit/*.c)))
unit: $(UNIT)
# What they test is optimised as everywhere; the tests themselves compile in half the time without.
$O/tests/unit/%.o: private CFLAGS += $(if $(findstring address,$(SAN)),-O0 -g1)
# Criterion finds tests by a section without references, which --gc-sections would drop.
$B/unit/%: $O/tests/unit/%.o $(UNIT_COMMON) $(LIB)
	@mkdir -p $(@D)
	$(call run,LINK,$@)$(CC) $(LDFLAGS) -Wl,--no-gc-sections -o $@ $(filter %.o,$^) $(filter %.a,$^) -lcriterion $(LIBS) $(or_hint)

# Wrapped calls, which fail when the test says so.
$B/unit/test_qcow2_faults: private LDFLAGS += \
	-Wl,--wrap=syscall,--wrap=fallocate,--wrap=ftruncate,--wrap=fdatasync \
	-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc

$B/unit/test_chardev_pool: private LDFLAGS += -Wl,--wrap=inotify_init1
$B/unit/test_chardev: private LDFLAGS += -Wl,--wrap=inotify_add_watch

# They make filters of their own.
$B/unit/test_disk_raw $B/unit/test_huge_file: private LIBS += -lseccomp

# A read that hangs while the test wants it to.
$B/unit/test_api_digest: private LDFLAGS += -Wl,--wrap=read

# A program of the guest that this test runs.
$B/unit/test_agent_guest: | build/guest/agent

# The command bantam test with a script in place of its machine, whose object stands before the library.
$B/unit/test_test: | $O/tests/unit/fake_machine.o build/guest/agent build/guest/hello.elf
$B/unit/test_test: private LDFLAGS += $O/tests/unit/fake_machine.o

# The parts of a helper program that its test links: all but main.c.
$B/unit/test_seed $B/unit/test_seed_document: $(patsubst %.c,$O/%.o,$(filter-out %/main.c,$(wildcard tools/bantam-seed/*.c))) $(GIVEUP)

# Calls of the C library that the helper's own take the place of, in the test too.
$B/unit/test_net_sockets: $(patsubst %,$O/tools/bantam-net-user/%.o,addresses calls confine memory names resolver sockets) $(GIVEUP)

$B/unit/test_giveup: $(patsubst %,$O/tools/%.o,$(addprefix bantam-net-user/,addresses calls confine memory names resolver sockets) bantam-fs/confine $(addprefix bantam-image/,args confine image) bantam-seed/confine) $(GIVEUP)

$B/unit/test_giveup_lists: $(GIVEUP)

$B/unit/test_net_probe: $O/tools/bantam-net-user/probe.o

$B/unit/test_net_backlog: $(patsubst %,$O/tools/bantam-net-user/%.o,backlog queue_end)
$B/unit/test_net_backlog: private LDFLAGS += -Wl,--wrap=malloc

# Threads against threads: what changes while vCPUs run, in a program that TSan can run.
THREADS := $B/tests/threads
threads: $(THREADS)
$(THREADS): $(patsubst %.c,$O/%.o,$(wildcard tests/threads/*.c) $(patsubst %,tests/unit/%.c,plug_threads console_threads vm_stress)) $(LIB)
	@mkdir -p $(@D)
	$(call run,LINK,$@)$(CC) $(LDFLAGS) -Wl,--wrap=pthread_clockjoin_np -o $@ $^ $(LIBS)

# Randomised tests of qcow2; through these wrappers power.c sees every write to the image.
TORTURE := $B/tests/qcow2-torture
TORTURE_WRAP := -Wl,--wrap=syscall,--wrap=pwrite,--wrap=pwritev,--wrap=pwritev2,--wrap=fallocate,--wrap=ftruncate,--wrap=fdatasync
torture: $(TORTURE)
$(TORTURE): $(patsubst %.c,$O/%.o,$(wildcard tests/qcow2/*.c)) $(LIB)
	@mkdir -p $(@D)
	$(call run,LINK,$@)$(CC) $(LDFLAGS) $(TORTURE_WRAP) -o $@ $^ $(LIBS)

# Calls of an attacker in each thread of a VM and in each helper. Requests whose data another processor has do not compile.
REQUESTS := $(GEN)/requests.inc
$(REQUESTS): Makefile
	@mkdir -p $(@D)
	@printf '#include <linux/%s.h>\n' kvm if_tun vhost | $(CC) -E -dM - | grep -E '^#define (KVM|TUN|VHOST)[A-Z0-9_]* _IO' | \
		awk '$$2 !~ /ARM|PPC|S390|SPAPR|RMA|HTAB|RTAS|RISCV|LOONG|XICS/ { print "{ \"" $$2 "\", " $$2 " }," }' >$@
$O/tests/attack/sweep.o: $(REQUESTS)
ATTACK := $B/tests/attack
attack: $(ATTACK) build/attack/holed
$(ATTACK): $(patsubst %.c,$O/%.o,$(wildcard tests/attack/*.c))
	@mkdir -p $(@D)
	$(call run,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^

# A program with a hole, by which a guest runs code of its own in the monitor. Only tests run it; nothing installs it.
build/attack/holed: $O/tests/attack/hole/hole.o $O/vmm/main.o $(filter-out $(API_OBJ),$(OBJ)) $(API_OBJ)
	@mkdir -p $(@D)
	$(call run,LINK,$@)$(CC) $(LDFLAGS) -Wl,--wrap=pvpanic_create -o $@ $^ $(LIBS) $(or_hint)

# A client of the API that behaves like those of other people, for tests/integration/api.
API_CLIENT := $B/tests/api-client
api-client: $(API_CLIENT)
$(API_CLIENT): $(patsubst %.c,$O/%.o,$(wildcard tests/api/*.c))
	@mkdir -p $(@D)
	$(call run,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

# libFuzzer targets; each links a clang build of all sources and the fakes.
FUZZ := $(patsubst tests/fuzz/%.c,build/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_FLAGS := -g -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
FUZZ_OBJ := $(patsubst %.c,build/fuzz/o/%.o,$(filter-out vmm/main.c,$(SRC))) $(LLHTTP_OBJ:$O/%=build/fuzz/o/%)
FUZZ_COMMON := $(patsubst %.c,build/fuzz/o/%.o,tests/unit/fake_disk.c tests/unit/fake_net.c \
	tests/unit/fat_reader.c \
	$(filter-out $(wildcard tests/fuzz/fuzz_*.c),$(wildcard tests/fuzz/*.c)))
fuzz: $(FUZZ)
build/fuzz/o/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call run,FUZZ,$<)clang $(CPPFLAGS) -std=gnu17 $(FUZZ_FLAGS) -pthread -MMD -MP -c -o $@ $<
build/fuzz/o/llhttp/%.o: $(LLHTTP)/%.c Makefile
	@mkdir -p $(@D)
	$(call run,FUZZ,$<)clang $(LLHTTP_FLAGS) -std=gnu17 $(FUZZ_FLAGS) -pthread -w -c -o $@ $<
build/fuzz/libbantam.a: $(FUZZ_OBJ)
	@rm -f $@
	$(call run,AR,$@)ar rcsP $@ $^
build/fuzz/%: build/fuzz/o/tests/fuzz/%.o $(FUZZ_COMMON) build/fuzz/libbantam.a
	$(call run,FUZZ,$@)clang -fsanitize=fuzzer,address,undefined -pthread -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS)
# The part of a helper program that its fuzz target links.
build/fuzz/fuzz_net_queues: $(patsubst %,build/fuzz/o/tools/bantam-net-user/%.o,queue_end backlog)
build/fuzz/fuzz_net_queues: private LIBS += -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc

check: deps
	tests/check

# A make of its own after deps: what is installed decides how llhttp is linked.
bench: deps
	@$(MAKE) --no-print-directory $(JOBS) all
	tests/bench/run

run: deps
	@$(MAKE) --no-print-directory $(JOBS) all
	@tools/demo

shell: deps
	@$(MAKE) --no-print-directory $(JOBS) all
	@tools/shell

deps:
	@tools/deps $(DEB_BUILD) $(DEB_RUN) $(DEB_CHECK)

fmt:
	clang-format -i $$(tools/sources)
	tools/wrapman vmm/*.1 tools/*/*.1

# --- installing and packing ------------------------------------------------
# Man pages are readable in the tree; installed ones name the version.
MAN := $(patsubst %.1,$B/man/%.1,$(notdir $(wildcard vmm/*.1 tools/*/*.1)))
vpath %.1 vmm $(wildcard tools/*/)
$B/man/%.1: %.1 Makefile
	@mkdir -p $(@D)
	sed 's/^\.Os bantam$$/.Os bantam $(VERSION)/' $< >$@
$B/man/bantam-api.1: vmm/bantam-api.1 tools/mkapiman tools/wrapman $B/bantam Makefile
	@mkdir -p $(@D)
	BANTAM=$(or $(BANTAM),$B/bantam) tools/mkapiman >$@.part
	sed 's/^\.Os bantam$$/.Os bantam $(VERSION)/' $@.part >$@
	rm $@.part

HELPERS := $(filter $B/bantam-%,$(TOOLS))

# This and bantam-api.1 are made from the programs' --help; in a cross build, BANTAM names a bantam that
# runs on this host.
COMPLETION := $B/completion/bantam
$(COMPLETION): $B/bantam $(HELPERS) tools/mkcompletion tools/list-options
	@mkdir -p $(@D)
	BANTAM=$(or $(BANTAM),$B/bantam) tools/mkcompletion >$@.part
	mv $@.part $@

# The API for generators of clients; made as the completion is.
OPENAPI := $B/openapi.json
$(OPENAPI): $B/bantam
	$(or $(BANTAM),$B/bantam) api --openapi >$@.part
	mv $@.part $@

ROOT := $(DESTDIR)$(PREFIX)
INSTALLED := bin/bantam $(addprefix libexec/bantam/,$(notdir $(HELPERS))) \
	$(addprefix share/man/man1/,$(notdir $(MAN))) share/bash-completion/completions/bantam share/bantam/openapi.json

install: $B/bantam $(HELPERS) $(MAN) $(COMPLETION) $(OPENAPI)
	install -d $(addprefix $(ROOT)/,$(sort $(dir $(INSTALLED))))
	install -m 755 $B/bantam $(ROOT)/bin
	install -m 755 $(HELPERS) $(ROOT)/libexec/bantam
	install -m 644 $(MAN) $(ROOT)/share/man/man1
	install -m 644 $(COMPLETION) $(ROOT)/share/bash-completion/completions
	install -m 644 $(OPENAPI) $(ROOT)/share/bantam

uninstall:
	rm -f $(addprefix $(ROOT)/,$(INSTALLED))
	for dir in libexec share; do [ ! -d $(ROOT)/$$dir/bantam ] || \
		rmdir --ignore-fail-on-non-empty $(ROOT)/$$dir/bantam; done

# The same commit gives the same bytes.
DIST := build/bantam-$(VERSION).tar
dist:
	@[ -e .git ] || { echo "make dist: packs a commit; this folder is no git checkout" >&2; exit 1; }
	@git diff --quiet HEAD -- || echo "make dist: packs the last commit without the changes since" >&2
	@mkdir -p build
	git archive --prefix=bantam-$(VERSION)/ -o $(DIST) HEAD
	xz -6 -T1 -f $(DIST)
	@$(MAKE) --no-print-directory $(JOBS) dist-static

# One folder that runs on any Linux of this processor, of the sources as they are here.
DIST_STATIC := bantam-$(VERSION)-$(ARCH)
dist-static:
	rm -rf build/dist
	$(MAKE) --no-print-directory $(JOBS) STATIC=1 install DESTDIR=$(CURDIR)/build/dist/$(DIST_STATIC) PREFIX=
	tools/dist build/dist/$(DIST_STATIC) build/$(DIST_STATIC).tar.xz $(LINKED)

# All libraries except libslirp are linked statically, and libseccomp only into what makes the filters; make dist-static
# adds the C library's.
LINKED := $(filter-out libc6-dev libslirp-dev libseccomp-dev,$(filter %-dev node-llhttp,$(DEB_BUILD)))
deb:
	rm -rf build/deb build/bantam_*.deb
	$(MAKE) install DESTDIR=$(CURDIR)/build/deb/root PREFIX=/usr
	tools/deb/build $(VERSION) $(LINKED)

clean:
	rm -rf build

-include $(shell find $O build/fuzz/o -name '*.d' 2>/dev/null)
.PHONY: all objects syntax guests unit threads torture attack api-client fuzz check bench run shell deps fmt install uninstall dist dist-static deb clean
.SECONDARY:
