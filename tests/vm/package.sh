#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Make the packages for Debian's kernel 6.12, and run the lane that installs them:
# package.sh VERSION BUILD, in the top folder.
set -euo pipefail
version=$1 build=$2
rc=0
kernel=$(tests/vm/kernel.sh stock-6.12) || rc=$?
if [ "$rc" -eq 4 ]; then
	echo '0 passed, 0 failed, 1 skipped'
	exit 0
fi
[ "$rc" -eq 0 ] || exit "$rc"
debs=$build/vm/deb
rm -rf "$debs"
"${MAKE:-make}" -s driver "KDIR=$kernel/tree" "O=$debs/modules"
packaging/deb.sh "$version" "$debs" common >/dev/null
packaging/deb.sh "$version" "$debs" modules "$kernel/tree" \
	"$debs/modules/driver/$(driver/build.sh --key "$kernel/tree")" >/dev/null
# The lane names files, whatever version they are of.
mv "$debs/penstock-common_${version}_all.deb" "$debs/penstock-common.deb"
mv "$debs"/penstock-modules-*.deb "$debs/penstock-modules.deb"
PENSTOCK_BUILD=$build tests/vm/vm.py package
