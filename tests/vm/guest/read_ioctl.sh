#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# REGION_READ.
# shellcheck shell=dash source=lib.sh
. /tests/lib.sh
exec test_read_ioctl /mnt/ext4 "$(drive raw)"
