#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# Each allocation of opens, targets, peers and reads fails once: see test_fail_read.c.
# shellcheck shell=dash source=lib.sh
. /tests/lib.sh
has_module penstock || skip_all 'no penstock.ko'
exec test_fail_read /mnt/ext4/data
