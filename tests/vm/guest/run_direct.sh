#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# The tool with its experts in the peer's memory: each route gives the bits that the
# host gives, or is refused in words, as this lane's topology has it.
# shellcheck shell=dash source=lib.sh disable=SC2086 # two words
. /tests/lib.sh
has_module penstock || skip_all 'no penstock.ko'

model=/mnt/ext4/model
device=peer:$(peer_pci 0)
out=/run/run
under=

# run NAME OPTION...: below $under; result to $out.NAME, words to $out.NAME.err; the exit status
run() {
	_n=$1
	shift
	timeout 100 $under penstock run "$model" --tokens 4 --prompt-tokens 3 --cache 3M --threads 1 --json --quiet --verify "$@" \
		>"$out.$_n" 2>"$out.$_n.err"
}
# field NAME KEY: the first value of that key, without quotes
field() { grep -o "\"$2\": *[^,}]*" "$out.$1" | head -n 1 | sed 's/^[^:]*: *//; s/"//g'; }
ids() { grep -o '"ids": *\[[^]]*\]' "$out.$1"; }
# says NAME TEXT: is it in its words? If not, they are the fault
says() { grep -q "$2" "$out.$1.err" || { echo "not in its words: $2"; cat "$out.$1.err"; }; }
# good NAME ROUTE: went by that route, and every layer's output has the bits that plain reads give
good() {
	_rc=$?
	[ $_rc -eq 0 ] || { echo "status $_rc: $(cat "$out.$1.err")"; return; }
	[ "$(field "$1" route)" = "$2" ] || echo "route $(field "$1" route), not $2"
	[ "$(field "$1" verified)" = true ] || echo "verified: $(field "$1" verified)"
	[ "$(ids "$1")" = "$(ids host)" ] || echo "other tokens: $(ids "$1"), the host has $(ids host)"
}
# refused NAME STATUS TEXT: by $?
refused() {
	_rc=$?
	[ $_rc -eq "$2" ] || echo "status $_rc, not $2"
	says "$1" "$3"
}
value() { echo "$1" | tr ' ' '\n' | sed -n "s/^$2=//p"; }

verdict 'a checkpoint is made' "$(penstock synth "$model" --layers 2 --experts 12 --top-k 2 --hidden 256 --inter 256 \
	--vocab 128 --heads 2 --kv-heads 1 --head-dim 64 >/run/synth 2>&1 || cat /run/synth)"
sync
run host --device host
verdict 'on the host' "$(good host host)"
run driver --device host --route direct
verdict "in the driver's host memory, by the driver" "$(good driver direct)"

# What the way is like here: see Documentation/vm-tests.rst.
family=$(sed -n 's/^cpu family.*: //p' /proc/cpuinfo | head -n 1)
case $KERNEL,$TOPOLOGY,$IOMMU in
stock-6.1,*) way='KERNEL_TOO_OLD\|P2PDMA_OFF' ;;
stock-*) way=P2PDMA_OFF ;;
*,switch,on) way=liar ;;
*,switch,*) way=good ;;
*) way=unreachable && [ "$family" -ge 23 ] && way=good ;;
esac

