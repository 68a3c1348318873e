#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# Devices that go and come back under the guest: the peer and a drive.
# shellcheck shell=dash source=lib.sh
. /tests/lib.sh

# until_there PATH, until_gone PATH: within 20 seconds, or say so
until_there() { for _ in $(seq 200); do [ -e "$1" ] && return; usleep 100000; done; echo "$1 is not there"; }
until_gone() { for _ in $(seq 200); do [ ! -e "$1" ] && return; usleep 100000; done; echo "$1 is still there"; }
pci=/sys/bus/pci/devices

peer=$(peer_pci 0)
host peer-fill 0 4096 0x5a
verdict 'the peer is removed' "$(host peer-del 0 2>&1)$(until_gone "$pci/$peer")"
verdict 'the peer is put back' "$(host peer-add 0 2>&1)$(until_there "$pci/$peer")"
peer_enable 0
same 'the peer has its memory' "$(host peer-sum 0 4096)" "$(barpeek sum "$pci/$peer/resource2" 0 4096)"

raw=$(drive_pci raw)
verdict 'the drive is removed' "$(host drive-del raw 2>&1)$(until_gone "$pci/$raw")"
verdict 'no drive of that name' "$(drive raw)"
verdict 'the drive is put back' "$(host drive-add raw 2>&1)$(until_there "$pci/$raw")"
for _ in $(seq 100); do [ -b "$(drive raw)" ] && break; usleep 100000; done
same 'the drive has its contents' "$(host file-sum raw 8M 64K)" \
	"$(dd if="$(drive raw)" bs=64K skip=128 count=1 2>/dev/null | sha256sum | cut -d ' ' -f 1)"
finish
