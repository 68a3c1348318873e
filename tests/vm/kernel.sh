#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Build a test kernel once: kernel.sh plain|debug. Prints the folder that has
# bzImage and tree/ (for modules). It is kept outside of the source tree, in
# $PENSTOCK_VM_CACHE (default ~/.cache/penstock/vm), under a name that holds
# what went into it, so that another configuration is another kernel.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
flavour=${1:?usage: kernel.sh plain|debug}
cache=${PENSTOCK_VM_CACHE:-$HOME/.cache/penstock/vm}
source=$(find /usr/src -maxdepth 1 -name 'linux-source-6.12.tar.xz' | head -n 1)
[ -n "$source" ] || { echo "kernel.sh: no /usr/src/linux-source-6.12.tar.xz; .ci/install.sh brings it" >&2; exit 4; }

fragments=("$here/plain.config")
case $flavour in
plain) ;;
debug) fragments+=("$here/debug.config") ;;
*) echo "usage: $0 plain|debug" >&2; exit 2 ;;
esac
version=$(dpkg-query -W -f '${Version}' linux-source-6.12 2>/dev/null || stat -c %s "$source")
key=$( (echo "$version"; gcc -dumpfullversion; cat "${fragments[@]}") | sha256sum | cut -c 1-12)
kernel=$cache/$flavour-$key
if [ -e "$kernel/bzImage" ]; then
	echo "$kernel"
	exit 0
fi

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
