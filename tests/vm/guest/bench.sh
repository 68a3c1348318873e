#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# Instructions of a read by route and size, as lines "# BENCH {...}"; what the
# module promises of them is checked; bench:PERCENT allows so much more than that,
# for a host that is busy.
# shellcheck shell=dash source=lib.sh
. /tests/lib.sh
has_module penstock || skip_all 'no penstock.ko'

slack=${1:-0}
out=/tmp/bench.out
bench_route "$(drive raw)" >"$out" 2>&1
rc=$?
note "$(cat "$out")"
same 'all routes can be measured' 0 "$rc"

# of SIZE ROUTE: instructions
of() { sed -n "s/.*\"len_bytes\": $1,.*\"$2\": \([0-9]*\).*/\1/p" "$out"; }
# at_most NAME ROUTE OTHER PERCENT SIZE...: ROUTE costs at most PERCENT of OTHER
at_most() {
	_name=$1 _a=$2 _b=$3 _percent=$(($4 + slack))
	shift 4
	for _size in "$@"; do
		_x=$(of "$_size" "$_a") _y=$(of "$_size" "$_b")
		[ -n "$_x" ] && [ -n "$_y" ] && [ $((_x * 100)) -le $((_y * _percent)) ] ||
			echo "$_size bytes: $_x instructions, $_y allow $((_y * _percent / 100))"
	done >/tmp/at_most
	verdict "$_name" "$(cat /tmp/at_most)"
}
at_most 'direct: half of mapped from 1 MiB up' direct mapped 50 1048576 4194304
at_most 'direct: at most 1.1 of mapped at 4 KiB' direct mapped 110 4096
at_most 'direct: at most 1.2 of a registered buffer in host memory from 1 MiB up' direct registered_host 120 1048576 4194304
finish
