#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Wrong use gets a sentence from the backend, and never a signal; perplexity is the same to
# the last digit; a ggml outside of the range is refused, and the host goes on without.
# shellcheck source=llama.sh
. "$(dirname "$0")/llama.sh"

model=$models/qwen3moe-Q4_0.gguf

# says TEXT CACHE FLAG...: what is wrong unless the run ends with an error and TEXT
says() {
	local text=$1 cache=$2 rc=0
	with "$cache" plain complete "$model" "${@:3}" >/dev/null || rc=$?
	[ "$rc" -eq 1 ] || echo "exit $rc"
	grep -q "^penstock: .*$text" "$tmp/log" || { echo "no '$text':" && tail -n 3 "$tmp/log"; }
}
verdict 'a model that is not mapped' < <(says 'load with --load-mode mmap' 60% -lm none)
verdict 'a cache below one token' < <(says "less than one token's experts" 1K)
for setting in PENSTOCK_CACHE=abc PENSTOCK_CACHE=0 PENSTOCK_FORM=other PENSTOCK_STATS=1 PENSTOCK_IO=fast; do
	verdict "a setting that is none: $setting" < <(
		rc=0
		GGML_BACKEND_PATH=$backend env "$setting" timeout 60 "$bin/llama-completion" -m "$model" -n 4 -no-cnv \
			-fit off -p ba </dev/null >"$tmp/log" 2>&1 || rc=$?
		[ "$rc" -eq 1 ] || echo "exit $rc"
		grep -q "^penstock: $setting: takes" "$tmp/log" || cat "$tmp/log")
done

perplexity() {
	"$@" "$bin/llama-perplexity" -m "$model" -t 2 -c 64 -b 64 -fit off --no-repack -lm mmap -f "$tmp/words" \
		2>&1 </dev/null | grep -oE '\[1\][0-9.]+.*\[12\][0-9.]+'
}
for i in $(seq 160); do
	printf 'w%d gimi ' $((i * 7 % 170))
done >"$tmp/words"
# Of the first twelve pieces: what is printed last may be lost.
verdict 'perplexity, to the last digit' < <(
	perplexity env >"$tmp/want"
	with 60% plain perplexity env >"$tmp/have"
	used
	[ -s "$tmp/want" ] || echo 'no perplexity'
	cmp "$tmp/want" "$tmp/have" 2>&1)

if prebuilt=$(tests/llama/prebuilt.sh 2>"$tmp/why"); then
	verdict 'a prebuilt ggml outside of the range' < <(
		with 60% plain timeout 30 "$prebuilt/bin/llama-server" --list-devices >"$tmp/log" 2>&1 || echo "exit $?"
		grep 'ggml 0.20.0 is outside of' "$tmp/log" | grep -q 'not used' || cat "$tmp/log")
else
	skip 'a prebuilt ggml outside of the range' "$(tail -n 1 "$tmp/why")"
fi
finish