case $way in
good)
	low_high=$(peer_range 0)
	run direct --device "$device" --route direct
	verdict 'route direct' "$(good direct direct)"
	same 'by io_uring' io_uring "$(field direct io_engine)"
	if [ "$IOMMU" != on ]; then
		host trace-start
		run traced --device "$device" --route direct
		verdict 'route direct again' "$(good traced direct)"
		seen=$(host trace-check $low_high)
		note "direct: $seen"
		# the canary's and the measurement's reads come on top
		verdict "the drive has written all expert bytes into the peer's BAR" "$(
			[ "$(value "$seen" inside_bytes)" -ge "$(field traced bytes_read)" ] ||
			echo "$(value "$seen" inside_bytes) bytes, $(field traced bytes_read) were read")"
		host trace-start
		run bounce --device "$device" --route bounce
		verdict 'route bounce' "$(good bounce bounce)"
		seen=$(host trace-check $low_high)
		note "bounce: $seen"
		same 'by which the drive writes nothing there' 0 "$(value "$seen" inside)"
	fi
	run mapped --device "$device" --route mapped
	verdict 'route mapped' "$(good mapped mapped)"
	run auto --device peer
	verdict 'the fastest' "$(good auto "$(field auto route)")"
	note "auto: $(field auto route_reason) $(grep -o '"gb_s": *[^,}]*' "$out.auto" | tr '\n' ' ')"
	if [ -w /proc/sys/kernel/io_uring_disabled ]; then
		echo 2 >/proc/sys/kernel/io_uring_disabled
		run ioctl --device "$device" --route direct
		verdict 'route direct where io_uring is forbidden' "$(good ioctl direct)"
		same 'by the threads of the other engine' pread "$(field ioctl io_engine)"
		echo 0 >/proc/sys/kernel/io_uring_disabled
	else
		skip 'route direct where io_uring is forbidden' 'no sysctl'
	fi
	# as in containers
	for code in EPERM ENOSYS; do
		under="nouring $code"
		run filtered --device "$device" --route direct
		under=
		verdict "route direct where a seccomp filter answers io_uring with $code" "$(good filtered direct)"
		same 'by the threads of the other engine' pread "$(field filtered io_engine)"
		verdict 'which says how, and why' "$(
			grep -q '"io_reason".*io_uring_setup: .*seccomp filter.*ioctl REGION_READ on [0-9]* threads' \
				"$out.filtered" || echo "it says $(grep io_reason "$out.filtered")")"
	done
	if [ "$IOMMU" != on ]; then
		for route in direct mapped bounce; do
			seen=$(expert_reads "$model" "$device" $route $low_high)
			note "experts by $route: $seen"
			[ $route = direct ] && digest=$(value "$seen" digest)
			same "experts by $route: both times the same bytes" "1 $digest" \
				"$(value "$seen" same) $(value "$seen" digest)"
			bytes=$(value "$seen" library_bytes)
			if [ $route = bounce ]; then
				same "experts by $route: no data address in the BAR" "0 $bytes" \
					"$(value "$seen" inside) $(value "$seen" outside_bytes)"
			else
				same "experts by $route: every data address in the BAR, none outside" "0 $bytes" \
					"$(value "$seen" outside) $(value "$seen" inside_bytes)"
			fi
			[ $route = direct ] && same 'one read of the library an expert' 24 "$(value "$seen" library_reads)"
		done
	fi
	# a model of several files, of which one is not for the drive to read
	whole=$model model=/mnt/ext4/shards
	penstock synth "$model" --layers 2 --experts 12 --top-k 2 --hidden 256 --inter 256 --vocab 128 --heads 2 --kv-heads 1 \
		--head-dim 64 --shard-size 4M >/run/synth 2>&1
	sync
	run shards --device "$device" --route direct
	verdict 'route direct for a model of several files' "$(good shards direct)"
	# the last one holds what was left
	for shard in "$model"/*.safetensors; do :; done
	mv "$shard" /run/shard && ln -s /run/shard "$shard"
	for route in direct mapped; do
		run one --device "$device" --route $route
		verdict "route $route is refused for its smallest file, by name" "$(refused one 3 "$(basename "$shard")")"
		note "$(cat "$out.one.err")"
	done
	run one --device "$device"
	verdict 'auto goes on by bounce for all of them' "$(good one bounce)"
	rm -rf "$model" /run/shard
	model=$whole
	run small --device "$device" --route direct --cache 1G
	verdict 'a cache of all experts' "$(good small direct)"
	;;
liar)
	run direct --device "$device" --route direct
	verdict 'route direct is refused by the canary' "$(refused direct 1 'canary of ')"
	note "$(cat "$out.direct.err")"
	run mapped --device "$device" --route mapped
	verdict 'route mapped, too' "$(refused mapped 1 'route mapped')"
	run auto --device "$device"
	verdict 'auto goes on by bounce' "$(good auto bounce)"
	verdict 'and says why' "$(says auto 'route direct to device .* cannot be used: canary of ')"
	;;
unreachable)
	run direct --device "$device" --route direct
	verdict 'route direct is refused by the probe' "$(refused direct 1 'the PCI topology has no path')"
	run auto --device "$device"
	verdict 'auto goes on by bounce' "$(good auto bounce)"
	verdict 'and says why' "$(says auto 'route direct to device .* cannot be used: the PCI topology')"
	;;
*)
	run direct --device "$device" --route direct
	verdict 'a peer is refused with the reason' "$(refused direct 3 "the kernel was built without\|the module was built for")"
	;;
esac

# The tool that says all that beforehand.
penstock doctor --json >"$out.doctor" 2>"$out.doctor.err"
status=$?
case $way in
good) same 'doctor: it works' 0 $status ;;
liar | unreachable) same 'doctor: no pair works' 1 $status ;;
*) same 'doctor: not here' 3 $status ;;
esac
case $way in
good) verdict 'doctor: the canary passed' "$(grep -q '"canary": *true' "$out.doctor" || cat "$out.doctor")" ;;
liar) verdict 'doctor: the canary failed' "$(grep -q '"canary": *false' "$out.doctor" || cat "$out.doctor")" ;;
unreachable) verdict 'doctor: the probe refused' "$(grep -q 'the PCI topology has no path' "$out.doctor" || cat "$out.doctor")" ;;
esac
penstock doctor /mnt/ext4/data | grep -E '>|verdict|route' | while read -r line; do note "$line"; done
verdict 'doctor as a member of the group, for a file' "$(su member -c 'penstock doctor /mnt/ext4/data' >"$out.member" 2>&1
	grep -q '^node *ok' "$out.member" || cat "$out.member")"
verdict 'doctor as somebody else names the group' "$(su other -c 'penstock doctor' >"$out.other" 2>&1
	grep -q 'usermod -aG penstock' "$out.other" || cat "$out.other")"

if [ "$way" = good ]; then
	# the peer goes while experts are read into it, and while all are there and are computed on
	driver=/sys/bus/pci/drivers/penstock_peer
	for cache in 3M 1G; do
		timeout 60 penstock run "$model" --device "$device" --route direct --tokens 4000 --cache $cache --threads 1 \
			--quiet >"$out.gone" 2>"$out.gone.err" &
		pid=$!
		sleep 6
		verdict "cache of $cache: it runs when the peer is unbound" "$(kill -0 $pid 2>&1)"
		peer_pci 0 >"$driver/unbind"
		wait $pid
		verdict 'it ends with words' "$(refused gone 3 'its memory was taken away\|memory was taken away while')"
		note "$(cat "$out.gone.err")"
		peer_pci 0 >"$driver/bind"
	done
	run back --device "$device" --route direct
	verdict 'and works when the peer is back' "$(good back direct)"
fi
rm -rf "$model"
finish
