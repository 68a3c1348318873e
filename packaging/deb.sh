#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Debian packages without debhelper: folders are staged as they will be installed, and
# dpkg-deb makes packages of them.
#	deb.sh VERSION FOLDER tool common dkms		these packages into FOLDER
#	deb.sh VERSION FOLDER modules KDIR BUILT	the modules in BUILT, made for KDIR's kernel
# `tool` takes what `make install` installs: MAKE and O say how it was built.
set -euo pipefail
version=$1 out=$2
shift 2
here=packaging
maintainer='Penstock maintainers <maintainers@penstock.invalid>'
mkdir -p "$out"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
# Bytes depend on what is packaged only.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Makefile)}
export SOURCE_DATE_EPOCH
umask 022

# put FILE PATH [MODE]: stage one file
put() { install -D -m "${3:-644}" "$1" "$root$2"; }

# begin NAME
begin() {
	name=$1 root=$stage/$1
	mkdir -p "$root/DEBIAN"
	put $here/deb/copyright "/usr/share/doc/$name/copyright"
	mkdir -p "$root/usr/share/doc/$name"
	gzip -9nc CHANGELOG.md >"$root/usr/share/doc/$name/changelog.gz"
}

# script KIND FILE: a maintainer's script, with what this package's is called
script() {
	sed -e "s/@VERSION@/$version/g" -e "s/@RELEASE@/${release:-}/g" "$here/deb/$2" >"$root/DEBIAN/$1"
	chmod 755 "$root/DEBIAN/$1"
}

# end ARCHITECTURE FIELDS SUMMARY DESCRIPTION
end() {
	local package=$out/${name}_${version}_$1.deb
	(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
	{
		printf 'Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: %s\n' "$name" "$version" "$1" "$maintainer"
		printf 'Installed-Size: %s\n' "$(du -sk --exclude=DEBIAN "$root" | cut -f 1)"
		printf 'Section: kernel\nPriority: optional\n%sDescription: %s\n' "$2" "$3"
		fold -s -w 76 <<<"$4" | sed 's/^/ /; s/ *$//'
	} >"$root/DEBIAN/control"
	find "$root" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
	dpkg-deb --root-owner-group --build "$root" "$package" >/dev/null
	echo "$package"
}

tool() {
	begin penstock
	"${MAKE:-make}" -s install "DESTDIR=$root" PREFIX=/usr "LIBDIR=/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)" \
		${O:+"O=$O"} >/dev/null
	find "$root/usr/bin" "$root/usr/lib" \( -name '*.so' -o -name '*.so.*' -o -name penstock \) -type f -exec strip --strip-unneeded {} +
	mkdir -p "$stage/shlibs/debian"
	printf 'Source: penstock\n\nPackage: penstock\nArchitecture: any\n' >"$stage/shlibs/debian/control"
	local needs
	needs=$(cd "$stage/shlibs" && dpkg-shlibdeps -O -xpenstock "-S$root" "$root/usr/bin/penstock" \
		"$root"/usr/lib/*/libpenstock.so.*.* \
		"$root"/usr/lib/*/penstock/libggml-penstock.so 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
	end "$(dpkg --print-architecture)" "Depends: $needs"$'\n'"Recommends: penstock-common"$'\n' \
		'stream experts of mixture-of-experts models from NVMe' \
		'The library libpenstock with its headers, the backend libggml-penstock.so for llama.cpp, and the tool penstock.'
}

common() {
	begin penstock-common
	put $here/60-penstock.rules /lib/udev/rules.d/60-penstock.rules
	put $here/penstock.sysusers /usr/lib/sysusers.d/penstock.conf
	put $here/penstock.modules-load /usr/lib/modules-load.d/penstock.conf
	put $here/penstock.modprobe /etc/modprobe.d/penstock.conf
	echo /etc/modprobe.d/penstock.conf >"$root/DEBIAN/conffiles"
	script postinst common.postinst
	end all $'Depends: passwd\n' 'group, udev rule and module options of Penstock' \
		'Gives /dev/penstock to the group penstock, loads the module at boot, and has an example of its options.'
}

dkms() {
	begin penstock-dkms
	local at=/usr/src/penstock-$version f
	for f in Kbuild driver/*.[ch] driver/Kbuild driver/conftest.sh uapi/linux/penstock.h; do
		put "$f" "$at/$f" "$(stat -c %a "$f")"
	done
	sed "s/@VERSION@/$version/g" $here/dkms.conf.in >"$root$at/dkms.conf"
	script postinst dkms.postinst
	script prerm dkms.prerm
	end all $'Depends: dkms, make, penstock-common (= '"$version"$')\nProvides: penstock-modules\n' \
		'kernel modules of Penstock, as source for DKMS' \
		'Reads of files by io_uring into pinned memory and into memory of other PCI devices. Built for each kernel whose headers are installed.'
}

# modules KDIR BUILT
modules() {
	release=$(cat "$1/include/config/kernel.release")
	begin "penstock-modules-$(tr '[:upper:]_' '[:lower:]-' <<<"$release")"
	local f
	for f in "$2"/penstock*.ko; do
		put "$f" "/lib/modules/$release/updates/penstock/${f##*/}"
		strip --strip-debug "$root/lib/modules/$release/updates/penstock/${f##*/}"
	done
	script postinst modules.postinst
	script postrm modules.postrm
	end "$(dpkg --print-architecture)" $'Depends: kmod, penstock-common (= '"$version"$')\nProvides: penstock-modules\n' \
		"kernel modules of Penstock for Linux $release" \
		'Reads of files by io_uring into pinned memory and into memory of other PCI devices.'
}

if [ "$1" = modules ]; then
	modules "$2" "$3"
	exit
fi
for kind; do
	"$kind"
done
