#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# Descriptors, and files that change after they became targets.
# shellcheck shell=dash source=lib.sh
. /tests/lib.sh
have mkfs.ext4 || skip_all 'no mkfs.ext4'
mkfs.ext4 -q -F "$(drive blank)" 2>&1 | sed 's/^/# /'
mkdir -p /mnt/made
mount -t ext4 -o nodelalloc "$(drive blank)" /mnt/made
test_target /mnt/ext4-odd /mnt/made
ret=$?
umount /mnt/made
exit $ret
