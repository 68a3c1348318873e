#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The kernel side: checkpatch --strict and kernel-doc -Werror over the driver, the ABI
# and the modules and programs for tests of it. That it builds without warnings, by the
# compiler and by sparse, is .ci/run's driver lanes: those need a kernel's headers.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

mapfile -t kernel < <(files 'driver/*.[ch]' 'tests/fake/nvidia_p2p.[ch]' 'tests/fake/dmabuf_importer.[ch]')
mapfile -t uapi < <(files 'uapi/*.h')
mapfile -t kselftest < <(files 'tests/kselftest/*.[ch]')

checkpatch=$(tests/checkpatch.sh)
# check IGNORED FILE...: in a folder of its own, since it leaves a file where it runs; it looks for include there
mkdir "$tmp/include"
check() {
	local ignored=$1 top=$PWD
	shift
	[ $# -gt 0 ] || return 0
	(cd "$tmp" && perl "$checkpatch" --no-tree --root="$tmp" --strict --terse --no-summary --show-types --max-line-length=120 \
		${ignored:+--ignore "$ignored"} -f "${@/#/$top/}" 2>&1) | sed "s|^$top/||"
}
driver_style() {
	local special='driver/trace.h|driver/uapi_layout.h'
	mapfile -t plain < <(printf '%s\n' "${kernel[@]}" | grep -vxE "$special")
	# Macros that take types and fields by name.
	check MACRO_ARG_REUSE,MACRO_ARG_PRECEDENCE "${plain[@]}"
	# As all headers of tracepoints are written.
	[ ! -e driver/trace.h ] || check OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT driver/trace.h
	# One list with two uses, also outside of the kernel.
	check COMPLEX_MACRO,MACRO_ARG_REUSE,TRAILING_SEMICOLON,CAMELCASE driver/uapi_layout.h
}
# BIT() is the kernel's own.
uapi_style() { check BIT_MACRO "${uapi[@]}"; }
# Programs: the harness's macros are flow of control and types, attributes are the compiler's, and there is no kstrtol().
kselftest_style() {
	local types=PREFER_KERNEL_TYPES,CAMELCASE,MACRO_WITH_FLOW_CONTROL,MACRO_ARG_REUSE,VOLATILE,COMPLEX_MACRO,SSCANF_TO_KSTRTO
	types+=,PREFER_DEFINED_ATTRIBUTE_MACRO,SPACING,BRACES,ARRAY_SIZE,PARENTHESIS_ALIGNMENT,LINE_SPACING
	check "$types" "${kselftest[@]}"
}
if [ -z "$checkpatch" ] || ! have perl; then
	skip 'checkpatch --strict' 'no checkpatch.pl (CHECKPATCH=path, or Debian: linux-source-6.12)'
else
	verdict 'checkpatch --strict of the driver' < <(driver_style)
	verdict 'checkpatch --strict of the ABI' < <(uapi_style)
	verdict 'checkpatch --strict of the kselftests' < <(kselftest_style)
fi

kernel_doc=${KERNEL_DOC:-$(find /usr/lib/linux-kbuild-* /usr/src/linux-headers-*/scripts -name kernel-doc 2>/dev/null |
	sort -V | tail -n 1)}
if [ -z "$kernel_doc" ] || ! have perl; then
	skip 'kernel-doc -Werror' 'no kernel-doc (Debian: linux-kbuild)'
else
	verdict 'kernel-doc -Werror' < <("$kernel_doc" -Werror -none "${kernel[@]}" "${uapi[@]}" 2>&1 || echo 'kernel-doc failed')
fi

# Pointers are shown hashed or not at all, and users' mistakes are not logged.
words='%px|\bBUG(_ON)?\(|[^_]WARN(_ON)?\('
verdict 'no BUG, no WARN that repeats, no bare pointer' < <(grep -nE "$words" "${kernel[@]}")
versions='LINUX_VERSION_CODE|KERNEL_VERSION|linux/version\.h'
verdict "no kernel's version is asked for" < <(grep -nE "$versions" "${kernel[@]}")
verdict 'probes are used in compat.h only' < <(grep -nE 'PENSTOCK_HAVE_[A-Z0-9_]+' "${kernel[@]}" |
	grep -vE '^driver/compat\.h:|PENSTOCK_HAVE_PEERS')
probed() { grep -ohE '^(probe|exported) [A-Z0-9_]+' driver/conftest.sh | awk '$2 !~ /^CONTROL/ { print $2 }' | sort -u; }
asked() { grep -ohE 'PENSTOCK_HAVE_[A-Z0-9_]+' driver/compat.h | sed 's/PENSTOCK_HAVE_//' | grep -vx PEERS | sort -u; }
verdict 'each probe is used, each one used is there' < <(diff <(probed) <(asked) |
	sed -n 's/^</not used:/p; s/^>/no such probe:/p')

# The manual of the module has each option, each tracepoint, each line of debugfs.
names() {
	sed -nE 's/^module_param(_named)?\((\w+),.*/\2/p' driver/*.c
	sed -nE 's/^TRACE_EVENT\((\w+),/\1/p; s/^DEFINE_EVENT\(\w+, (\w+),/\1/p' driver/trace.h
	sed -nE 's/^\s*\[PENSTOCK_OBJECT_\w+\] = "(\w+)",/\1/p' driver/stats.c
}
verdict 'the manual has each option, tracepoint and object' < <(names | while read -r name; do
	grep -q "\`\`$name\`\`" Documentation/module.rst || echo "$name is not in Documentation/module.rst"
done)
finish
