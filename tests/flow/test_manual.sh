#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every option that a command's own help names is in the man page and in the
# completion; nothing there is without a command that knows it.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

man=Documentation/man/penstock.1
mapfile -t commands < <(for c in run serve ls synth 'bench io' 'bench load' 'bench gemv' doctor; do
	# shellcheck disable=SC2086 # words
	"$build/penstock" $c --help >/dev/null 2>&1 && echo "$c"
done)
verdict 'there are commands' < <([ "${#commands[@]}" -ge 4 ] || echo "only ${commands[*]}")

# options_of COMMAND...: as its help has them
options_of() { "$build/penstock" "$@" --help 2>&1 | grep -oE '(^|[ ,[])--[a-z][a-z0-9-]*' | grep -oE -- '--.*' | sort -u; }

# section COMMAND...: the man page's options of one command
section() {
	awk -v want=".Ss $*" '$0 == want { on = 1; next } /^\.S[sh]/ { on = 0 } on' "$man" |
		grep -oE '^\.It Fl .*' | grep -oE 'Fl -[a-z0-9-]+|, -[a-z0-9-]+' | sed 's/.* -/--/' | sort -u
}

# completed WORDS...: what bash would offer for a word that starts with "-"
completed() {
	# shellcheck disable=SC2016 # the inner shell expands it
	bash -c 'source packaging/penstock.bash; tool=$1; shift
		COMP_WORDS=("$tool" "$@" --); COMP_CWORD=$(($# + 1)); _penstock; printf "%s\n" "${COMPREPLY[@]}"' \
		- "$build/penstock" "$@" | sort -u
}

for command in "${commands[@]}"; do
	read -r -a words <<<"$command"
	options_of "${words[@]}" | grep -vx -- --help >"$tmp/help"
	verdict "man page: $command" < <(diff "$tmp/help" <(section "${words[@]}" | grep -vx -- --help) |
		sed -n 's/^</not in the man page:/p; s/^>/not in the help:/p')
	verdict "completion: $command" < <(diff "$tmp/help" <(completed "${words[@]}" | grep -vx -- --help) |
		sed -n 's/^</not completed:/p; s/^>/not in the help:/p')
done
finish
