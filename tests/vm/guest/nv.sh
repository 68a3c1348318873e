#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# The NVIDIA provider over a module that stands in for NVIDIA's: persistent pages,
# pages that are taken back, and a device without struct pages.
# shellcheck shell=dash source=lib.sh
. /tests/lib.sh
has_module penstock || skip_all 'no penstock.ko'
pci=/sys/bus/pci/devices
peer=$(peer_pci 0)

# part MODE: one run of the program, its results under our numbers
part() {
	note "$1"
	test_nv "$(drive raw)" "$peer" "$1" >/run/nv.tap
	status=$?
	while read -r line; do
		case $line in
		'ok '*) ok "$1: ${line#ok * - }" ;;
		'not ok '*) not_ok "$1: ${line#not ok * - }" ;;
		1..*) ;;
		*) echo "$line" ;;
		esac
	done </run/nv.tap
	verdict "$1: the program ends well" "$([ "$status" -le 1 ] || echo "status $status")"
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
		10) part persistent ;;
		11) part callback ;;
		*) part nopages ;;
		esac
		verdict 'the owner is in use' "$(rmmod nvidia_p2p 2>/dev/null && echo 'it was unloaded')"
		verdict 'the provider is unloaded' "$(rmmod penstock_nv 2>&1)"
	done
	verdict 'the owner is unloaded' "$(rmmod nvidia_p2p 2>&1)"
done
echo >"$pci/$peer/driver_override"
echo "$peer" >/sys/bus/pci/drivers_probe
finish
