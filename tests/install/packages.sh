#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The Debian packages: what is in them, that they install and go away (into a folder,
# their scripts included), that DKMS builds the modules from its package for each kernel
# whose headers are here. In a machine of its own: tests/vm/guest/package.sh.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

if ! have dpkg-deb || ! have dpkg-shlibdeps; then
	skip 'packages' 'no dpkg-deb and dpkg-shlibdeps (Debian: dpkg-dev)'
	finish
	exit 4
fi
export PATH="$PATH:/usr/sbin:/sbin"
version=$(sed -n 's/^VERSION := //p' Makefile)
debs=$tmp/debs
deb() { echo "$debs/$1_${version}_$2.deb"; }
architecture=$(dpkg --print-architecture)
build_debs() { env -u MAKEFLAGS -u MAKELEVEL MAKE="${MAKE:-make}" O="$build" packaging/deb.sh "$version" "$1" "${@:2}"; }

verdict 'packages are built' < <(build_debs "$debs" tool common dkms 2>&1 >/dev/null || echo failed)
build_debs "$tmp/again" common dkms >/dev/null
verdict 'the same bytes each time' < <(for f in "$tmp"/again/*.deb; do cmp "$f" "$debs/${f##*/}"; done 2>&1)
contents() { for f in "$debs"/*.deb; do dpkg-deb -c "$f" | sed "s|^|${f##*/}: |"; done; }
verdict 'all is owned by root, nothing is special' < <(contents | awk '$3 != "root/root" || $2 ~ /[sStT]/')
verdict 'nothing lies where administrators put theirs' < <(contents | grep -E ' \./(usr/local|opt|home|tmp|var|root)/')
sources() { printf '%s\n' Kbuild dkms.conf driver/Kbuild driver/conftest.sh uapi/linux/penstock.h; files 'driver/*.[ch]'; }
verdict 'the source package has the whole source' < <(diff <(sources | sort) <(dpkg-deb -c "$(deb penstock-dkms all)" |
	awk '$1 ~ /^-/ { print $NF }' | sed -n "s|^./usr/src/penstock-$version/||p" | sort))

# ---- DKMS ----

# with_dkms KERNEL: build from the package as dkms does, in folders of its own
with_dkms() {
	local tree=$tmp/dkms-$1 kernel=$1
	mkdir -p "$tree/tree" "$tree/source"
	dpkg-deb -x "$(deb penstock-dkms all)" "$tree/package"
	mv "$tree/package/usr/src/penstock-$version" "$tree/source/"
	# No key is made for signing; that would be kept outside of these folders.
	for action in add build; do
		env -u MAKEFLAGS -u MAKELEVEL sign_file=/nonexistent dkms "$action" -m penstock -v "$version" --dkmstree "$tree/tree" \
			--sourcetree "$tree/source" -k "$kernel" --kernelsourcedir "/usr/src/linux-headers-$kernel" \
			-a x86_64 >"$tree/$action.log" 2>&1 || {
			tail -n 20 "$tree/$action.log" "$tree/tree/penstock/$version/build/make.log"
			return
		}
	done
	local built
	built=$(find "$tree/tree/penstock/$version/$kernel" -name 'penstock.ko*')
	[ -n "$built" ] || { echo 'no penstock.ko'; return; }
	modinfo -F vermagic "$built" | grep -q "^$kernel " || echo "$built is for $(modinfo -F vermagic "$built")"
}
mapfile -t kernels < <(find /usr/src -maxdepth 1 -name 'linux-headers-*-amd64' -printf '%f\n' |
	sed 's/^linux-headers-//' | sort -V)
if ! have dkms; then
	skip 'DKMS builds the modules' 'no dkms'
elif [ "${#kernels[@]}" -eq 0 ]; then
	skip 'DKMS builds the modules' 'no headers of a kernel in /usr/src'
else
	for kernel in "${kernels[@]}"; do
		verdict "DKMS builds the modules for $kernel" < <(with_dkms "$kernel")
	done
fi

# ---- modules for one kernel, and the installation of all but the tool into a folder ----

release=''
if [ "${#kernels[@]}" -gt 0 ]; then
	release=${kernels[-1]}
	headers=/usr/src/linux-headers-$release
	package_modules() {
		if ! env -u MAKEFLAGS -u MAKELEVEL "${MAKE:-make}" -s driver KDIR="$headers" O="$build" >"$tmp/modules.log" 2>&1 ||
			! build_debs "$debs" modules "$headers" "$build/driver/$(driver/build.sh --key "$headers")" \
				>>"$tmp/modules.log" 2>&1; then
			tail -n 20 "$tmp/modules.log"
		fi
	}
	verdict "modules for $release are packaged" < <(package_modules)
fi

