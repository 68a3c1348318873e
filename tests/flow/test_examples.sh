#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The examples of the documents do what they say, on a golden checkpoint.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

model=$tmp/model
cp -r tests/golden/qwen3_moe "$model"

# Three experts of layer 0: ids in the order asked for; 3 matrices of 64 x 20 in bf16.
minimal() {
	"$build/examples/minimal" "$model" >"$tmp/out" 2>&1 || echo "exit $?"
	sed 's/ at 0x[0-9a-f]*$//' "$tmp/out" | diff - <(printf 'layer 0 expert %d: BF16, 7680 bytes, first part\n' 2 0 1)
}
verdict 'minimal.c shows three experts' < <(minimal)

# On a damaged checkpoint it says why, and fails.
damaged() {
	local f rc=0
	f=$(find "$model" -name '*.safetensors' | head -n 1)
	truncate -s -512 "$f"
	"$build/examples/minimal" "$model" >"$tmp/out" 2>"$tmp/err" || rc=$?
	[ "$rc" -eq 1 ] || echo "exit $rc"
	grep -qF "$(basename "$f")" "$tmp/err" || { echo 'the error does not name the file:'; cat "$tmp/err"; }
}
verdict 'minimal.c explains a truncated file' < <(damaged)

# The README shows lines of it, and they must be the example's own.
readme() {
	sed -n 's/^    \(rc = penstock_.*\|penstock_.*;\)$/\1/p' README.md | while read -r line; do
		grep -qF "$line" Documentation/examples/minimal.c || echo "README shows what minimal.c lacks: $line"
	done
}
verdict "README's lines are in minimal.c" < <(readme)
finish
