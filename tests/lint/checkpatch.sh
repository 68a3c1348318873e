#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Kernel style of the rooms in user space by checkpatch.pl, where it is: CHECKPATCH=path,
# or Debian's linux-source unpacked under /usr/src. The kernel side's is kernel.sh.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

checkpatch=${CHECKPATCH:-$(find /usr/src -maxdepth 3 -name checkpatch.pl 2>/dev/null | sort -V | tail -n 1)}
if [ -z "$checkpatch" ] || ! have perl; then
	skip checkpatch 'no checkpatch.pl (CHECKPATCH=path)'
	finish
	exit 4
fi
# User space: fixed-width types and printf are its own; the harness's macros are kselftest's.
ignore=PREFER_KERNEL_TYPES,SPDX_LICENSE_TAG,BLOCK_COMMENT_STYLE,NETWORKING_BLOCK_COMMENT_STYLE,CAMELCASE
ignore=$ignore,VOLATILE,PREFER_DEFINED_ATTRIBUTE_MACRO,NEW_TYPEDEFS,LEADING_SPACE,SSCANF_TO_KSTRTO,USLEEP_RANGE
ignore=$ignore,CONST_STRUCT,MACRO_ARG_REUSE,MACRO_ARG_PRECEDENCE,COMPLEX_MACRO,MULTIPLE_ASSIGNMENTS,FILE_PATH_CHANGES
ignore=$ignore,STATIC_CONST_CHAR_ARRAY,UNCOMMENTED_DEFINITION,AVOID_EXTERNS,LONG_LINE_STRING,STRCPY,STRLCPY,STRNCPY
check() {
	files 'runtime/*.[ch]' 'kernels/*.[ch]' 'tools/*.[ch]' |
		xargs perl "$checkpatch" --no-tree --terse --no-summary --max-line-length=120 --ignore "$ignore" -f 2>&1 |
		grep -E 'ERROR|WARNING'
}
verdict checkpatch < <(check)
finish
