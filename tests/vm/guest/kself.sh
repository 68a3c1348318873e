#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# A program of tests/kselftest with what it takes from its environment: kself:PROGRAM:ARGUMENT...
# shellcheck shell=dash source=lib.sh
. /tests/lib.sh
program=$1
shift
# Built only where the compiler has libraries of 32 bits.
have "$program" || skip_all "$program was not built"
[ -e /mnt/ext4/data ] && export PENSTOCK_TEST_FILE=/mnt/ext4/data
exec "$program" "$@"
