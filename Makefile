# SPDX-License-Identifier: MIT
# Penstock: library, tool, tests. `make help` lists the targets.
VERSION := 0.1.0

O ?= build
ifeq ($(SAN),1)
B := $(O)/san
SANFLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
else ifeq ($(SAN),thread)
B := $(O)/tsan
SANFLAGS := -fsanitize=thread
else
B := $(O)
endif

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
CC ?= gcc
CXX ?= g++
ifeq ($(origin CC),default)
CC := gcc
endif

WARN := -Wall -Wextra -Wmissing-prototypes -Wstrict-prototypes -Wvla -Wshadow -Wno-unused-parameter
WERROR ?=
CPPFLAGS += -D_GNU_SOURCE -Iruntime/include -Ikernels
CFLAGS ?= -O2 -g
ALL_CFLAGS = -std=gnu11 $(WARN) $(if $(WERROR),-Werror) -fvisibility=hidden -fPIC -pthread $(SANFLAGS) $(CFLAGS)
LIBS := -luring -lnuma -lyajl -lxxhash -lm -lpthread

RUNTIME_SRC := $(wildcard runtime/*.c)
KERNEL_SRC := $(wildcard kernels/*.c kernels/ref/*.c kernels/cpu/*.c)
TOOL_SRC := $(wildcard tools/*.c tools/decoder/*.c)
TEST_SRC := $(wildcard tests/unit/test_*.c tests/flow/test_*.c)

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
LIB_OBJ := $(call obj,$(RUNTIME_SRC) $(KERNEL_SRC))
TOOL_OBJ := $(call obj,$(TOOL_SRC))
TESTS := $(patsubst %.c,$(B)/%,$(TEST_SRC))

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' $(1) $(patsubst $(B)/%,%,$@))

.PHONY: all lib tool tests check clean help
.DEFAULT_GOAL := all
all: lib tool

lib: $(B)/libpenstock.a $(B)/libpenstock.so
tool: $(B)/penstock
tests: $(TESTS)

# Vector kernels are compiled for their instruction set, and chosen at run time.
$(B)/obj/kernels/cpu/%_avx2.o: ISAFLAGS := -mavx2 -mfma -mf16c
$(B)/obj/kernels/cpu/%_avx512.o: ISAFLAGS := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq
$(B)/obj/kernels/cpu/%_avx512bf16.o: ISAFLAGS := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16 -mavx512vnni
# One order of summation, one rounding an operation: bits do not depend on the compiler's taste.
$(B)/obj/kernels/%.o: ISAFLAGS += -ffp-contract=off

$(B)/obj/%.o: %.c
	$(call say,CC)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) $(ISAFLAGS) -MMD -MP -c -o $@ $<

$(B)/libpenstock.a: $(LIB_OBJ)
	$(call say,AR)
	$(Q)rm -f $@
	$(Q)ar rcs $@ $^

$(B)/libpenstock.so.$(VERSION): $(LIB_OBJ)
	$(call say,LD)
	$(Q)$(CC) -shared -Wl,-soname,libpenstock.so.0 $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

$(B)/libpenstock.so: $(B)/libpenstock.so.$(VERSION)
	$(Q)ln -sf libpenstock.so.$(VERSION) $(B)/libpenstock.so.0
	$(Q)ln -sf libpenstock.so.0 $@

$(B)/penstock: $(TOOL_OBJ) $(B)/libpenstock.a
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

$(B)/tests/%: tests/%.c $(B)/libpenstock.a
	$(call say,TEST)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -Itests -Iruntime $(ALL_CFLAGS) $(LDFLAGS) -MMD -MP -o $@ $< $(B)/libpenstock.a $(LIBS)

check: all tests
	$(Q)tests/run.sh $(B) $(TESTS)

clean:
	rm -rf $(O)

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

-include $(shell find $(B) -name '*.d' 2>/dev/null)
