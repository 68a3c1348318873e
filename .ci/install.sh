#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Bring what is missing on a bare Debian 12: install.sh [--demo | --ci]
#   --demo  what building and running needs
#   --ci    also what the tests and lint use (the default)
# As root, or with sudo. Asks nothing. Does nothing when all is there.
set -euo pipefail

demo=(gcc make libc6-dev liburing-dev libnuma-dev libyajl-dev libxxhash-dev)
ci=(g++ clang libclang-rt-dev llvm pkg-config fio python3 shellcheck mandoc python3-docutils git procps util-linux)
# tests/vm: QEMU, what builds kernels, what its guests run
ci+=(qemu-system-x86 linux-source-6.12 flex bison bc libelf-dev libssl-dev kmod xz-utils perl busybox-static gcc-multilib
	mdadm dmsetup pciutils)
# the modules: sparse, and what packages and installs them
ci+=(sparse dkms dpkg-dev udev)
# tests/root, tests/vm: file systems on loop devices and in images
ci+=(e2fsprogs xfsprogs btrfs-progs squashfs-tools erofs-utils)
# tests/llama: what fetches and builds a llama.cpp, and writes models for it
ci+=(cmake ninja-build python3-pip curl)

case ${1:---ci} in
--demo) want=("${demo[@]}") ;;
--ci) want=("${demo[@]}" "${ci[@]}") ;;
*) echo "usage: $0 [--demo | --ci]" >&2; exit 2 ;;
esac

if ! command -v apt-get >/dev/null; then
	echo "install.sh: no apt-get here; Documentation/building.rst lists the packages of other systems" >&2
	exit 1
fi
installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q '^install ok installed'; }

missing=()
for package in "${want[@]}"; do
	installed "$package" || missing+=("$package")
done
# kernel-doc: the package's name holds the kernel's version.
doc=$(echo /usr/lib/linux-kbuild-*/scripts/kernel-doc)
if [ "${1:---ci}" = --ci ] && [ ! -e "${doc%% *}" ]; then
	missing+=(linux-kbuild)
fi
# Headers of Debian's kernels: the newest of each series.
for series in 6.12 6.1; do
	if [ "${1:---ci}" = --ci ] && [ -z "$(find /usr/src -maxdepth 1 -name "linux-headers-$series.*-amd64")" ]; then
		missing+=("linux-headers-$series")
	fi
done
[ "${#missing[@]}" -gt 0 ] || exit 0

sudo=()
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "install.sh: missing ${missing[*]}; run this as root, or install sudo" >&2
		exit 1
	fi
	sudo=(sudo)
fi
apt() { "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" </dev/null; }

echo "installing: ${missing[*]}"
apt update
# newest PATTERN: of the packages whose names match; a series has one package for each version
newest() { apt-cache search --names-only "$1" | awk '{ print $1 }' | sort -V | tail -n 1; }
for i in "${!missing[@]}"; do
	case ${missing[i]} in
	linux-kbuild) missing[i]=$(newest '^linux-kbuild-[0-9.]+$') ;;
	linux-headers-*) missing[i]=$(newest "^${missing[i]//./[.]}[.][0-9.-]+([+]deb[0-9]+)?-amd64$") ;;
	esac
	[ -n "${missing[i]}" ] || unset "missing[i]"
done
apt install --no-install-recommends "${missing[@]}"
