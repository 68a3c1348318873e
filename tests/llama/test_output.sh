#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Greedy output is the same, byte for byte, with the backend and without it: each model, in
# each form, split or not, with a cache from little above one token's experts to all of them.
# shellcheck source=llama.sh
. "$(dirname "$0")/llama.sh"

# same MODEL FORM CACHE FLAG...: says what differs
same() {
	local model=$1 form=$2 cache=$3
	shift 3
	complete "$model" "$@" >"$tmp/want" || { echo 'without:' && tail -n 3 "$tmp/log"; }
	with "$cache" "$form" complete "$model" "$@" >"$tmp/have" || { echo 'with:' && tail -n 3 "$tmp/log"; }
	used
	[ "$(wc -c <"$tmp/want")" -eq 100 ] || echo "only $(wc -c <"$tmp/want") bytes of output"
	cmp "$tmp/want" "$tmp/have" 2>&1
}

while read -r model; do
	name=$(basename "$model" .gguf)
	verdict "$name, plain" < <(same "$model" plain 60% --no-repack)
	verdict "$name, repacked" < <(same "$model" repacked 60%)
done <"$tmp/models"

# What a budget that is too small is told to be at least: just above the floor.
with 1K plain complete "$models/qwen3moe-Q4_0.gguf" >/dev/null || true
floor=$(sed -n "s/.*less than one token's experts, \([0-9]*\) MiB.*/\1M/p" "$tmp/log" | head -n 1)
for cache in "$floor" 40% 80% 100%; do
	verdict "qwen3moe-Q4_0 with a cache of $cache" \
		< <(same "$models/qwen3moe-Q4_0.gguf" plain "$cache" --no-repack)
done

# A prompt whose experts do not fit into the cache at once comes in waves.
for wave in 1 3; do
	verdict "qwen3moe-Q4_0 in waves of $wave" < <(
		export PENSTOCK_WAVE=$wave
		same "$models/qwen3moe-Q4_0.gguf" plain 60% --no-repack)
done

# Without the backend this test has to fail.
unused() {
	rm -f "$tmp/stats"
	complete "$models/qwen3moe-Q4_0.gguf" >/dev/null
	[ -n "$(used)" ] || echo 'a run without the backend went unnoticed'
}
verdict 'a run without the backend is noticed' < <(unused)
# The models decode to different text, so that equality says something.
verdict 'another model, other text' < <(
	complete "$models/qwen3moe-Q4_0.gguf" >"$tmp/a"
	complete "$models/qwen3moe-Q8_0.gguf" >"$tmp/b"
	! cmp -s "$tmp/a" "$tmp/b" || echo 'the same')
finish
