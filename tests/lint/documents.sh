#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Kernel-doc comments, reStructuredText, man pages, links between documents.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

# kernel-doc comes with Debian's linux-kbuild, whose path holds a version.
kernel_doc=${KERNEL_DOC:-$(find /usr/lib/linux-kbuild-* /usr/src/linux-headers-*/scripts -name kernel-doc 2>/dev/null |
	sort -V | tail -n 1)}
# The public headers' comments are the manual: each parameter, each member. Elsewhere
# a one-line purpose is enough, and only what is wrong counts.
public() { "$kernel_doc" -none runtime/include/penstock/*.h kernels/kabi.h 2>&1 | grep -E 'error|warning: (Excess|expecting|cannot|Incorrect)'; }
internal() { files 'runtime/*.[ch]' 'kernels/*.[ch]' 'tools/*.[ch]' | xargs "$kernel_doc" -none 2>&1 |
	grep -E 'error|warning: (Excess|expecting prototype|Incorrect)'; }
if [ -n "$kernel_doc" ] && have perl; then
	verdict 'kernel-doc of the public headers' < <(public)
	verdict 'kernel-doc elsewhere' < <(internal)
else
	skip 'kernel-doc' 'no kernel-doc (Debian: linux-kbuild)'
fi

mapfile -t rsts < <(files '*.rst')
rst=''
for c in rst2html rst2html.py rst2html5; do have "$c" && rst=$c && break; done
if [ -n "$rst" ]; then
	for f in "${rsts[@]}"; do
		verdict "$f" < <("$rst" --strict --halt=5 "$f" 2>&1 >/dev/null)
	done
else
	skip 'reStructuredText' 'no rst2html (Debian: python3-docutils)'
fi

mapfile -t mans < <(files 'Documentation/man/*.[1-8]')
if [ "${#mans[@]}" -eq 0 ]; then
	:
elif have mandoc; then
	verdict 'man pages' < <(mandoc -T lint -W warning "${mans[@]}" 2>&1)
else
	skip 'man pages' 'no mandoc'
fi

# Files that a document names must be there.
links() {
	local f link
	for f in $(files '*.md'); do
		grep -oE '\]\([^)#:]+' "$f" | sed 's/^](//' | grep -v '^http' | while read -r link; do
			[ -e "$(dirname "$f")/$link" ] || echo "$f: no $link"
		done
	done
	for f in "${rsts[@]}"; do
		# shellcheck disable=SC2016 # literal quotes of rst
		grep -oE '``(runtime|kernels|tools|tests|packaging|driver|uapi)/[A-Za-z0-9_/.-]+``' "$f" | tr -d '`' | while read -r link; do
			[ -e "$link" ] || echo "$f: no $link"
		done
		grep -oE '<[A-Za-z0-9_/.-]+\.(rst|md|c|h|sh)>`_' "$f" | sed 's/^<//; s/>`_$//' | while read -r link; do
			[ -e "$(dirname "$f")/$link" ] || echo "$f: no $link"
		done
	done
}
verdict 'documents point at files that are there' < <(links)
first_screen() { [ ! -e README.md ] || awk '/^## / { n = NR; exit } END { if (!n) n = NR + 1; if (n > 41) print "README.md: the first screen has " n - 1 " lines" }' README.md; }
verdict "README's first screen is within 40 lines" < <(first_screen)
finish
