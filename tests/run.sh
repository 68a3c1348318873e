#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Run test programs one after another and count: run.sh BUILD_DIR PROGRAM...
# Each prints TAP. Ends with "N passed, N failed, N skipped".
set -u
build=$1
shift
export PENSTOCK_BUILD="$build" PENSTOCK_TOP="$PWD"
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for program in "$@"; do
	echo "# $program"
	"$program" </dev/null >"$log" 2>&1
	rc=$?
	cat "$log"
	not_ok=$(grep -c '^not ok ' "$log")
	skip=$(grep -c '^ok .*# SKIP' "$log")
	ok=$(grep -c '^ok ' "$log")
	passed=$((passed + ok - skip))
	skipped=$((skipped + skip))
	failed=$((failed + not_ok))
	if [ "$rc" -ne 0 ] && [ "$rc" -ne 4 ] && [ "$not_ok" -eq 0 ]; then
		echo "not ok - $program exited with $rc"
		failed=$((failed + 1))
	fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
