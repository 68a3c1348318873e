# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Sourced by tests that are scripts: TAP output, and the list of our files.
set -uo pipefail
cd "${PENSTOCK_TOP:-$(dirname "${BASH_SOURCE[0]}")/..}" || exit 1
# shellcheck disable=SC2034 # for those who source this
build=${PENSTOCK_BUILD:-build}
nr=0 bad=0
# Not /tmp: a tmpfs may refuse O_DIRECT.
tmp=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
trap 'rm -rf "$tmp"' EXIT

# verdict NAME < <(CHECK): good when nothing came in; what came in says what is wrong
verdict() {
	local text
	text=$(cat)
	nr=$((nr + 1))
	if [ -z "$text" ]; then
		echo "ok $nr $1"
	else
		echo "# ${text//$'\n'/$'\n# '}"
		echo "not ok $nr $1"
		bad=$((bad + 1))
	fi
}

# skip NAME WHY
skip() {
	nr=$((nr + 1))
	echo "ok $nr $1 # SKIP $2"
}

have() { command -v "$1" >/dev/null; }

# files GLOB...: our files that match (tracked, or new and not ignored)
files() {
	git -c safe.directory='*' ls-files --cached --others --exclude-standard -- "$@" 2>/dev/null | sort -u |
		while read -r f; do [ -f "$f" ] && echo "$f"; done
}

finish() {
	echo "1..$nr"
	[ "$bad" -eq 0 ]
}
