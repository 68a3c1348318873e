#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What a newcomer runs first: configure says what is missing and writes only where
# it should; the demo explains what it cannot do.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

# fails CODE TEXT COMMAND...: it must end with that code and say that text
fails() {
	local want=$1 text=$2 rc=0
	shift 2
	"$@" >"$tmp/out" 2>&1 </dev/null || rc=$?
	[ "$rc" -eq "$want" ] || echo "exit $rc, not $want"
	grep -qF "$text" "$tmp/out" || { echo "does not say '$text':"; cat "$tmp/out"; }
}

configure_good() {
	./configure --build-dir="$tmp/build" --prefix=/opt/x >"$tmp/out" 2>&1 || { echo "exit $?"; cat "$tmp/out"; }
	grep -qx 'PREFIX := /opt/x' "$tmp/build/config.mk" || echo 'config.mk has no PREFIX'
	(cd "$tmp/build" && find . -mindepth 1 ! -name config.mk ! -name config.log)
	grep -q liburing "$tmp/out" || echo 'says nothing of liburing'
}
verdict 'configure writes config.mk and config.log, nothing else' < <(configure_good)
verdict 'configure without a compiler fails' < <(fails 1 'MISSING, required' ./configure --build-dir="$tmp/b2" CC=/nonexistent/cc)
verdict 'and leaves no config.mk' < <([ ! -e "$tmp/b2/config.mk" ] || echo 'there is one')

# A library that the linker cannot find: the package that brings it is named.
missing_library() {
	cat >"$tmp/cc" <<-END
		#!/bin/sh
		for a; do [ "\$a" = -lyajl ] && echo 'cannot find -lyajl' >&2 && exit 1; done
		exec ${CC:-gcc} "\$@"
	END
	chmod +x "$tmp/cc"
	fails 1 libyajl-dev ./configure --build-dir="$tmp/b3" CC="$tmp/cc"
	grep -q 'cannot find -lyajl' "$tmp/b3/config.log" || echo 'config.log does not hold the cause'
}
verdict 'configure names the package of a missing library' < <(missing_library)
verdict 'configure refuses what it does not know' < <(fails 2 "unknown argument '--frob'" ./configure --frob)

verdict 'demo refuses a size that is none' < <(fails 1 'SIZE=4Q is no size' env SIZE=4Q tools/demo.sh)
verdict 'demo says the least size' < <(fails 1 'the least is' env SIZE=1M tools/demo.sh)
verdict 'demo says that the model is not there' < <(fails 1 'there is no such' env MODEL="$tmp/none" tools/demo.sh)
verdict 'demo looks at the free space first' < <(fails 1 'Set XDG_CACHE_HOME to another drive' \
	env SIZE=900T XDG_CACHE_HOME="$tmp/cache" tools/demo.sh)
finish
