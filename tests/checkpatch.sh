#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Print where checkpatch.pl is: CHECKPATCH, an unpacked source of a kernel, or out of
# Debian's linux-source, from which it is taken once and kept in ~/.cache/penstock.
# Nothing when there is none.
set -euo pipefail
vm=${PENSTOCK_VM_CACHE:-$HOME/.cache/penstock/vm}
kept=$HOME/.cache/penstock/checkpatch

if [ -n "${CHECKPATCH:-}" ]; then
	echo "$CHECKPATCH"
	exit
fi
for found in "$vm"/linux-*/scripts/checkpatch.pl "$kept/checkpatch.pl" /usr/src/linux-source-*/scripts/checkpatch.pl; do
	if [ -e "$found" ]; then
		echo "$found"
		exit
	fi
done
archive=$(find /usr/src -maxdepth 1 -name 'linux-source-*.tar.xz' | sort -V | tail -n 1)
[ -n "$archive" ] || exit 0
mkdir -p "$(dirname "$kept")"
new=$(mktemp -d "$kept.XXXXXX")
trap 'rm -rf "$new"' EXIT
# It reads the other two from its own folder.
tar -xf "$archive" -C "$new" --strip-components=2 --wildcards --occurrence=1 '*/scripts/checkpatch.pl' \
	'*/scripts/spelling.txt' '*/scripts/const_structs.checkpatch' 2>/dev/null
mv -T "$new" "$kept" 2>/dev/null || true
[ ! -e "$kept/checkpatch.pl" ] || echo "$kept/checkpatch.pl"
