#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Files on the file systems that treat O_DIRECT differently: each gets the mode and
# alignment that it should, and every byte through the rings. Mounts loop devices, in a
# mount namespace of its own; what is missing (mkfs, loop, the file system) is skipped.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

if [ "$(id -u)" -ne 0 ]; then
	skip 'file systems' 'not root'
	finish
	exit 4
fi
if ! unshare --mount --propagation private -- true 2>/dev/null; then
	skip 'file systems' 'no mount namespace to be had here'
	finish
	exit 4
fi
if [ -z "${PENSTOCK_UNSHARED:-}" ]; then
	rm -rf "$tmp"
	PENSTOCK_UNSHARED=1 exec unshare --mount --propagation private -- "$0" "$@"
fi

loops=()
clean() {
	local dev at
	for at in "$tmp"/mnt/*; do
		umount -q -l "$at" 2>/dev/null
	done
	for dev in "${loops[@]}"; do
		losetup -d "$dev" 2>/dev/null
	done
	rm -rf --one-file-system "$tmp"
}
trap clean EXIT

probe="$build/tests/root/probe_file"
make -s O="$build" B="$build" "$probe" >&2 || exit 1
mkdir -p "$tmp/mnt" "$tmp/src"
# What does not compress, and what does; an odd size.
head -c $(((3 << 20) + 100)) /dev/urandom >"$tmp/src/noise"
yes 'penstock penstock' | head -c $(((3 << 20) + 100)) >"$tmp/src/text"

# expect NAME FILE PATTERN: what probe_file says must match
expect() {
	local said
	said=$("$probe" "$2" 2>&1)
	# shellcheck disable=SC2254 # a pattern is meant
	verdict "$1" < <(case $said in $3) ;; *) echo "$said" "(wanted: $3)" ;; esac)
}

# loop NAME MIB SECTOR: $dev, a new loop device; false if none can be had
loop() {
	truncate -s "$2M" "$tmp/$1.img"
	dev=$(losetup -f --show -b "$3" "$tmp/$1.img" 2>/dev/null) || return 1
	loops+=("$dev")
}

# mounted NAME ARGS...: mount at $tmp/mnt/NAME; false if the kernel cannot
mounted() {
	local name=$1
	shift
	mkdir -p "$tmp/mnt/$name"
	mount "$@" "$tmp/mnt/$name" 2>/dev/null
}

fill() { cp "$tmp"/src/* "$tmp/mnt/$1/" && sync -f "$tmp/mnt/$1"; }

# disk NAME MIB SECTOR MOUNT_OPTIONS MKFS...: a file system on a loop device, filled
disk() {
	local name=$1 mib=$2 sector=$3 options=$4
	shift 4
	if ! have "$1"; then
		skip "$name" "no $1"
	elif ! loop "$name" "$mib" "$sector"; then
		skip "$name" "no loop device with sectors of $sector"
	elif ! "$@" "$dev" >/dev/null 2>&1; then
		skip "$name" "$1 failed"
	elif ! mounted "$name" -o "$options" "$dev"; then
		skip "$name" "cannot be mounted"
	else
		fill "$name"
		return 0
	fi
	return 1
}

direct_512='mode=direct align=512 *grown=0 why='
direct_4096='mode=direct align=4096 *grown=0 why='
# Before Linux 6.1 no file system names its alignment, and then 4096 it is.
if ! "$probe" "$tmp/src/noise" | grep -q 'align=512'; then
	direct_512=$direct_4096
fi

if disk ext4 64 512 noatime mkfs.ext4 -q -F; then
	expect ext4_is_direct "$tmp/mnt/ext4/noise" "$direct_512"
	mkdir -p "$tmp/mnt/ext4/upper" "$tmp/mnt/ext4/work"
	if mounted overlay -t overlay -o "lowerdir=$tmp/mnt/ext4,upperdir=$tmp/mnt/ext4/upper,workdir=$tmp/mnt/ext4/work" none; then
		expect overlayfs_is_as_what_is_below "$tmp/mnt/overlay/noise" 'mode=direct align=* grown=0 why='
	else
		skip overlayfs_is_as_what_is_below 'cannot be mounted'
	fi
fi
if disk xfs_512 400 512 noatime mkfs.xfs -q -f; then
	expect xfs_is_direct "$tmp/mnt/xfs_512/noise" "$direct_512"
fi
if disk xfs_4096 400 4096 noatime mkfs.xfs -q -f -s size=4096; then
	expect xfs_with_large_sectors_is_read_in_blocks "$tmp/mnt/xfs_4096/noise" "$direct_4096"
fi
if disk btrfs 300 512 noatime mkfs.btrfs -q -f; then
	expect btrfs_is_direct "$tmp/mnt/btrfs/noise" "$direct_4096"
fi
if disk btrfs_zstd 300 512 noatime,compress-force=zstd mkfs.btrfs -q -f; then
	expect compressed_btrfs_is_found_out "$tmp/mnt/btrfs_zstd/text" 'mode=direct_cached align=4096 * why=O_DIRECT is accepted, but*'
fi

for fs in tmpfs ramfs; do
	if mounted "$fs" -t "$fs" none; then
		fill "$fs"
		if [ "$fs" = tmpfs ]; then
			expect tmpfs_is_memory_already "$tmp/mnt/tmpfs/noise" 'mode=buffered align=1 * why=tmpfs:*'
		else
			expect ramfs_is_buffered "$tmp/mnt/ramfs/noise" 'mode=buffered align=1 * why=open with O_DIRECT: Invalid argument'
		fi
	else
		skip "$fs" 'cannot be mounted'
	fi
done

if ! have mksquashfs; then
	skip squashfs_is_buffered 'no mksquashfs'
elif mksquashfs "$tmp/src" "$tmp/squash.img" -quiet -no-progress >/dev/null 2>&1 && mounted squash -o loop,ro "$tmp/squash.img"; then
	expect squashfs_is_buffered "$tmp/mnt/squash/text" 'mode=buffered align=1 * why=open with O_DIRECT: Invalid argument'
else
	skip squashfs_is_buffered 'cannot be mounted'
fi

if ! have mkfs.erofs; then
	skip erofs_is_direct_for_each_file 'no mkfs.erofs'
elif mkfs.erofs -zlz4 "$tmp/erofs.img" "$tmp/src" >/dev/null 2>&1 && mounted erofs -o loop,ro "$tmp/erofs.img"; then
	expect erofs_plain_file_is_direct "$tmp/mnt/erofs/noise" 'mode=direct align=* grown=0 why='
	expect erofs_compressed_file_is_buffered "$tmp/mnt/erofs/text" 'mode=buffered align=1 * why=open with O_DIRECT: Invalid argument'
else
	skip erofs_is_direct_for_each_file 'cannot be mounted'
fi

# A read-only bind mount, and a block device itself.
mkdir -p "$tmp/mnt/bind"
if mount --bind "$tmp/src" "$tmp/mnt/bind" 2>/dev/null && mount -o remount,bind,ro "$tmp/mnt/bind" 2>/dev/null; then
	expect read_only_mounts_are_read "$tmp/mnt/bind/noise" 'mode=*'
else
	skip read_only_mounts_are_read 'cannot be mounted'
fi
if loop raw 8 4096; then
	head -c $((8 << 20)) /dev/urandom >"$dev"
	sync
	expect block_devices_are_direct "$dev" 'mode=direct align=4096 bytes=8388608 grown=0 why='
else
	skip block_devices_are_direct 'no loop device with sectors of 4096'
fi
finish
