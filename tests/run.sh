#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Run test programs and count: run.sh BUILD_DIR PROGRAM...
# Each prints TAP. TEST_JOBS of them run at a time (1); the output of each is kept
# together, in the order given. What failed is named again at the end; the last
# line is "N passed, N failed, N skipped".
set -u
build=$1
shift
export PENSTOCK_BUILD="$build" PENSTOCK_TOP="$PWD"
jobs=${TEST_JOBS:-1}
passed=0 failed=0 skipped=0
# What a test leaves behind goes with this folder. Not in /tmp: a tmpfs may refuse O_DIRECT.
work=$(mktemp -d -p "${TMPDIR:-/var/tmp}" penstock-tests.XXXXXX) || exit 1
trap 'rm -rf "$work"' EXIT
logs=$work/logs
mkdir "$logs" "$work/tmp"
# tests that give up root write there, too
chmod 755 "$work"
chmod 1777 "$work/tmp"
export TMPDIR="$work/tmp"

# run INDEX PROGRAM: output to INDEX.log, then the exit code to INDEX.rc
run() {
	"$2" </dev/null >"$logs/$1.log" 2>&1
	echo $? >"$logs/$1.rc"
}

# count INDEX PROGRAM: show what it printed and add its lines up
count() {
	local rc not_ok skip ok
	rc=$(<"$logs/$1.rc")
	cat "$logs/$1.log"
	not_ok=$(grep -c '^not ok ' "$logs/$1.log")
	skip=$(grep -c '^ok .*# SKIP' "$logs/$1.log")
	ok=$(grep -c '^ok ' "$logs/$1.log")
	passed=$((passed + ok - skip))
	skipped=$((skipped + skip))
	failed=$((failed + not_ok))
	again+=$(sed -n "s|^not ok [0-9]* |# failed: $2: |p" "$logs/$1.log" && echo .)
	again=${again%.}
	if [ "$rc" -ne 0 ] && [ "$rc" -ne 4 ] && [ "$not_ok" -eq 0 ]; then
		echo "not ok - $2 exited with $rc"
		again+="# failed: $2: exit $rc"$'\n'
		failed=$((failed + 1))
	fi
}

programs=("$@")
again=''
started=0 shown=0
while [ "$shown" -lt "${#programs[@]}" ]; do
	while [ "$started" -lt "${#programs[@]}" ] && [ $((started - shown)) -lt "$jobs" ]; do
		run "$started" "${programs[$started]}" &
		pids[started]=$!
		started=$((started + 1))
	done
	echo "# ${programs[$shown]}"
	wait "${pids[$shown]}"
	count "$shown" "${programs[$shown]}"
	shown=$((shown + 1))
done
printf '%s' "$again"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