root=$tmp/root
in_root() {
	dpkg --root="$root" --force-not-root --force-script-chrootless --force-depends --force-bad-path --no-triggers \
		--log="$tmp/dpkg.log" "$@" >"$tmp/dpkg.out" 2>&1 || cat "$tmp/dpkg.out"
}
mkdir -p "$root"/{etc,var/lib/dpkg/{info,updates,triggers},var/log}
: >"$root/var/lib/dpkg/status"
echo 'root:x:0:' >"$root/etc/group"
: >"$root/etc/gshadow"
installed=(penstock-common penstock-dkms)
packages=("$(deb penstock-common all)" "$(deb penstock-dkms all)")
if [ -n "$release" ]; then
	mkdir -p "$root/lib/modules/$release"
	cp "/lib/modules/$release"/modules.{builtin,order} "$root/lib/modules/$release/" 2>/dev/null
	touch "$root/lib/modules/$release"/modules.{builtin,order}
	installed+=("penstock-modules-$release")
	packages+=("$(deb "penstock-modules-$release" "$architecture")")
fi
if [ "$(id -u)" -ne 0 ]; then
	skip 'installation into a folder' 'not root: groupadd works for root only'
else
	verdict 'packages install' < <(in_root -i "${packages[@]}")
	verdict 'the group is made' < <(grep -q '^penstock:x:[0-9]*:$' "$root/etc/group" || cat "$root/etc/group")
	[ -z "$release" ] || verdict 'modprobe finds the module' < <(modprobe -d "$root" -S "$release" -nD penstock 2>&1 |
		grep -q "^insmod .*/updates/penstock/penstock.ko" || echo "not found: $(modprobe -d "$root" -S "$release" -nD penstock 2>&1)")
	verdict 'the rule names the node, the group and the mode' < <(
		grep -qx 'SUBSYSTEM=="misc", KERNEL=="penstock", GROUP="penstock", MODE="0660"' \
			"$root/lib/udev/rules.d/60-penstock.rules" || echo 'it does not')
	verdict 'packages install again' < <(in_root -i "${packages[@]}")
	verdict 'there is still one group' < <([ "$(grep -c '^penstock:' "$root/etc/group")" = 1 ] || cat "$root/etc/group")
	echo '# changed by an administrator' >>"$root/etc/modprobe.d/penstock.conf"
	verdict 'packages are removed' < <(in_root -r "${installed[@]}")
	verdict "an administrator's options stay" < <(grep -q administrator "$root/etc/modprobe.d/penstock.conf" || echo gone)
	verdict 'packages are purged' < <(in_root -P "${installed[@]}")
	verdict 'nothing is left behind' < <(find "$root" -name '*penstock*' ! -path '*/var/lib/dpkg/*')
fi

# ---- the provider for NVIDIA's modules, against symbols that are those of no built module ----

nv_by_symvers() {
	local at=$tmp/nv symvers=$tmp/Module.symvers
	printf '0x1234567%d\t%s\tkernel-open/nvidia\tEXPORT_SYMBOL_GPL\t\n' 1 nvidia_p2p_get_pages 2 nvidia_p2p_put_pages \
		3 nvidia_p2p_get_pages_persistent 4 nvidia_p2p_put_pages_persistent >"$symvers"
	if ! env -u MAKEFLAGS -u MAKELEVEL "${MAKE:-make}" -s driver KDIR="$headers" O="$at" NV_SYMVERS="$symvers" \
		>"$tmp/nv.log" 2>&1; then
		tail -n 20 "$tmp/nv.log"
		return
	fi
	modinfo -F depends "$at"/driver/*/penstock_nv.ko | tr ',' '\n' | sort | tr '\n' ' ' | grep -qx 'nvidia penstock ' ||
		modinfo "$at"/driver/*/penstock_nv.ko
	[ ! -e "$(echo "$at"/driver/*/nvidia_p2p.ko)" ] || echo 'the stand-in was built'
}
if [ -n "$release" ] && [ -e driver/peer_nv.c ]; then
	verdict "the provider for NVIDIA's modules is built where their symbols are known" < <(nv_by_symvers)
fi

# ---- the example of options ----

# Each option that the example shows, as if its "#" were away.
shown() { sed -n 's/^#\(options\|softdep\) /\1 /p' packaging/penstock.modprobe; }
if have modprobe; then
	shown >"$tmp/shown.conf"
	verdict 'modprobe understands the example' < <(modprobe -C "$tmp/shown.conf" -c 2>&1 >/dev/null
		[ "$(modprobe -C "$tmp/shown.conf" -c 2>/dev/null | grep -cE '^(options|softdep) (penstock|nvidia)')" = \
			"$(wc -l <"$tmp/shown.conf")" ] || echo 'not all of it')
fi
parameters() {
	sed -nE 's/^module_param(_named)?\((\w+),.*/\2/p' "$@"
}
options() { shown | awk -v m="$1" '$1 == "options" && $2 == m { for (i = 3; i <= NF; i++) { sub(/=.*/, "", $i); print $i } }'; }
mapfile -t penstock_sources < <(files 'driver/*.c' | grep -v peer_nv)
verdict 'the example shows each parameter of penstock, and no other' < <(diff <(options penstock | sort) \
	<(parameters "${penstock_sources[@]}" | sort))
if [ -e driver/peer_nv.c ]; then
	verdict 'the example shows each parameter of penstock_nv, and no other' < <(diff <(options penstock_nv | sort) \
		<(parameters driver/peer_nv.c | sort))
fi
finish
