#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# Many reads side by side, which meet in a slow drive at first: stress:SECONDS:PROCESSES
# shellcheck shell=dash source=lib.sh
. /tests/lib.sh
has_module penstock || skip_all 'no penstock.ko'
export PENSTOCK_TEST_FILE=/mnt/ext4/data PENSTOCK_SLOW='host throttle ext4 1M' PENSTOCK_FAST='host throttle ext4 0'
exec penstock_stress "$@"
