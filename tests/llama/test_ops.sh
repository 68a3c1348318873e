#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# llama.cpp's own test of operations, on the backend: MUL_MAT_ID of each type. All 945 of
# them take minutes; here are those of one shape, for one token and for many.
# shellcheck source=llama.sh
. "$(dirname "$0")/llama.sh"

ops() {
	GGML_BACKEND_PATH=$backend timeout -k 5 240 "$bin/test-backend-ops" test -b PENSTOCK -o MUL_MAT_ID \
		-p 'n_used=2,b=0,m=512,n=(1|32),k=256' >"$tmp/ops" 2>&1 </dev/null || echo "exit $?"
	grep -E 'FAIL|not supported' "$tmp/ops" | head -n 5
	[ "$(grep -c ' MUL_MAT_ID.*OK' "$tmp/ops")" -ge 40 ] ||
		echo "only $(grep -c ' MUL_MAT_ID.*OK' "$tmp/ops") operations were tested"
}
verdict 'MUL_MAT_ID of each type' < <(ops)
finish
