#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The whole tree builds without a warning, with gcc and with clang, and no
# warning class is switched off but the one in the Makefile.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

# quiet_build COMPILER: prints only when it fails
quiet_build() {
	env -u MAKEFLAGS -u MAKELEVEL -u SAN nice make -s -k -j"$(nproc)" O="$build/lint-$1" CC="$2" CFLAGS=-O1 \
		WERROR=1 all tests >"$tmp/$1.log" 2>&1 || grep -E 'error|Error' "$tmp/$1.log"
}

for pair in "gcc ${GCC:-gcc}" "clang ${CLANG:-clang}"; do
	read -r name cc <<<"$pair"
	if have "$cc"; then
		verdict "no warning with $name" < <(quiet_build "$name" "$cc")
	else
		skip "no warning with $name" "no $cc"
	fi
done
finish
