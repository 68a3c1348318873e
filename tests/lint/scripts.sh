#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Scripts: shellcheck without exceptions in the command line, python compiles.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

mapfile -t scripts < <(files '*.sh' '*.bash' configure .ci/run tests/vm/guest/init tests/vm/guest/host)
if have shellcheck; then
	verdict 'shellcheck' < <(shellcheck -x -P SCRIPTDIR -f gcc "${scripts[@]}" 2>&1)
else
	skip 'shellcheck' 'no shellcheck'
fi
mapfile -t pythons < <(files '*.py')
if [ "${#pythons[@]}" -eq 0 ]; then
	:
elif have python3; then
	verdict 'python parses' < <(python3 -c '
import ast, sys
for f in sys.argv[1:]:
    try:
        ast.parse(open(f, encoding="utf-8").read(), f)
    except SyntaxError as e:
        print(e)
' "${pythons[@]}" 2>&1)
else
	skip 'python parses' 'no python3'
fi
finish
