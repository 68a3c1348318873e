#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The ABI: its header compiles alone, has the layout that is written down, for 32 and
# 64 bits, by each compiler; its comments are whole; what is made from it is fresh.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

header=uapi/linux/penstock.h
printf '#include <linux/penstock.h>\nextern int a_unit_is_not_empty;\n' >"$tmp/alone.c"
printf '#include "driver/uapi_layout.h"\nextern int a_unit_is_not_empty;\n' >"$tmp/layout.c"
strict=(-pedantic -Wall -Wextra -Werror -Iuapi -I. -fsyntax-only)
# Headers of the 32-bit kernel are the same; only gcc -m32 does not look for them there.
bits32=(-m32 -idirafter "/usr/include/$(uname -m)-linux-gnu")

alone() { verdict "$header alone is $1" < <("${@:2}" "${strict[@]}" 2>&1); }
alone C11 "${CC:-gcc}" -std=c11 "$tmp/alone.c"
if have "${CXX:-g++}"; then
	alone C++ "${CXX:-g++}" -std=c++11 -x c++ "$tmp/alone.c"
else
	skip "$header alone is C++" "no ${CXX:-g++}"
fi
for compiler in gcc clang; do
	if ! have "$compiler"; then
		skip "layout by $compiler" "no $compiler"
		continue
	fi
	verdict "layout by $compiler" < <("$compiler" -std=c11 "${strict[@]}" "$tmp/layout.c" 2>&1)
	if [ "$(uname -m)" = x86_64 ]; then
		verdict "layout by $compiler for 32 bits" < <("$compiler" -std=c11 "${bits32[@]}" "${strict[@]}" "$tmp/layout.c" 2>&1)
	fi
done
# A member more, and the list is found wrong: it is not just skipped over.
sed 's/\(STRUCT(penstock_read, \)40/\148/' driver/uapi_layout.h >"$tmp/wrong.h"
printf '#include "%s"\n' "$tmp/wrong.h" >"$tmp/wrong.c"
verdict 'a wrong layout is found' < <(if "${CC:-gcc}" -std=c11 "${strict[@]}" "$tmp/wrong.c" 2>/dev/null; then echo 'it is not'; fi)
verdict 'the header includes what each system has' < <(grep -n '^#include' "$header" | grep -vE '<linux/(ioctl|types)\.h>')

if ! have python3; then
	skip 'what is made from the header' 'no python3'
	finish
	exit
fi
verdict 'each struct, member and reason is explained' < <(tests/uapi_header.py comments 2>&1)
verdict 'the layout lists each struct and member' < <(tests/uapi_header.py layout 2>&1)
verdict 'the description for syzkaller has each command, struct and member' < <(tests/uapi_header.py syzkaller 2>&1)
fresh() { diff <(tests/uapi_header.py "$1" 2>&1) "$2" >"$tmp/diff" || { head -n 10 "$tmp/diff"; echo 'run make uapi-doc'; }; }
verdict 'Documentation/uapi.rst is fresh' < <(fresh rst Documentation/uapi.rst)
verdict "the description's constants are fresh" < <(fresh const tests/fuzz/syzkaller/dev_penstock.txt.const)
finish
