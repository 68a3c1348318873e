#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# READ on every kind of ring.
# shellcheck shell=dash source=lib.sh
. /tests/lib.sh
exec test_read_ring /mnt/ext4 "$(drive raw)"
