#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# The module from its own packages: dpkg installs them, modprobe finds the module, udev
# gives the node to the group that the package made; and all goes away again.
# shellcheck shell=dash source=lib.sh
. /tests/lib.sh

# busybox has applets of these names, which are not meant: a link, and its shell takes them first.
for program in dash dpkg dpkg-deb dpkg-split ldconfig modprobe depmod udevadm groupadd; do
	if [ ! -x "/bin/$program" ] || [ -L "/bin/$program" ]; then
		skip_all "no $program on the host"
	fi
done
if [ -z "${UNDER_DASH:-}" ]; then
	ln -sf dash /bin/sh
	UNDER_DASH=1 exec dash "$0"
fi
release=$(uname -r)
node=/dev/penstock

# A system without the package: no group, and dpkg knows what was brought in another way.
sed -i '/^penstock:/d' /etc/group
mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates /var/lib/dpkg/triggers /var/log /lib/modules /etc/modprobe.d
for package in passwd kmod; do
	printf 'Package: %s\nStatus: install ok installed\nMaintainer: none <none@localhost>\nArchitecture: amd64\n' "$package"
	printf 'Version: 1\nDescription: part of the guest\n\n'
done >/var/lib/dpkg/status
: >/var/lib/dpkg/available
ln -sf udevadm /bin/systemd-udevd
verdict 'udev runs' "$(if ! systemd-udevd --daemon >/run/udevd.log 2>&1 || ! udevadm control --ping; then cat /run/udevd.log; fi)"

verdict 'modules do not install without what they need' \
	"$(dpkg -i /files/penstock-modules.deb >/dev/null 2>&1 && echo 'they did')"
verdict 'packages install' "$(dpkg -i /files/penstock-common.deb /files/penstock-modules.deb >/run/dpkg.log 2>&1 || cat /run/dpkg.log)"
same 'both are installed' 2 "$(dpkg-query -W -f '${Package} ${Status}\n' 'penstock-*' | grep -c ' install ok installed$')"
verdict 'the group is made' "$(grep -q '^penstock:x:[0-9]*:$' /etc/group || echo 'no group penstock')"

verdict 'modprobe loads the module' "$(modprobe penstock 2>&1)"
verdict 'the module is loaded' "$(has_module penstock || echo 'it is not')"
udevadm settle --timeout=30
verdict 'there is a node' "$([ -c "$node" ] || echo "no $node")"
same 'the node is of the group, and not for the world' '660 root:penstock' "$(stat -c '%a %U:%G' "$node" 2>&1)"
sed -i 's/^penstock:.*/&member/' /etc/group
verdict 'a member of the group may open it' "$(su member -c "exec 3<>$node" 2>&1)"
verdict 'others may not' "$(su other -c "exec 3<>$node" 2>/dev/null && echo 'they may')"
same 'the module says what it has' 'opens 0' "$(grep '^opens ' /sys/kernel/debug/penstock/objects 2>&1)"

verdict 'the module is unloaded' "$(modprobe -r penstock 2>&1)"
verdict 'no node is left' "$(udevadm settle --timeout=30; [ -e "$node" ] && echo 'it is')"
verdict 'packages are purged' "$(dpkg -P "penstock-modules-$release" penstock-common >/run/dpkg.log 2>&1 || cat /run/dpkg.log)"
verdict 'no file is left' "$(find /etc /lib/modules /lib/udev /usr -name '*penstock*' 2>/dev/null)"
verdict 'modprobe does not find the module any more' "$(modprobe penstock 2>/dev/null && echo 'it does')"
udevadm control --exit
finish
