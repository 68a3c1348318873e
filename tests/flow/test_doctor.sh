#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# `penstock doctor` on made-up machines (copies of /proc, /sys, /boot below a
# folder), to the letter, and on this one, in form.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

tool=$build/penstock
root=$tmp/host

# put PATH TEXT: a file of the made-up machine
put() {
	mkdir -p "$root$(dirname "$1")"
	printf '%s\n' "$2" >"$root$1"
}

# A kernel, an NVMe drive, a multipath head with a hidden path, a GPU, a test device, a network card.
host() {
	rm -rf "$root"
	put /proc/sys/kernel/osrelease 6.12.1-test
	put "/boot/config-6.12.1-test" "# CONFIG_PCI_P2PDMA is not set"
	put /proc/meminfo $'MemTotal: 1000 kB\nHugePages_Total:       4\nHugePages_Free:        3'
	put /sys/kernel/mm/transparent_hugepage/enabled 'always [madvise] never'
	local d=/sys/devices/pci0000:00/0000:00:02.0/0000:01:00.0/nvme/nvme0
	put "$d/model" 'ACME Fast 1T   '
	put "$d/numa_node" 1
	put "$d/nvme0n1/size" 2097152
	put "$d/nvme0n1/queue/logical_block_size" 4096
	mkdir -p "$root/sys/block"
	ln -s ../.. "$root$d/nvme0n1/device"
	ln -sfn ../../nvme0 "$root$d/nvme0n1/device"
	ln -s "../devices/pci0000:00/0000:00:02.0/0000:01:00.0/nvme/nvme0/nvme0n1" "$root/sys/block/nvme0n1"
	put /sys/devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n1/size 1024
	ln -s "../devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n1" "$root/sys/block/nvme1n1"
	mkdir -p "$root/sys/block/nvme1c1n1" "$root/sys/block/sda"
	put /sys/bus/pci/devices/0000:02:00.0/class 0x030200
	put /sys/bus/pci/devices/0000:02:00.0/vendor 0x10de
	put /sys/bus/pci/devices/0000:02:00.0/device 0x2330
	put /sys/bus/pci/devices/0000:03:00.0/class 0x050000
	put /sys/bus/pci/devices/0000:03:00.0/vendor 0x1af4
	put /sys/bus/pci/devices/0000:03:00.0/device 0x1110
	put /sys/bus/pci/devices/0000:04:00.0/class 0x020000
	put /sys/bus/pci/devices/0000:04:00.0/vendor 0x8086
	put /sys/bus/pci/devices/0000:04:00.0/device 0x1572
}

# What depends on the machine that runs the test is left out; the folder's name, too.
seen() {
	"$tool" doctor --root "$root" >"$tmp/out" 2>"$tmp/err"
	echo "status $?" >>"$tmp/out"
	sed "s|$root||g" "$tmp/out" "$tmp/err" | grep -vE '^(io_uring|locked memory)' | sed 's/  */ /g'
}

host
cat >"$tmp/want" <<'END'
kernel:
release ok: 6.12.1-test
P2PDMA no: CONFIG_PCI_P2PDMA is not set in /boot/config-6.12.1-test; remedy: boot a kernel with CONFIG_PCI_P2PDMA=y (Debian's stock kernels do not have it)
huge pages ok: 3 of 4 in the pool are free, transparent ones are "madvise"

module:
penstock.ko no: it is not loaded: /sys/module/penstock is not there; remedy: modprobe penstock (packages: penstock-dkms); what needs no peer works without it
node no: /dev/penstock: the module is not loaded: modprobe penstock: No such device; remedy: modprobe penstock

drives:
nvme0n1 ok: ACME Fast 1T, 1.0 GiB, 0000:01:00.0, NUMA node 1, blocks of 4096 bytes
nvme1n1 no: no model name, 512.0 KiB, no PCI device, NUMA node unknown, blocks of 0 bytes: NVMe multipath takes no peer pages (before Linux 7.2); remedy: boot with nvme_core.multipath=N

peers:
0000:02:00.0 no: 10de:2330: a display controller, but the module does not have it; remedy: modprobe penstock penstock_nv (it needs NVIDIA's open kernel modules)
0000:03:00.0 no: 1af4:1110: a device for tests, but the module does not have it; remedy: modprobe penstock allow_test_peer=1

pairs:
pairs no: none was examined: only the module can tell

verdict:
route direct no: not on this kernel: it has no P2PDMA
status 3
END
verdict 'a machine without P2PDMA, to the letter' < <(diff "$tmp/want" <(seen))

put "/boot/config-6.12.1-test" "CONFIG_PCI_P2PDMA=y"
verdict 'then the module is what is missing' < <(seen >"$tmp/seen"
	grep -q '^P2PDMA ok: CONFIG_PCI_P2PDMA is set' "$tmp/seen" || cat "$tmp/seen"
	grep -q '^route direct no: not yet: the module is not loaded' "$tmp/seen" || cat "$tmp/seen")

rm "$root/boot/config-6.12.1-test"
put /proc/kallsyms $'0000000000000000 T pci_p2pdma_add_resource_not\n0000000000000000 T pci_p2pdma_add_resource'
verdict 'symbols tell where no configuration does' < <(seen | grep -q '^P2PDMA ok: /proc/kallsyms has pci_p2pdma_add_resource' ||
	echo 'not found')

mkdir -p "$root/sys/module/penstock" "$root/dev"
: >"$root/dev/penstock"
verdict 'a node that is none of the module' < <(seen >"$tmp/seen"
	grep -q '^node no: /dev/penstock: it is no node of the penstock module' "$tmp/seen" || cat "$tmp/seen"
	grep -q '^route direct no: not for this user' "$tmp/seen" || cat "$tmp/seen")

rm -rf "${root:?}"
mkdir "$root"
verdict 'an empty machine is no crash' < <(seen >"$tmp/seen"
	grep -q '^drives no: no NVMe drive below /sys/block' "$tmp/seen" || cat "$tmp/seen"
	grep -q '^status 3' "$tmp/seen" || cat "$tmp/seen")

# This machine: the form only.
form() {
	"$tool" doctor --json >"$tmp/json"
	local rc=$?
	case $rc in 0 | 1 | 3) ;; *) echo "status $rc" ;; esac
	grep -q '"schema": *"penstock.doctor/1"' "$tmp/json" || echo 'no schema'
	local id
	for id in kernel.release kernel.io_uring kernel.uring_cmd kernel.p2pdma kernel.memlock kernel.huge_pages module.loaded \
		module.node verdict.direct; do
		grep -q "\"id\": *\"$id\"" "$tmp/json" || echo "no $id"
	done
	grep -qE '"direct_route": *(true|false)' "$tmp/json" || echo 'no verdict'
}
verdict 'JSON of this machine has its schema and its lines' < <(form)
verdict 'wrong usage is told' < <("$tool" doctor --rooot x >/dev/null 2>&1; [ $? -eq 2 ] || echo 'not status 2')
finish
