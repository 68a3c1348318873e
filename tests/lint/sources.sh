#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every source file: its licence line, its length, its functions' lengths, its
# lines' widths. The house's limits are 600 lines, 80 lines a function and 120
# columns; files and functions over them are named, those far over them fail.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

mapfile -t sources < <(files '*.c' '*.h' '*.cu' '*.cuh' '*.sh' '*.py' '*.map' '*.bash' '*.mk' '*Makefile' '*Kbuild' \
	configure .ci/run)
mapfile -t code < <(files '*.c' '*.h' '*.cu' '*.cuh')

# licence FILE: what its room is under
licence() {
	case $1 in
	Kbuild | driver/* | tests/kselftest/* | tests/fake/Kbuild | tests/fake/nvidia_p2p.* | tests/fake/dmabuf_importer.*) echo 'GPL-2.0-only' ;;
	uapi/*) echo '(GPL-2.0-only WITH Linux-syscall-note) OR MIT' ;;
	*) echo MIT ;;
	esac
}

spdx() {
	local f want
	for f in "${sources[@]}"; do
		want="SPDX-License-Identifier: $(licence "$f")"
		head -n 2 "$f" | sed -E 's|^(//\|/\*\|#\|\.\\") ?||; s| \*/$||' | grep -qxF "$want" ||
			echo "$f: the first line is not '$want'"
	done
}
verdict 'each source names its licence' < <(spdx)

# file_lengths MOST
file_lengths() { wc -l "${code[@]}" | awk -v most="$1" '$2 != "total" && $1 > most { print $2 ": " $1 " lines" }'; }
file_lengths 600 | sed 's/^/# note: /'
verdict 'no file is over 700 lines' < <(file_lengths 700)

# function_lengths MOST: in kernel style a body stands between "{" and "}" in the first column
function_lengths() {
	awk -v most="$1" '
		FNR == 1 { begin = 0 }
		/^\{$/ { begin = FNR; name = last }
		/^\}/ && begin { if (FNR - begin - 1 > most) print FILENAME ": " FNR - begin - 1 " lines: " name; begin = 0 }
		/^[a-zA-Z_]/ { last = $0 }' "${code[@]}"
}
function_lengths 80 | sed 's/^/# note: /'
verdict 'no function is over 120 lines' < <(function_lengths 120)

# widths MOST FILE...: in columns, a tab is eight; a string is not broken, so that it can be searched for
widths() {
	local f most=$1
	shift
	for f; do
		expand "$f" | awk -v most="$most" -v f="$f" \
			'length > most && !/^ *".*"[,;)]*$/ { print f ":" NR ": " length " columns" }'
	done
}
mapfile -t shipped < <(printf '%s\n' "${code[@]}" | grep -v '^tests/')
mapfile -t tests < <(printf '%s\n' "${code[@]}" | grep '^tests/')
verdict 'no line of code is over 120 columns' < <(widths 120 "${shipped[@]}")
verdict 'no line of a test is over 140 columns' < <(widths 140 "${tests[@]}")

verdict 'no trailing blanks' < <(grep -nE '[[:blank:]]+$' "${sources[@]}")

# No words of a workplace: places, people's tickets, things left undone.
words='[/]work/|\b[s]ession [0-9a-f]{6,}|\bissue #?[0-9]|\bT[O]DO\b|\bFI[X]ME\b|\bX[X]X\b'
mapfile -t texts < <(files | grep -vE '\.(gguf|safetensors|bin|zst|gz)$')
verdict 'no workplace names, nothing left undone' < <(grep -InE "$words" "${texts[@]}")
finish
