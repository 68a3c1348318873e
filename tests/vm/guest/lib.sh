# SPDX-License-Identifier: MIT
# shellcheck shell=dash
# Sourced by guest tests (#!/bin/busybox sh): TAP, the lane's devices, the host.
#
#     # shellcheck shell=dash source=lib.sh
#     . /tests/lib.sh
#     verdict 'the peer is poisoned' "$(host peer-fill 0 4096 0xa5 2>&1)"
#     finish
#
# What is set: LANE KERNEL TOPOLOGY IOMMU DRIVES PEERS ICOUNT, FILES (name:size:constant).
nr=0 bad=0

ok() { nr=$((nr + 1)); echo "ok $nr $1"; }
not_ok() { nr=$((nr + 1)); bad=$((bad + 1)); echo "not ok $nr $1"; }
skip() { nr=$((nr + 1)); echo "ok $nr $1 # SKIP $2"; }
note() { echo "$*" | sed 's/^/# /'; }

# verdict NAME FAULT: good when FAULT is empty; else it says what is wrong
verdict() {
	if [ -z "$2" ]; then
		ok "$1"
	else
		note "$2"
		not_ok "$1"
	fi
}

# same NAME WANT GOT
same() {
	if [ "$2" = "$3" ]; then
		ok "$1"
	else
		note "want '$2'"
		note "got  '$3'"
		not_ok "$1"
	fi
}

# skip_all WHY: nothing of this test can run here
skip_all() {
	skip "$(basename "$0" .sh)" "$1"
	echo "1..$nr"
	exit 4
}

finish() {
	echo "1..$nr"
	[ "$bad" -eq 0 ]
}

have() { command -v "$1" >/dev/null; }
has_module() { [ -d "/sys/module/$1" ]; }

# insmod FILE PARAMETER...: the module's node is then as packaging's udev rule makes it
insmod() {
	busybox insmod "$@" || return
	if [ -e /dev/penstock ]; then
		chgrp penstock /dev/penstock && chmod 0660 /dev/penstock
	fi
}

# drive NAME: its block device. A drive's name is its serial number.
drive() {
	for _c in /sys/class/nvme/nvme*; do
		if [ "$(tr -d ' ' <"$_c/serial" 2>/dev/null)" = "$1" ]; then
			for _n in "$_c"/nvme*n[0-9]*; do
				# With several paths it is a disk of their own: nvme0c1n1 is one to nvme0n1.
				echo "/dev/$(basename "$_n" | sed 's/c[0-9]*n/n/')"
				return
			done
		fi
	done
	return 1
}

# drive_pci NAME: its PCI address
drive_pci() { basename "$(readlink -f "/sys/block/$(basename "$(drive "$1")")/device/device")"; }

# peer_pci [N]: the PCI address of an ivshmem device (1af4:1110); in order of address
peer_pci() {
	_i=0
	for _d in /sys/bus/pci/devices/*; do
		if [ "$(cat "$_d/vendor")$(cat "$_d/device")" = 0x1af40x1110 ]; then
			[ "$_i" -eq "${1:-0}" ] && basename "$_d" && return
			_i=$((_i + 1))
		fi
	done
	return 1
}

# peer_enable [N]: switch its memory on, where no driver has
peer_enable() {
	_d=/sys/bus/pci/devices/$(peer_pci "${1:-0}")
	[ -e "$_d/driver" ] || echo 1 >"$_d/enable"
}

# peer_range [N]: first and end address of its BAR 2, in hex
peer_range() {
	sed -n 3p "/sys/bus/pci/devices/$(peer_pci "${1:-0}")/resource" | {
		read -r _first _last _flags
		printf '0x%x 0x%x\n' "$_first" "$((_last + 1))"
	}
}
