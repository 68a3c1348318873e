#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# Teardown with reads in flight, on a throttled drive: see test_teardown.c.
# With an argument: what that program has done to the machine from outside.
# shellcheck shell=dash source=lib.sh
. /tests/lib.sh
pci=/sys/bus/pci/devices

# wait_for COMMAND...: until it succeeds, at most 40 seconds
wait_for() {
	for _ in $(seq 400); do
		"$@" && return
		usleep 100000
	done
	echo "not within 40 s: $*" >&2
	return 1
}
is_bound() { [ "$(basename "$(readlink -f "$pci/$1/driver")")" = penstock_peer ]; }
is_gone() { [ ! -e "$pci/$1" ]; }
is_drive() { [ -b "$(drive raw)" ]; }
# The reads of a worker take a second.
throttle() { host throttle raw 2M; }
# And here ten: a device is let go of five seconds after it was asked for.
slow() { host throttle raw 200K; }

case ${1:-} in
slow)
	slow
	exit
	;;
peer-del)
	peer=$(peer_pci 0)
	host peer-del 0 && wait_for is_gone "$peer"
	exit
	;;
peer-add)
	host peer-add 0 && wait_for peer_pci 0 >/dev/null && wait_for is_bound "$(peer_pci 0)" && throttle
	exit
	;;
peer-rebind)
	echo "$2" >/sys/bus/pci/drivers_probe && wait_for is_bound "$2"
	exit
	;;
insmod)
	insmod /modules/ours/penstock.ko allow_test_peer=1
	[ -z "$(peer_pci 0)" ] || wait_for is_bound "$(peer_pci 0)"
	exit
	;;
drive-silent)
	# As if it were pulled out: neither its registers nor its memory accesses get anywhere.
	drive_pci raw >/run/silent
	printf '\000\001' | dd of="$pci/$(cat /run/silent)/config" bs=1 seek=4 conv=notrunc 2>/dev/null
	exit
	;;
drive-wake)
	drive=$(cat /run/silent)
	# Its driver has given it up by itself; what is left of it goes.
	[ -e "$pci/$drive" ] && echo 1 >"$pci/$drive/remove"
	wait_for is_gone "$drive" && echo 1 >/sys/bus/pci/rescan && wait_for is_drive && throttle
	exit
	;;
drive-del)
	drive=$(drive_pci raw)
	host drive-del raw && wait_for is_gone "$drive"
	exit
	;;
drive-add)
	host drive-add raw && wait_for is_drive && throttle
	exit
	;;
esac

has_module penstock || skip_all 'no penstock.ko'
peer=-
[ -n "$(peer_pci 0)" ] && is_bound "$(peer_pci 0)" && peer=$(peer_pci 0)
throttle || not_ok 'the drive can be throttled'
# The limit holds from the second request on.
dd if="$(drive raw)" of=/dev/null bs=64K count=16 iflag=direct 2>/dev/null
# The lane chooses by the kernel's command line: TEARDOWN_CASES=munmap,free
# shellcheck disable=SC2046 # names of cases, none or many
test_teardown "$(drive raw)" "$peer" $(echo "${TEARDOWN_CASES:-}" | tr ',' ' ')
