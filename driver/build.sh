#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Build the modules for one kernel: build.sh KDIR FOLDER [MAKE ARGUMENTS...]
# The kernel's build writes beside its sources, so these are linked into
# FOLDER/KEY, one for each kernel, and built there; the modules end as
# FOLDER/KEY/*.ko. Run in the top folder of the tree.
#	build.sh --key KDIR: print KEY
# From the environment:
#	W=1		more warnings (the default; empty: none)
#	WERROR=1	warnings are errors, those of kernel-doc too
#	SPARSE=1	sparse over each file, and its warnings are errors
#	FAKE_NV=1	penstock_nv.ko against a module that stands in for NVIDIA's, and other modules for tests
#	NV_SYMVERS=FILE	penstock_nv.ko against NVIDIA's modules, whose Module.symvers FILE is
#	PRETEND='X=1'	answers of probes, for tests: see conftest.sh
#	ONLY=FILES	these objects only (driver/read.o), no module
set -eu

# A test kernel's tree and a distribution's link both have names that say nothing.
key() {
	k=$(cd "$1" && pwd -P)
	case ${k##*/} in build | tree | linux | source) k=${k%/*} ;; esac
	echo "${k##*/}"
}

usage() {
	echo 'usage: build.sh KDIR FOLDER [MAKE ARGUMENTS...] | --key KDIR' >&2
	exit 2
}

[ $# -ge 2 ] || usage
[ "$1" = --key ] && { key "$2"; exit; }
kdir=$1 folder=$2
shift 2

if [ ! -e "$kdir/Makefile" ] || [ ! -e "$kdir/include/generated/autoconf.h" ]; then
	release=$(echo "$kdir" | sed -n 's|^/lib/modules/\([^/]*\)/.*|\1|p')
	{
		echo "make driver: no headers of a kernel in $kdir"
		echo "Install them (Debian: linux-headers-${release:-RELEASE}), or say where they are: make driver KDIR=..."
	} >&2
	exit 3
fi
kdir=$(cd "$kdir" && pwd -P)

at=$folder/$(key "$kdir")
mkdir -p "$at"
at=$(cd "$at" && pwd -P)
# Two kernels whose folders have the same name do not share objects.
if [ "$(cat "$at/kdir" 2>/dev/null)" != "$kdir" ]; then
	rm -rf "${at:?}"
	mkdir -p "$at"
	echo "$kdir" >"$at/kdir"
fi

top=$(pwd -P)
mkdir -p "$at/driver" "$at/tests/fake"
find "$at/driver" "$at/tests/fake" -type l ! -exec test -e {} \; -exec rm -f {} +
ln -sfn "$top/uapi" "$at/uapi"
ln -sf "$top/Kbuild" "$at/Kbuild"
for f in driver/* tests/fake/Kbuild tests/fake/nvidia_p2p* tests/fake/dmabuf_importer.c; do
	[ -f "$f" ] && [ ! -e "$at/$f" ] && ln -sf "$top/$f" "$at/$f"
done

# Without it nothing is known of the kernel's symbols: those are found missing by insmod.
[ -e "$kdir/Module.symvers" ] || set -- KBUILD_MODPOST_WARN=1 "$@"
[ -z "${W-1}" ] || set -- "W=${W-1}" "$@"
[ "${WERROR:-}" != 1 ] || set -- KCFLAGS=-Werror KDOCFLAGS=-Werror "$@"
[ "${SPARSE:-}" != 1 ] || set -- C=2 CF=-Wsparse-error "$@"
[ "${FAKE_NV:-}" != 1 ] || set -- FAKE_NV=1 "$@"
[ -z "${PRETEND:-}" ] || set -- "PRETEND=$PRETEND" "$@"
if [ -n "${NV_SYMVERS:-}" ]; then
	set -- "NV_SYMVERS=$NV_SYMVERS" "KBUILD_EXTRA_SYMBOLS=$NV_SYMVERS" "$@"
fi
if [ -n "${ONLY:-}" ]; then
	# shellcheck disable=SC2086 # a list
	set -- "$@" $ONLY
else
	set -- "$@" modules
fi

# Variables given to the tree's own Makefile (O!) mean something else to the kernel's: only flags go on.
case ${MAKEFLAGS:-} in
*' -- '*) MAKEFLAGS=${MAKEFLAGS%% -- *} ;;
esac
unset O V C M CF CFLAGS CPPFLAGS LDFLAGS VERSION MAKEOVERRIDES
${MAKE:-make} --no-print-directory -C "$kdir" "M=$at" "$@"
[ -z "${ONLY:-}" ] || exit 0
# What this build made: modules of one with other arguments may still lie about.
rm -f "$at"/*.ko
while read -r f; do
	f=${f%.*}.ko
	case $f in /*) ;; *) f=$at/$f ;; esac
	cp -p "$f" "$at/"
done <"$at/modules.order"
