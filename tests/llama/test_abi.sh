#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The backend's declarations of ggml are those of each llama.cpp that can be had; and a
# member moved, a type or a number changed is found.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

for version in $(tests/llama/build.sh --versions); do
	if folder=$(tests/llama/build.sh --headers "$version" 2>"$tmp/why"); then
		verdict "declarations of ggml $version" < <(tests/llama/check_abi.py runtime/ggml "$folder" 2>/dev/null)
		some=$folder
	else
		skip "declarations of ggml $version" "$(tail -n 1 "$tmp/why")"
	fi
done

# found NAME SED: this change of ggml_abi.h, or host.h, must be found
found() {
	mkdir -p "$tmp/changed"
	cp runtime/ggml/ggml_abi.h runtime/ggml/host.h "$tmp/changed"
	sed -i "$2" "$tmp/changed"/*.h
	verdict "found: $1" < <(
		diff -q runtime/ggml/ggml_abi.h "$tmp/changed/ggml_abi.h" >/dev/null &&
			diff -q runtime/ggml/host.h "$tmp/changed/host.h" >/dev/null && echo 'nothing was changed'
		tests/llama/check_abi.py "$tmp/changed" "$some" >/dev/null 2>&1 && echo 'not found')
}
if [ -n "${some:-}" ]; then
	found 'a member too few' '/(\*synchronize)/d'
	found 'an argument of another type' 's/buffer, uint8_t value)/buffer, uint32_t value)/'
	found 'another number' 's/GG_MAX_SRC\t\t10/GG_MAX_SRC\t\t8/'
	found 'a function with another result' 's/X(size_t, ggml_nbytes/X(int, ggml_nbytes/'
fi
finish
