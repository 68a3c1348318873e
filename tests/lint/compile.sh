#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The whole tree builds without a warning, with gcc and with clang, and no
# warning class is switched off but the one in the Makefile.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

# quiet_build FOLDER COMPILER CFLAGS: prints only when it fails
quiet_build() {
	env -u MAKEFLAGS -u MAKELEVEL -u SAN nice make -s -k -j"$(nproc)" O="$build/$1" CC="$2" CFLAGS="$3" \
		WERROR=1 all tests >"$tmp/$1.log" 2>&1 || grep -E 'error|Error' "$tmp/$1.log"
}

# What .ci/run has built with clang is not built again. The usual build with gcc may
# have gone by with warnings, so it has its own folder.
check() {
	if have "$2"; then
		verdict "no warning with $1" < <(quiet_build "$@")
	else
		skip "no warning with $1" "no $2"
	fi
}
check gcc "${GCC:-gcc}" '-O1 -g'
check clang "${CLANG:-clang}" '-O2 -g'
finish
