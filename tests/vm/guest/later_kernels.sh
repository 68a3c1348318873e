#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# What the module does on kernels that this one only pretends to be: later_kernels:MODE, see test_later_kernels.c.
# shellcheck shell=dash source=lib.sh
. /tests/lib.sh
has_module penstock || skip_all 'no penstock.ko'
exec test_later_kernels "$(drive raw)" "$(peer_pci 0)" "$1"
