#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# Peer memory on this lane's topology; and without leave to bind to a test device.
# shellcheck shell=dash source=lib.sh
. /tests/lib.sh
has_module penstock || skip_all 'no penstock.ko'
pci=/sys/bus/pci/devices
peer=$(peer_pci 0)

# What the kernel will say of the way: see Documentation/vm-tests.rst.
family=$(sed -n 's/^cpu family.*: //p' /proc/cpuinfo | head -n 1)
case $KERNEL,$TOPOLOGY,$IOMMU in
stock-6.1,*) verdict=old ;;
stock-*) verdict=off ;;
*,switch,on) verdict=liar ;;
*,switch,*) verdict=bus ;;
*) verdict=none && [ "$family" -ge 23 ] && verdict=bridge ;;
esac
test_peer "$(drive raw)" "$peer" "$verdict" >/run/peer.tap || bad=1
grep -v '^1\.\.' /run/peer.tap
nr=$(grep -cE '^(not )?ok ' /run/peer.tap)

rmmod penstock
insmod /modules/ours/penstock.ko
verdict 'a test device is not taken without leave' "$([ ! -e "$pci/$peer/driver" ] || readlink "$pci/$peer/driver")"
echo penstock_peer >"$pci/$peer/driver_override"
verdict 'nor when it is told to be' "$(echo "$peer" >/sys/bus/pci/drivers_probe 2>/dev/null
	[ ! -e "$pci/$peer/driver" ] || readlink "$pci/$peer/driver")"
echo >"$pci/$peer/driver_override"
rmmod penstock
insmod /modules/ours/penstock.ko allow_test_peer=1 peer_bar=0
# BAR 0 has 256 bytes: a peer, but one without pages.
verdict 'a BAR that is too small has no pages' "$([ ! -e "$pci/$peer/p2pmem" ] || echo "$pci/$peer/p2pmem is there"
	[ "$(basename "$(readlink "$pci/$peer/driver")")" = penstock_peer ] || echo 'not bound')"
case $verdict in
off | old) ;;
*) verdict 'and says so' "$(test_peer "$(drive raw)" "$peer" nopages | grep '^not ok')" ;;
esac
rmmod penstock
insmod /modules/ours/penstock.ko allow_test_peer=1
verdict 'the peer is back' "$([ -e "$pci/$peer/driver" ] || echo "no $pci/$peer/driver")"
finish
