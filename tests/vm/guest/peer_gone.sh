#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# What happens to the peer under its users.
# shellcheck shell=dash source=lib.sh
. /tests/lib.sh
has_module penstock || skip_all 'no penstock.ko'
exec test_peer_gone "$(drive raw)" "$(peer_pci 0)" "$(drive_pci blank)"
