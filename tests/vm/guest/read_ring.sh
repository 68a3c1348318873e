#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# READ on every kind of ring.
exec test_read_ring /mnt/ext4 "$(. /tests/lib.sh; drive raw)"
