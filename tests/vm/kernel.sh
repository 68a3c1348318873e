#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Provide a test kernel: kernel.sh plain|debug|stock-6.12|stock-6.1. Prints a folder
# with bzImage, tree (where modules are built) and, for Debian's own, modules.
#
# plain and debug are built once from Debian's linux-source, the others are Debian's
# linux-image packages, unpacked and not installed. All is kept outside of the source
# tree, in $PENSTOCK_VM_CACHE (default ~/.cache/penstock/vm), under a name that holds
# what went into it, so that another configuration is another kernel.
# Exit status 4: this machine lacks something; the last line says what.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
usage='usage: kernel.sh plain|debug|stock-6.12|stock-6.1'
flavour=${1:?$usage}
cache=${PENSTOCK_VM_CACHE:-$HOME/.cache/penstock/vm}
export PATH="$PATH:/usr/sbin:/sbin"

lacks() {
	echo "kernel.sh: $*; .ci/install.sh brings it" >&2
	exit 4
}

# stock SERIES: Debian's kernel of that series whose headers are installed
stock() {
	local headers version folder root image
	headers=$(find /usr/src -maxdepth 1 -name "linux-headers-$1.*-amd64" | grep -vE -- '-(cloud|rt)-amd64$' |
		sort -V | tail -n 1)
	[ -n "$headers" ] || lacks "no headers of Debian's kernel $1"
	version=${headers##*/linux-headers-}
	folder=$cache/$flavour-$version
	if [ -e "$folder/bzImage" ]; then
		echo "$folder"
		return
	fi
	mkdir -p "$cache"
	exec 9>"$cache/lock-stock"
	flock 9
	rm -rf "$folder"
	mkdir -p "$folder"
	root=''
	image=/boot/vmlinuz-$version
	if [ ! -r "$image" ] || [ ! -e "/lib/modules/$version/kernel" ]; then
		root=$folder/root
		image=$root/boot/vmlinuz-$version
		download "$version" "$folder" "$root" || lacks "no package linux-image-$version"
	fi
	ln -s "$root/lib/modules/$version" "$folder/modules"
	if [ ! -e "$folder/modules/modules.dep" ]; then
		depmod -b "$root/" "$version"
	fi
	ln -s "$headers" "$folder/tree"
	# Readable by others than root, and last: with it the folder is complete.
	install -m 644 "$image" "$folder/bzImage.new"
	mv "$folder/bzImage.new" "$folder/bzImage"
	echo "$folder"
}

# download VERSION FOLDER ROOT: the image's package, signed or not, unpacked into ROOT
download() {
	local name
	if ! apt-cache show "linux-image-$1" >/dev/null 2>&1 && [ "$(id -u)" -eq 0 ]; then
		apt-get -q update >"$cache/$flavour.log" 2>&1
	fi
	for name in "linux-image-$1" "linux-image-$1-unsigned"; do
		if (cd "$2" && apt-get -q download "$name") >"$cache/$flavour.log" 2>&1; then
			mkdir -p "$3"
			dpkg-deb -x "$2/${name}"_*.deb "$3"
			rm -f "$2/$name"_*.deb
			return 0
		fi
	done
	tail -n 5 "$cache/$flavour.log" >&2
	return 1
}

fragments=("$here/plain.config")
case $flavour in
plain) ;;
debug) fragments+=("$here/debug.config") ;;
stock-6.12 | stock-6.1)
	stock "${flavour#stock-}"
	exit
	;;
*)
	echo "$usage" >&2
	exit 2
	;;
esac

source=/usr/src/linux-source-6.12.tar.xz
[ -e "$source" ] || lacks "no $source"
version=$(dpkg-query -W -f '${Version}' linux-source-6.12 2>/dev/null || stat -c %s "$source")
key=$( (echo "$version"; gcc -dumpfullversion; cat "${fragments[@]}") | sha256sum | cut -c 1-12)
kernel=$cache/$flavour-$key
if [ -e "$kernel/bzImage" ]; then
	echo "$kernel"
	exit 0
fi
for tool in flex bison bc xz; do
	command -v "$tool" >/dev/null || lacks "no $tool"
done

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ -e "$kernel/bzImage" ]; then
	echo "$kernel"
	exit 0
fi
exec 3>&1 >"$cache/$flavour.log" 2>&1
trap '[ -e "$kernel/bzImage" ] || { tail -n 20 "$cache/$flavour.log" >&2; rm -rf "$kernel"; }' EXIT
src=$cache/linux-$(printf %s "$version" | tr -c 'A-Za-z0-9.\n' -)
if [ ! -e "$src/.unpacked" ]; then
	mkdir -p "$src"
	tar -C "$src" --strip-components=1 -xf "$source"
	touch "$src/.unpacked"
fi
# Builds of other configurations may be in use by another working tree; a week later they are not.
find "$cache" -maxdepth 1 -name "$flavour-*" -mtime +7 -exec rm -rf {} +
mkdir -p "$kernel/tree"
make -C "$src" O="$kernel/tree" tinyconfig
(cd "$kernel/tree" && "$src/scripts/kconfig/merge_config.sh" -m .config "${fragments[@]}")
make -C "$src" O="$kernel/tree" olddefconfig
for fragment in "${fragments[@]}"; do
	while IFS= read -r line; do
		grep -qxF "$line" "$kernel/tree/.config" || { echo "configuration lacks $line"; exit 1; }
	done < <(grep -E '^(CONFIG_|# CONFIG_.* is not set)' "$fragment")
done
# modules: no module is built, but vmlinux's symbols get their table.
MAKEFLAGS='' nice -n 5 make -C "$src" O="$kernel/tree" -j"$(nproc)" bzImage modules
# What external modules need stays: headers, scripts, symbols.
find "$kernel/tree" \( -name '*.o' -o -name '*.a' -o -name '.*.cmd' -o -name vmlinux \) \
	-not -path '*/scripts/*' -not -path '*/tools/*' -type f -delete
cp "$kernel/tree/arch/x86/boot/bzImage" "$kernel/bzImage.new"
rm -f "$kernel/tree/arch/x86/boot/bzImage" "$kernel"/tree/vmlinux.* "$kernel/tree/.tmp_vmlinux"*
mv "$kernel/bzImage.new" "$kernel/bzImage"
echo "$kernel" >&3
