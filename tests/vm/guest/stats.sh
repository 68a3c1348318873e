#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# Counters and tracepoints.
# shellcheck shell=dash source=lib.sh
. /tests/lib.sh
exec test_stats /mnt/ext4
