#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# Reads from each file system that may be read from, and from a raw drive.
# shellcheck shell=dash source=lib.sh disable=SC2046 # folders are words
. /tests/lib.sh
exec test_read $(for fs in ext4 xfs; do
	grep -q " /mnt/$fs " /proc/mounts && echo "/mnt/$fs"
done) "$(drive raw)"
