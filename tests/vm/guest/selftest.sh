#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# The bench itself: drives with the contents that they are said to have, the peer's
# memory seen alike from both sides, the host's answers, its trace.
# shellcheck shell=dash source=lib.sh
. /tests/lib.sh

for name in $DRIVES; do
	verdict "drive $name is there" "$([ -b "$(drive "$name")" ] || echo "no block device with serial $name")"
done
for fs in ext4 ext4-odd xfs btrfs; do
	grep -q " /mnt/$fs " /proc/mounts || continue
	for file in $FILES; do
		name=${file%%:*}
		same "$fs: $name has its contents" "$(host file-sum "$name")" \
			"$(sha256sum "/mnt/$fs/$name" | cut -d ' ' -f 1)"
	done
done
case " $DRIVES " in
*' raw '*)
	same 'raw: 4 MiB in the middle' "$(host file-sum raw 12M 4M)" \
		"$(dd if="$(drive raw)" bs=1M skip=12 count=4 2>/dev/null | sha256sum | cut -d ' ' -f 1)"
	;;
esac

if [ "$PEERS" -gt 0 ]; then
	bar=/sys/bus/pci/devices/$(peer_pci 0)/resource2
	peer_enable 0
	verdict 'the peer has a BAR' "$([ -e "$bar" ] || echo "no $bar")"
	host peer-fill 4096 8192 0xa5
	if have barpeek; then
		same 'the guest sees what the host wrote' "$(host peer-sum 4096 8192)" "$(barpeek sum "$bar" 4096 8192)"
		barpeek fill "$bar" 65536 4096 0x3c
		verdict 'the host sees what the guest wrote' "$(host peer-is 65536 4096 0x3c 2>&1)"
	else
		skip 'both sides see the same' 'no program barpeek'
	fi
	verdict 'a byte that is wrong is found' \
		"$(host peer-is 4000 200 0xa5 >/dev/null 2>&1 && echo 'peer-is was content')"
fi

same 'the monitor answers' true "$(host qmp query-status | grep -q '"running": true' && echo true)"
verdict 'a command that is not there is refused' "$(host frobnicate >/dev/null 2>&1 && echo 'it was not')"
# The host answers a second later; by then nobody listens.
host sleep 1 &
usleep 200000
kill -KILL $!
same 'an answer that nobody took is not the next one' pong "$(host ping)"
host throttle "${DRIVES%% *}" 10M 2>&1 | sed 's/^/# /'
verdict 'a drive can be throttled' "$(host throttle "${DRIVES%% *}" 0 2>&1)"

# Reads into the page cache: their data addresses are in memory, not in a BAR.
case " $DRIVES " in
*' raw '*)
	host trace-start
	echo 3 >/proc/sys/vm/drop_caches
	dd if="$(drive raw)" of=/dev/null bs=1M skip=40 count=1 2>/dev/null
	range=$(peer_range 0)
	counts=$(host trace-check "${range% *}" "${range#* }")
	note "$counts"
	verdict 'the trace sees every data address' "$(
		echo "$counts" | grep -q ' inside=0 ' || echo 'reads landed in the peer'
		[ "$(echo "$counts" | sed 's/.*outside_bytes=\([0-9]*\).*/\1/')" -ge 1048576 ] || echo 'bytes are missing'
	)"
	;;
esac
finish
