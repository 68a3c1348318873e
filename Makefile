# SPDX-License-Identifier: MIT
# Penstock: library, tool, tests. `make help` lists the targets.
VERSION := 0.1.0
SOVERSION := $(firstword $(subst ., ,$(VERSION)))

O ?= build
# What ./configure found; without it the defaults below.
-include $(O)/config.mk

ifeq ($(SAN),1)
B := $(O)/san
SANFLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
else ifeq ($(SAN),thread)
B := $(O)/tsan
SANFLAGS := -fsanitize=thread
else ifeq ($(SAN),fuzz)
B := $(O)/fuzz
CC := $(or $(CLANG),clang)
SANFLAGS := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
else
B := $(O)
endif

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
BINDIR ?= $(PREFIX)/bin
INCLUDEDIR ?= $(PREFIX)/include
DATADIR ?= $(PREFIX)/share
CXX ?= g++
CLANG ?= clang
ifeq ($(origin CC),default)
CC := gcc
endif

WARN := -Wall -Wextra -Wmissing-prototypes -Wstrict-prototypes -Wvla -Wshadow -Wno-unused-parameter
WERROR ?=
CPPFLAGS += -D_GNU_SOURCE -Iruntime/include -Ikernels
# Sanitizers at -O2 take the compiler minutes for the vector kernels.
CFLAGS ?= $(if $(SANFLAGS),-O1,-O2) -g
BASE_CFLAGS = -std=gnu11 $(WARN) -fvisibility=hidden -fPIC -pthread $(SANFLAGS) $(CFLAGS)
ALL_CFLAGS = $(BASE_CFLAGS) $(if $(WERROR),-Werror)
LIBS := -luring -lnuma -lyajl -lxxhash -lm -lpthread

