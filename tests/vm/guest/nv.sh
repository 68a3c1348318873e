#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# The NVIDIA provider over a module that stands in for NVIDIA's: persistent pages,
# pages that are taken back, and a device without struct pages.
# shellcheck shell=dash source=lib.sh
. /tests/lib.sh
has_module penstock || skip_all 'no penstock.ko'
pci=/sys/bus/pci/devices
peer=$(peer_pci 0)

# part NAME PROGRAM ARGUMENT...: one run of a program, its results under our numbers
part() {
	note "$1"
	name=$1
	shift
	"$@" >/run/nv.tap
	status=$?
	while read -r line; do
		case $line in
		'ok '*) ok "$name: ${line#ok * - }" ;;
		'not ok '*) not_ok "$name: ${line#not ok * - }" ;;
		1..*) ;;
		*) echo "$line" ;;
		esac
	done </run/nv.tap
	verdict "$name: the program ends well" "$([ "$status" -le 1 ] || echo "status $status")"
}

verdict 'the provider does not load alone' "$(insmod /modules/ours/penstock_nv.ko 2>/dev/null && echo 'it did')"
echo "$peer" >"$pci/$peer/driver/unbind"
echo nvidia_p2p >"$pci/$peer/driver_override"
for pages in 1 0; do
	verdict "the owner is loaded, pages=$pages" "$(insmod /modules/ours/nvidia_p2p.ko "pages=$pages" 2>&1
		[ -e "$pci/$peer/driver" ] || echo "$peer was not bound")"
	for callback in 0 1; do
		verdict "the provider is loaded, callback=$callback" \
			"$(insmod /modules/ours/penstock_nv.ko "callback=$callback" 2>&1)"
		case $pages$callback in
		10) part persistent test_nv "$(drive raw)" "$peer" persistent ;;
		11) part callback test_nv "$(drive raw)" "$peer" callback ;;
		*) part nopages test_nv "$(drive raw)" "$peer" nopages ;;
		esac
		verdict 'the owner is in use' "$(rmmod nvidia_p2p 2>/dev/null && echo 'it was unloaded')"
		verdict 'the provider is unloaded' "$(rmmod penstock_nv 2>&1)"
	done
	verdict 'the owner is unloaded' "$(rmmod nvidia_p2p 2>&1)"
done

# Last, since it may leave the kernel without its record of mappings.
if [ -e /proc/self/fail-nth ]; then
	verdict 'both are loaded once more' "$(insmod /modules/ours/nvidia_p2p.ko 2>&1; insmod /modules/ours/penstock_nv.ko 2>&1)"
	part failures env "PENSTOCK_TEST_FILE=$(drive raw)" "PENSTOCK_TEST_NV=$peer" penstock_failnth faults.nv_memory
	verdict 'both are unloaded' "$(rmmod penstock_nv 2>&1; rmmod nvidia_p2p 2>&1)"
fi
echo >"$pci/$peer/driver_override"
echo "$peer" >/sys/bus/pci/drivers_probe
finish
