#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# What is a target and what is none, each with its reason: file systems, stacked
# block devices, drives. Files that change, and descriptors, are test_target's.
# shellcheck shell=dash source=lib.sh
. /tests/lib.sh

# is NAME PATH WANT: the whole of what target_add prints, or its first word
is() {
	got=$(target_add "$2" 2>&1)
	case $3 in
	*' '*) same "$1" "$3" "$got" ;;
	*) same "$1" "$3" "${got%% *}" ;;
	esac
}

# read_only NAME PATH PEER_REASON: may be read, but not into a peer
read_only() {
	got=$(target_add "$2" 2>&1)
	same "$1" "NONE peer=$3" "${got%% kind=*}"
	same "$1: no PCI device" none "${got##* pci=}"
}

raw=$(drive raw)
for fs in ext4 xfs; do
	is "$fs" "/mnt/$fs/data" \
		"NONE peer=NONE kind=1 offset_align=512 mem_align=4 nowait=524288 pci=$(drive_pci $fs)"
done
is 'a drive' "$raw" "NONE peer=NONE kind=2 offset_align=512 mem_align=4 nowait=524288 pci=$(drive_pci raw)"
is 'a drive with blocks of 4 KiB' "$(drive raw-4k)" \
	"NONE peer=NONE kind=2 offset_align=4096 mem_align=4 nowait=524288 pci=$(drive_pci raw-4k)"
if drive raw-pi >/dev/null; then
	is 'a drive with integrity metadata' "$(drive raw-pi)" INTEGRITY
else
	skip 'a drive with integrity metadata' 'not in this lane'
fi
is 'a file that is a hole' /mnt/ext4/hole NONE
: >/mnt/ext4/empty
is 'an empty file' /mnt/ext4/empty NONE

dd if=/dev/urandom of=/tmp/file bs=1M count=1 2>/dev/null
is tmpfs /tmp/file FILESYSTEM
is btrfs /mnt/btrfs/data FILESYSTEM
is proc /proc/cmdline FILESYSTEM
mkdir -p /tmp/overlay /mnt/ext4/upper /mnt/ext4/work
mount -t overlay -o lowerdir=/mnt/xfs,upperdir=/mnt/ext4/upper,workdir=/mnt/ext4/work overlay /tmp/overlay
is 'overlayfs' /tmp/overlay/data FILESYSTEM
umount /tmp/overlay
is 'a folder' /mnt/ext4 NOT_A_FILE
is 'a character device' /dev/null NOT_A_FILE
mkfifo /tmp/fifo
is 'a named pipe' /tmp/fifo NOT_A_FILE

printf 'little' >/mnt/ext4-odd/inline
sync
is 'a file whose data is in its inode' /mnt/ext4-odd/inline INLINE_DATA
is 'its neighbour' /mnt/ext4-odd/data NONE

# Stacked on other devices: read by the CPU's memory alone.
losetup /dev/loop0 /mnt/ext4/data
read_only 'a loop device' /dev/loop0 BDEV_NO_P2P
losetup -d /dev/loop0
if have dmsetup; then
	echo "0 65536 linear $raw 8" | dmsetup create linear --noudevsync
	mknod /tmp/linear b "$(cut -d : -f 1 /sys/block/dm-0/dev)" "$(cut -d : -f 2 /sys/block/dm-0/dev)"
	read_only 'a mapped device' /tmp/linear BDEV_NO_P2P
	dmsetup remove linear --noudevsync
else
	skip 'a mapped device' 'no dmsetup'
fi
[ -b /dev/md0 ] || mknod /dev/md0 b 9 0
if md_build /dev/md0 "$raw" "$(drive blank)"; then
	read_only 'an array' /dev/md0 BDEV_NO_P2P
	md_build -s /dev/md0
else
	not_ok 'an array is built'
fi
if drive raw-paths >/dev/null; then
	paths=$(drive raw-paths)
	same 'a drive has two paths' 2 "$(find "/sys/block/$(basename "$paths")/device/" -name 'nvme*' -type l | wc -l)"
	read_only 'a drive with two paths' "$paths" BDEV_NO_P2P
	same 'a probe says so, too' "BDEV_NO_P2P host=ok" "$(target_probe "$paths" 2>&1)"
else
	skip 'a drive with two paths' 'not in this lane'
fi

# File systems that are made here.
if have mkfs.ext4; then
	mkfs.ext4 -q -F "$(drive blank)"
	mkdir -p /mnt/made
	mount -t ext4 -o data=journal "$(drive blank)" /mnt/made
	cp /tmp/file /mnt/made/file
	sync
	is 'data=journal' /mnt/made/file DATA_JOURNAL
	umount /mnt/made
	mount -t ext4 -o nodelalloc "$(drive blank)" /mnt/made
	is 'the same file without' /mnt/made/file NONE
	umount /mnt/made
	if [ -b /dev/pmem0 ]; then
		mkfs.ext4 -q -F -b 4096 /dev/pmem0
		mount -t ext4 -o dax=always /dev/pmem0 /mnt/made
		cp /tmp/file /mnt/made/file
		sync
		is 'DAX' /mnt/made/file DAX
		umount /mnt/made
	else
		skip 'DAX' 'no persistent memory'
	fi
else
	skip 'ext4 in other forms' 'no mkfs.ext4'
fi
if have mkfs.xfs; then
	# Smaller than it is meant for; good enough for one file.
	mkfs.xfs --unsupported -q -f -d rtinherit=1 -r "rtdev=$(drive blank2)" "$(drive blank)" 2>&1 | sed 's/^/# /'
	mkdir -p /mnt/rt
	mount -t xfs -o "rtdev=$(drive blank2)" "$(drive blank)" /mnt/rt
	cp /tmp/file /mnt/rt/realtime
	sync
	is 'XFS: a file on the realtime device' /mnt/rt/realtime XFS_REALTIME
	umount /mnt/rt
else
	skip 'XFS realtime' 'no mkfs.xfs'
fi
finish
