#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# `penstock bench io`: it reads, with both engines and in both ways; what it says of
# fio is there only when fio was asked; what is wrong with the arguments is said.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

tool="$build/penstock"
head -c $(((16 << 20) + 100)) /dev/urandom >"$tmp/data:1"

# bench ARGS...: JSON into $tmp/json
bench() { "$tool" bench io "$tmp/data:1" --seconds 1 --rounds 1 --json "$@" >"$tmp/json" 2>"$tmp/err" || echo "exit $?: $(cat "$tmp/err")"; }
# says TEXT...: lines that the JSON must have
says() {
	local text
	for text in "$@"; do
		grep -qE "$text" "$tmp/json" || { echo "no $text in:"; cat "$tmp/json"; }
	done
}

both() {
	bench --no-fio "$@"
	says '"ratio_throughput": *null' '"ratio_cpu": *null'
	says '"schema": *"penstock.bench_io/1"' '"block_bytes": *1048576' '"gb_s": *[0-9]*\.?[0-9]*[1-9]' '"cpu_s_per_gb": *[0-9.]+'
	grep -qE '"ratio_[a-z]*": *[0-9]' "$tmp/json" && echo 'a ratio without fio'
}
verdict 'bench io reads at random' < <(both --block 64K,1M; says '"block_bytes": *65536')
grep -q '"io_engine": *"io_uring"' "$tmp/json" && uring=1
verdict 'bench io reads in order, with jobs' < <(both --block 1M --sequential --jobs 3 --depth 4)
verdict 'bench io reads by pread' < <(both --block 1M --pread; says '"io_engine": *"pread"')
verdict 'bench io reads through the page cache' < <(both --block 1M --buffered; says '"direct": *false' '"direct_reason": *"not wanted"')

with_fio() {
	bench --block 1M --depth 4 --jobs 2 --fio
	says '"ratio_throughput": *[0-9.]+' '"ratio_cpu": *[0-9.]+' '"fio_page_size": *(4096|2097152)' '"as_good_as_fio": *(true|false)'
}
if ! have fio; then
	skip 'bench io compares with fio' 'no fio'
elif [ -z "${uring:-}" ] || ! fio --enghelp 2>/dev/null | grep -qw io_uring; then
	skip 'bench io compares with fio' 'no io_uring'
else
	verdict 'bench io compares with fio' < <(with_fio)
fi

# wrong WANTED_EXIT TEXT ARGS...
wrong() {
	local want=$1 text=$2 rc=0
	shift 2
	env PATH="${tool_path:-$PATH}" "$tool" bench io "$@" >"$tmp/out" 2>"$tmp/err" || rc=$?
	[ "$rc" -eq "$want" ] || echo "exit $rc, not $want: $*"
	grep -qF -- "$text" "$tmp/err" || { echo "no '$text':"; cat "$tmp/err"; }
	[ ! -s "$tmp/out" ] || echo "data on stdout: $*"
}
arguments() {
	wrong 2 'one file is wanted'
	wrong 2 'one file is wanted' a b
	wrong 2 '--block 1000: a multiple of 4096' a --block 1000
	wrong 2 '--block 2G' a --block 2G
	wrong 2 '--depth 0' a --depth 0
	wrong 2 '--jobs 17' a --jobs 17
	wrong 2 'No such file' "$tmp/none"
	wrong 2 'blocks of 33554432' "$tmp/data:1" --block 32M
	tool_path=/nothing wrong 3 'fio' "$tmp/data:1" --fio --seconds 1 --rounds 1 --block 1M
}
verdict 'bench io explains wrong arguments' < <(arguments)
finish
