#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What the library exports = what the public headers declare = what the map lists;
# and each public header compiles alone, as C11 and as C++.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

headers=(runtime/include/penstock/*.h kernels/kabi.h)
inc=(-Iruntime/include -Ikernels)

# Declarations; the preprocessor has removed comments and macros.
for h in "${headers[@]}"; do
	${CC:-gcc} -E -P "${inc[@]}" "$h"
done | tr '\n' ' ' | grep -oE '\bpenstock_[a-z0-9_]+ *\([^;{}]*\)[^;{}]*;' | sed 's/ *(.*//' | sort -u >"$tmp/header"
sed -n 's/^\t\(penstock_[a-z0-9_]*\);$/\1/p' runtime/penstock.map | sort -u >"$tmp/map"
nm -D --defined-only "$build/libpenstock.so" | awk '$2 ~ /[TDBR]/ { sub(/@.*/, "", $3); print $3 }' | sort -u >"$tmp/library"

verdict 'headers and map agree' < <(diff "$tmp/header" "$tmp/map" |
	sed -n 's/^</declared, not in the map:/p; s/^>/in the map, not declared:/p')
verdict 'map and library agree' < <(diff "$tmp/map" "$tmp/library" |
	sed -n 's/^</in the map, not exported:/p; s/^>/exported, not in the map:/p')
want=$(sed -n 's/^VERSION := \([0-9]*\.[0-9]*\)\..*/PENSTOCK_\1/p' Makefile)
verdict "the map's node is the version" < <(grep -qx "$want {" runtime/penstock.map || echo "not $want")

for h in "${headers[@]}"; do
	printf '#include "%s"\nextern int a_unit_is_not_empty;\n' "$h" >"$tmp/alone.c"
	verdict "$h alone is C11" < <(${CC:-gcc} -std=c11 -pedantic -Wall -Wextra -Werror "${inc[@]}" -I. \
		-fsyntax-only "$tmp/alone.c" 2>&1)
	if have "${CXX:-g++}"; then
		verdict "$h alone is C++" < <(${CXX:-g++} -std=c++11 -pedantic -Wall -Wextra -Werror "${inc[@]}" -I. \
			-fsyntax-only -x c++ "$tmp/alone.c" 2>&1)
	else
		skip "$h alone is C++" "no ${CXX:-g++}"
	fi
done
finish
