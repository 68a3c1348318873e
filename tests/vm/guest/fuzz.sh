#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# Random commands, then many reads side by side: fuzz:SECONDS:SECONDS:SEED
# shellcheck shell=dash source=lib.sh
. /tests/lib.sh
has_module penstock || skip_all 'no penstock.ko'
seed=${3:-$(($(date +%s) % 100000))}
test_fuzz /mnt/ext4/data "${1:-20}" "$seed" "$(peer_pci 0 || echo -)" >/tmp/fuzz.tap
sed '/^1\.\./d' /tmp/fuzz.tap
test_stress /mnt/ext4/data "${2:-10}" >/tmp/stress.tap
first=$(grep -cE '^(not )?ok ' /tmp/fuzz.tap)
# One plan for both.
awk -v n="$first" '/^(not )?ok / { i = ($1 == "not") ? 3 : 2; $i = ++n } /^1\.\./ { $0 = "1.." n } { print }' /tmp/stress.tap
! grep -q '^not ok' /tmp/fuzz.tap /tmp/stress.tap
