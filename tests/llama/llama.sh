# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Sourced by tests/llama/test_*.sh: a llama.cpp and models for it, runs with and without
# the backend. Without a llama.cpp to be had, all is skipped.
# shellcheck source=../tap.sh
. "$(dirname "${BASH_SOURCE[0]}")/../tap.sh"

backend=$(realpath "$build/libggml-penstock.so")
if ! llama=$(tests/llama/build.sh 2>"$tmp/why"); then
	cat "$tmp/why" >&2
	skip "$(basename "$0")" "no llama.cpp: $(tail -n 1 "$tmp/why")"
	finish
	exit 4
fi
bin=$llama/bin
# Beside the llama.cpp that wrote them, by what makes them.
models=$llama/models-$(sha256sum tests/llama/models.py | cut -c 1-12)
(flock 9 && tests/llama/models.py "$llama" "$models" >"$tmp/models") 9>"$llama/lock-models" || exit 1

# with CACHE FORM COMMAND...: the command with the backend; its statistics go to $tmp/stats
with() {
	rm -f "$tmp/stats"
	GGML_BACKEND_PATH=$backend PENSTOCK_CACHE=$1 PENSTOCK_FORM=$2 PENSTOCK_STATS=json \
		PENSTOCK_STATS_FILE=$tmp/stats "${@:3}"
}

# used: says what is wrong when the last run with the backend had nothing from it
used() {
	local reads
	reads=$(sed -n 's/.*"bytes_read":\([0-9]*\).*/\1/p' "$tmp/stats" 2>/dev/null | tail -n 1)
	[ "${reads:-0}" -gt 0 ] || echo "the backend read nothing: $(cat "$tmp/stats" 2>&1)"
}

# complete MODEL [FLAG...]: 100 bytes of greedy text on stdout, messages in $tmp/log. Not all
# of it: now and then llama-completion loses the last bytes when it exits.
complete() {
	timeout -k 5 120 "$bin/llama-completion" -m "$1" -t 2 -n 48 --temp 0 -no-cnv -fit off -c 256 -lm mmap \
		--ignore-eos --simple-io -p 'ba de w3 gimi w70 lo' "${@:2}" </dev/null 2>"$tmp/log" >"$tmp/text" || return
	head -c 100 "$tmp/text"
}