RUNTIME_SRC := $(wildcard runtime/*.c)
KERNEL_SRC := $(wildcard kernels/*.c kernels/ref/*.c kernels/cpu/*.c)
TOOL_SRC := $(wildcard tools/*.c tools/*/*.c)
TEST_SRC := $(wildcard tests/unit/test_*.c tests/flow/test_*.c)
EXAMPLE_SRC := $(wildcard Documentation/examples/*.c)
PUBLIC_HDR := $(wildcard runtime/include/penstock/*.h) kernels/kabi.h
MAN1 := $(wildcard Documentation/man/*.1)

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
LIB_OBJ := $(call obj,$(RUNTIME_SRC) $(KERNEL_SRC))
GGML_OBJ := $(call obj,$(wildcard runtime/ggml/*.c))
TOOL_OBJ := $(call obj,$(TOOL_SRC))
TESTS := $(patsubst %.c,$(B)/%,$(TEST_SRC))
EXAMPLES := $(patsubst Documentation/examples/%.c,$(B)/examples/%,$(EXAMPLE_SRC))
# Flow tests of the tool itself are scripts that print TAP.
TEST_SCRIPTS := $(wildcard tests/flow/test_*.sh)
LINTS := $(wildcard tests/lint/*.sh)

comma := ,
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' $(1) $(patsubst $(B)/%,%,$@))

.PHONY: all lib tool tests examples driver check vm-programs check-vm fuzz lint install uninstall check-install deb deb-modules check-deb check-vm-package uapi-doc demo bench llama check-llama clean help FORCE
.DEFAULT_GOAL := all

## all: the library and the tool, into build/ (O=DIR elsewhere, V=1 shows commands, WERROR=1, CC=clang)
all: lib tool

lib: $(B)/libpenstock.a $(B)/libpenstock.so $(B)/libggml-penstock.so
tool: $(if $(wildcard tools/penstock.c),$(B)/penstock)
tests: $(TESTS) examples
examples: $(EXAMPLES)

# Vector kernels are compiled for their instruction set, and chosen at run time.
$(B)/obj/kernels/cpu/%_avx2.o: ISAFLAGS := -mavx2 -mfma -mf16c
$(B)/obj/kernels/cpu/%_avxvnni.o: ISAFLAGS := -mavx2 -mfma -mf16c -mavxvnni
$(B)/obj/kernels/cpu/%_avx512.o: ISAFLAGS := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq
$(B)/obj/kernels/cpu/%_avx512bf16.o: ISAFLAGS := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16 -mavx512vnni
# AVX_VNNI came after AVX-512's; CPUs without AVX-512 have it.
# One order of summation, one rounding an operation: bits do not depend on the compiler's taste.
# A variable of its own: of several patterns that match, the last one set wins.
$(B)/obj/kernels/%.o: FPFLAGS := -ffp-contract=off

# Other flags, other objects: this file changes only when the command does.
$(B)/flags: FORCE
	$(Q)mkdir -p $(@D)
	$(Q)echo '$(CC) $(CPPFLAGS) $(BASE_CFLAGS) $(LDFLAGS)' | cmp -s - $@ || echo '$(CC) $(CPPFLAGS) $(BASE_CFLAGS) $(LDFLAGS)' >$@

# The version is here; the header must say the same.
$(B)/version.ok: Makefile runtime/include/penstock/version.h
	$(Q)mkdir -p $(@D)
	$(Q)printf '#include <penstock/version.h>\nPENSTOCK_VERSION_MAJOR.PENSTOCK_VERSION_MINOR.PENSTOCK_VERSION_PATCH PENSTOCK_VERSION' | \
		$(CC) -E -P -Iruntime/include - | tr -d '" \n' | grep -qxF '$(VERSION)$(VERSION)' || \
		{ echo "version.h and the Makefile ($(VERSION)) differ" >&2; exit 1; }
	$(Q)touch $@

$(B)/obj/%.o: %.c $(B)/flags | $(B)/version.ok
	$(call say,CC)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) $(ISAFLAGS) $(FPFLAGS) -MMD -MP -c -o $@ $<

$(B)/libpenstock.a: $(LIB_OBJ)
	$(call say,AR)
	$(Q)rm -f $@
	$(Q)ar rcs $@ $^

$(B)/libpenstock.so.$(VERSION): $(LIB_OBJ) runtime/penstock.map
	$(call say,LD)
	$(Q)$(CC) -shared $(if $(SANFLAGS),,-Wl$(comma)-z$(comma)defs) -Wl,-soname,libpenstock.so.$(SOVERSION) -Wl,--version-script=runtime/penstock.map \
		$(ALL_CFLAGS) $(LDFLAGS) -o $@ $(LIB_OBJ) $(LIBS)

$(B)/libpenstock.so: $(B)/libpenstock.so.$(VERSION)
	$(Q)ln -sf libpenstock.so.$(VERSION) $(B)/libpenstock.so.$(SOVERSION)
	$(Q)ln -sf libpenstock.so.$(SOVERSION) $@

# llama.cpp loads it by its path, so that it carries the library; ggml's own functions it finds in the process.
$(B)/libggml-penstock.so: $(GGML_OBJ) $(B)/libpenstock.a
	$(call say,LD)
	$(Q)$(CC) -shared $(if $(SANFLAGS),,-Wl$(comma)-z$(comma)defs) -Wl,--exclude-libs,ALL \
		$(ALL_CFLAGS) $(LDFLAGS) -o $@ $(GGML_OBJ) $(B)/libpenstock.a $(LIBS)

# Commands are linked as they are; what they use, as needed.
$(B)/penstock: $(filter-out $(B)/obj/tools/decoder/%,$(TOOL_OBJ)) $(B)/libtool.a $(B)/libpenstock.a
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

# The commands without main(), for tests of them.
$(B)/libtool.a: $(filter-out $(B)/obj/tools/penstock.o,$(TOOL_OBJ))
	$(call say,AR)
	$(Q)rm -f $@
	$(Q)ar rcs $@ $^

$(B)/tests/%: tests/%.c $(B)/libtool.a $(B)/libpenstock.a
	$(call say,TEST)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -Itests -Iruntime -Itools $(ALL_CFLAGS) $(LDFLAGS) -MMD -MP -o $@ $< $(B)/libtool.a $(B)/libpenstock.a $(LIBS)

# As a user compiles them: public headers only.
$(B)/examples/%: Documentation/examples/%.c $(B)/libpenstock.a
	$(call say,EXAMPLE)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -Iruntime/include -std=gnu11 $(WARN) $(if $(WERROR),-Werror) $(SANFLAGS) $(CFLAGS) $(LDFLAGS) \
		-MMD -MP -o $@ $< $(B)/libpenstock.a $(LIBS)

## driver: the kernel modules, into build/driver/KERNEL/ (KDIR=headers, WERROR=1, SPARSE=1, FAKE_NV=1, NV_SYMVERS=file, ONLY=driver/x.o)
KDIR ?= /lib/modules/$(shell uname -r)/build
export W WERROR SPARSE FAKE_NV NV_SYMVERS PRETEND ONLY
driver:
	+$(Q)MAKE='$(MAKE)' driver/build.sh '$(KDIR)' '$(O)/driver' $(if $(V),V=1)

## check: build and run all tests that need no root, GPU or module (SAN=1: ASan + UBSan, SAN=thread: TSan)
check: all tests
	$(Q)$(if $(filter thread,$(SAN)),TSAN_OPTIONS='suppressions=$(CURDIR)/tests/tsan.supp' )tests/run.sh $(B) $(TESTS) $(TEST_SCRIPTS)

# Guests' programs: ours with the library, those of kselftest plain C as in a kernel's tree.
VM_PROGRAMS := $(patsubst tests/vm/guest/%.c,$(B)/vm/bin/%,$(wildcard tests/vm/guest/*.c)) \
	$(patsubst tests/kselftest/%.c,$(B)/vm/bin/%,$(wildcard tests/kselftest/*.c))
# Without libraries of 32 bits (Debian: gcc-multilib) their tests are skipped in the guest.
HAVE_M32 = $(shell printf 'int main(void) { return 0; }' | $(CC) -m32 -static -x c -o /dev/null - 2>/dev/null && echo 1)

$(B)/vm/bin/%: tests/vm/guest/%.c $(B)/libtool.a $(B)/libpenstock.a
	$(call say,VM)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -Iuapi -Itests -Iruntime -Itools $(ALL_CFLAGS) $(LDFLAGS) -MMD -MP -o $@ $< \
		$(B)/libtool.a $(B)/libpenstock.a $(LIBS)

# A caller of 32 bits has 32 in its name.
$(B)/vm/bin/%: tests/kselftest/%.c
	$(call say,VM)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(if $(findstring 32,$*),-m32 -static) -D_GNU_SOURCE -Iuapi -Itests/kselftest -std=gnu11 $(WARN) \
		$(if $(WERROR),-Werror) -O2 -g -pthread -MMD -MP -o $@ $<

## vm-programs: what make check-vm runs in its guests
vm-programs: all $(if $(HAVE_M32),$(VM_PROGRAMS),$(filter-out %32,$(VM_PROGRAMS)))

## check-vm: boot test machines under QEMU and run their tests in them, no root needed (LANES="a b", JOBS=1)
check-vm: vm-programs
	$(Q)tests/vm/test_bench.py
	$(Q)PENSTOCK_BUILD=$(B) tests/vm/vm.py $(if $(JOBS),--jobs $(JOBS)) $(LANES)

## llama: a llama.cpp from the Python registry, built outside of this tree, ten minutes once; prints its folder (GGML=version)
llama:
	@tests/llama/build.sh $(GGML)

## check-llama: the backend in a llama.cpp (make llama): its declarations, its operations, equal output
check-llama: lib
	$(Q)tests/run.sh $(B) $(wildcard tests/llama/test_*.sh)

# A fuzz target: one file, with libFuzzer's main().
FUZZ_SECONDS ?= 60
FUZZERS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))

# What is fuzzed reads files and plans reads: the runtime without the kernels.
$(B)/libfuzz.a: $(call obj,$(RUNTIME_SRC) kernels/dtype.c)
	$(call say,AR)
	$(Q)rm -f $@
	$(Q)ar rcs $@ $^

$(B)/fuzz_%: tests/fuzz/fuzz_%.c $(B)/libfuzz.a
	$(call say,FUZZ)
	$(Q)$(CC) -DFUZZING $(CPPFLAGS) -Itests -Iruntime $(ALL_CFLAGS) -fsanitize=fuzzer $(LDFLAGS) -MMD -MP -o $@ $< \
		$(B)/libfuzz.a $(LIBS)

## fuzz: each target of tests/fuzz for FUZZ_SECONDS (60), with clang; new inputs stay in build/fuzz/corpus
fuzz:
ifeq ($(SAN),fuzz)
	$(Q)$(MAKE) SAN=fuzz $(FUZZERS:%=$(B)/fuzz_%)
	$(Q)for f in $(FUZZERS); do mkdir -p $(B)/corpus/$$f && nice -n 15 $(B)/fuzz_$$f -max_total_time=$(FUZZ_SECONDS) \
		-max_len=16384 -timeout=10 -rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix=$(B)/$$f- $(B)/corpus/$$f \
		$$(ls -d tests/fuzz/corpus/$$f 2>/dev/null) || exit 1; done
else
	$(Q)$(MAKE) SAN=fuzz fuzz
endif

## lint: includes, exports, headers alone, SPDX, sizes, words, scripts, documents, -Werror with gcc and clang
lint: all
	$(Q)CC='$(CC)' CXX='$(CXX)' CLANG='$(CLANG)' tests/run.sh $(B) $(LINTS)

$(B)/penstock.pc: packaging/penstock.pc.in Makefile FORCE
	$(Q)mkdir -p $(@D)
	$(Q)sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
		-e 's|@VERSION@|$(VERSION)|' -e 's|@LIBS@|$(LIBS)|' $< >$@

## install: library, backend for llama.cpp, headers, pkg-config file, tool, man page, completion (PREFIX, LIBDIR, DESTDIR)
install: all $(B)/penstock.pc
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(LIBDIR)/penstock $(DESTDIR)$(INCLUDEDIR)/penstock $(DESTDIR)$(BINDIR) \
		$(DESTDIR)$(DATADIR)/man/man1 $(DESTDIR)$(DATADIR)/bash-completion/completions
	install -m 644 $(B)/libpenstock.a $(DESTDIR)$(LIBDIR)
	install -m 755 $(B)/libpenstock.so.$(VERSION) $(DESTDIR)$(LIBDIR)
	ln -sf libpenstock.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libpenstock.so.$(SOVERSION)
	ln -sf libpenstock.so.$(SOVERSION) $(DESTDIR)$(LIBDIR)/libpenstock.so
	install -m 755 $(B)/libggml-penstock.so $(DESTDIR)$(LIBDIR)/penstock
	install -m 644 $(PUBLIC_HDR) $(DESTDIR)$(INCLUDEDIR)/penstock
	install -m 644 $(B)/penstock.pc $(DESTDIR)$(LIBDIR)/pkgconfig
	install -m 755 $(B)/penstock $(DESTDIR)$(BINDIR)
	$(if $(MAN1),install -m 644 $(MAN1) $(DESTDIR)$(DATADIR)/man/man1)
	install -m 644 packaging/penstock.bash $(DESTDIR)$(DATADIR)/bash-completion/completions/penstock

## uninstall: take all of that away again
uninstall:
	rm -f $(DESTDIR)$(LIBDIR)/libpenstock.a $(DESTDIR)$(LIBDIR)/libpenstock.so* \
		$(DESTDIR)$(LIBDIR)/pkgconfig/penstock.pc $(DESTDIR)$(BINDIR)/penstock \
		$(addprefix $(DESTDIR)$(DATADIR)/man/man1/,$(notdir $(MAN1))) \
		$(DESTDIR)$(DATADIR)/bash-completion/completions/penstock
	rm -rf $(DESTDIR)$(INCLUDEDIR)/penstock $(DESTDIR)$(LIBDIR)/penstock

## check-install: install into a temporary prefix; compile and run C and C++ programs against it
check-install: all
	$(Q)CC='$(CC)' CXX='$(CXX)' MAKE='$(MAKE)' tests/run.sh $(B) tests/install/check.sh

## deb: Debian packages into build/deb/: penstock, penstock-common, penstock-dkms
deb: all
	$(Q)MAKE='$(MAKE)' O='$(O)' packaging/deb.sh $(VERSION) $(O)/deb tool common dkms

## deb-modules: a Debian package of the modules for one kernel (KDIR=headers), into build/deb/
deb-modules: driver
	$(Q)packaging/deb.sh $(VERSION) $(O)/deb modules '$(KDIR)' "$(O)/driver/$$(driver/build.sh --key '$(KDIR)')"

## check-deb: build all packages, look into them, build the modules by DKMS for the kernels whose headers are here
check-deb: all
	$(Q)MAKE='$(MAKE)' tests/run.sh $(B) tests/install/packages.sh

## check-vm-package: install the modules by their packages in a machine of its own
check-vm-package: vm-programs
	$(Q)MAKE='$(MAKE)' tests/vm/package.sh $(VERSION) $(B)

## uapi-doc: make Documentation/uapi.rst, and the constants for syzkaller, from the ABI's header
uapi-doc:
	$(Q)tests/uapi_header.py rst >Documentation/uapi.rst
	$(Q)tests/uapi_header.py const >tests/fuzz/syzkaller/dev_penstock.txt.const

## demo: install what is missing, make a checkpoint, stream it (SIZE=4G, MODEL=path)
demo:
	$(Q)SIZE='$(SIZE)' MODEL='$(MODEL)' O='$(O)' tools/demo.sh

## bench: the tool's benchmarks, as JSON on stdout (FILE=path: io, MODEL=path: load)
bench: all
	$(Q)$(B)/penstock bench gemv --json
	$(if $(FILE),$(Q)$(B)/penstock bench io $(FILE) --fio --json)
	$(if $(MODEL),$(Q)$(B)/penstock bench load $(MODEL) --json)

## clean: remove build/
clean:
	rm -rf $(O)

## help: this list
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

-include $(shell find $(B) -name '*.d' 2>/dev/null)
