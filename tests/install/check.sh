#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Install into a temporary prefix and use what is there as a stranger would:
# through pkg-config, in C and in C++, shared and static. Then uninstall.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

prefix=$tmp/prefix stage=$tmp/stage
here=tests/install
make=(env -u MAKEFLAGS -u MAKELEVEL "${MAKE:-make}" -s "O=$build" "CC=${CC:-gcc}")
# As a packager does: the final place in the files, a staging area on disk.
"${make[@]}" install "PREFIX=$prefix" "DESTDIR=$stage" >"$tmp/install.log" 2>&1 || cat "$tmp/install.log"
[ -d "$stage$prefix" ] && mv "$stage$prefix" "$prefix"

version=$(sed -n 's/^VERSION := //p' Makefile)
expected() {
	printf '%s\n' bin/penstock include/penstock/{dtype,kabi,penstock,version}.h lib/libpenstock.a lib/penstock/libggml-penstock.so \
		"lib/libpenstock.so.$version" lib/libpenstock.so.0 lib/libpenstock.so lib/pkgconfig/penstock.pc \
		share/bash-completion/completions/penstock
	files 'Documentation/man/*.1' | sed 's|.*/|share/man/man1/|'
}
absent() { expected | while read -r f; do [ -e "$prefix/$f" ] || echo "not installed: $f"; done; }
more() { (cd "$prefix" && find . ! -type d | sed 's|^\./||') | sort | comm -23 - <(expected | sort) | sed 's/^/unexpected: /'; }
verdict 'install puts everything there' < <(absent)
verdict 'install puts nothing else there' < <(more)

if ! have pkg-config; then
	skip 'programs against the installed library' 'no pkg-config'
	finish
	exit
fi
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
verdict 'pkg-config knows the version' < <([ "$(pkg-config --modversion penstock)" = "$version" ] ||
	echo "$(pkg-config --modversion penstock 2>&1), not $version")

# use NAME COMPILER SOURCE MODE: compile and run; prints what went wrong
use() {
	local libs exe=$tmp/$1
	read -r -a cflags < <(pkg-config --cflags penstock)
	if [ "$4" = static ]; then
		libs=$(pkg-config --static --libs penstock | sed 's/-lpenstock/-l:libpenstock.a/')
	else
		libs=$(pkg-config --libs penstock)
	fi
	read -r -a libs <<<"$libs"
	$2 -Wall -Wextra -Werror "${cflags[@]}" -o "$exe" "$3" "${libs[@]}" 2>&1 || return
	[ "$4" = static ] || readelf -d "$exe" | grep -q "NEEDED.*libpenstock.so.${version%%.*}\]" ||
		echo 'is not linked with the shared library'
	[ "$4" = shared ] || ! readelf -d "$exe" | grep 'NEEDED.*libpenstock'
	LD_LIBRARY_PATH=$prefix/lib "$exe" >"$exe.out" 2>&1 || { echo "exit $?"; cat "$exe.out"; }
}
for mode in shared static; do
	verdict "a C program, $mode" < <(use "c-$mode" "${CC:-gcc} -std=c11" $here/use.c $mode)
	if have "${CXX:-g++}"; then
		verdict "a C++ program, $mode" < <(use "cxx-$mode" "${CXX:-g++} -std=c++11" $here/use.cc $mode)
	else
		skip "a C++ program, $mode" "no ${CXX:-g++}"
	fi
done
verdict 'the installed tool runs' < <("$prefix/bin/penstock" --version 2>&1 | grep -qF "$version" ||
	{ echo 'penstock --version said:'; "$prefix/bin/penstock" --version 2>&1; })
# shellcheck disable=SC2016 # the inner shell expands it
verdict 'completion offers the commands' < <(bash -c '
	source "$1"; PATH=$2:$PATH; COMP_WORDS=(penstock ""); COMP_CWORD=1; _penstock; echo "${COMPREPLY[*]}"' - \
	"$prefix/share/bash-completion/completions/penstock" "$prefix/bin" | grep -q 'run.*ls' || echo 'it does not')

"${make[@]}" uninstall "PREFIX=$prefix" >"$tmp/uninstall.log" 2>&1 || cat "$tmp/uninstall.log"
verdict 'uninstall leaves nothing' < <(find "$prefix" ! -type d)
finish
