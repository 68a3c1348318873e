#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The module's probes of a kernel: a broken compiler, a header that is not found, are
# never read as a kernel without features; and what is known of Debian's kernels is found.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

out=$tmp/conftest.h
# compiler NAME: a compiler made of the shell script on stdin, which gets its arguments
compiler() {
	{ echo '#!/bin/bash'; cat; } >"$tmp/$1"
	chmod +x "$tmp/$1"
}
# refuses NAME WORDS: the probes end with an error that has these words, and no header is left
refuses() {
	: >"$out"
	if driver/conftest.sh "$out" '' "$tmp/$1" >"$tmp/said" 2>&1; then
		echo "they ended well"
	fi
	grep -q "$2" "$tmp/said" || cat "$tmp/said"
	[ ! -e "$out" ] || echo 'a header was written'
}
compiler refusing <<<'exit 1'
verdict 'a compiler that takes nothing is noticed' < <(refuses refusing 'headers do not compile')
compiler taking <<<'exit 0'
verdict 'a compiler that takes everything is noticed' < <(refuses taking 'what must not compile does')

# One that knows every header, and of functions only those that the control needs.
compiler old <<'END'
for last; do case $last in *.c) file=$last ;; esac; done
case ${file##*/} in CONTROL_YES.c | *.headers.c) exit 0 ;; esac
exit 1
END
verdict 'a kernel without any feature is one' < <(
	driver/conftest.sh "$out" '' "$tmp/old" 2>&1 || echo failed
	grep -vxE '/\* .* \*/|#define PENSTOCK_HAVE_[A-Z0-9_]+ 0' "$out")
# The same without one header.
compiler headless <<'END'
for last; do case $last in *.c) file=$last ;; esac; done
grep -q 'linux/scatterlist.h' "$file" && exit 1
case ${file##*/} in CONTROL_YES.c | *.headers.c) exit 0 ;; esac
exit 1
END
verdict 'a header that is not found is noticed' < <(refuses headless 'headers do not compile (probe SG_DMA_IS_BUS_ADDRESS)')
printf '0x1\tvfs_fileattr_get\tvmlinux\tEXPORT_SYMBOL\t\n' >"$tmp/symvers"
verdict 'an exported symbol is found' < <(driver/conftest.sh "$out" "$tmp/symvers" "$tmp/old" 2>&1
	grep -qx '#define PENSTOCK_HAVE_VFS_FILEATTR_GET 1' "$out" || cat "$out")
printf '0x1\tvfs_fileattr_get_not\tvmlinux\tEXPORT_SYMBOL\t\n' >"$tmp/symvers"
verdict 'one with a longer name is not' < <(driver/conftest.sh "$out" "$tmp/symvers" "$tmp/old" 2>&1
	grep -qx '#define PENSTOCK_HAVE_VFS_FILEATTR_GET 0' "$out" || cat "$out")

verdict 'an answer can be pretended' < <(PENSTOCK_PRETEND='REQ_P2PDMA=1' driver/conftest.sh "$out" '' "$tmp/old" 2>&1
	grep -qx '#define PENSTOCK_HAVE_REQ_P2PDMA 1' "$out" || cat "$out")
export PENSTOCK_PRETEND='NO_SUCH=1'
verdict 'of a probe that there is' < <(refuses old 'no probe NO_SUCH')
unset PENSTOCK_PRETEND

# known SERIES NAME=0|1...
known() {
	local headers series=$1 begin=$SECONDS
	shift
	headers=$(find /usr/src -maxdepth 1 -name "linux-headers-$series.*-amd64" | grep -vE -- '-(cloud|rt)-amd64$' |
		sort -V | tail -n 1)
	if [ -z "$headers" ]; then
		skip "probes of Debian's kernel $series" 'no headers of it'
		return
	fi
	env -u MAKEFLAGS -u MAKELEVEL "${MAKE:-make}" -s driver KDIR="$headers" O="$tmp/$series" ONLY=driver/event.o >"$tmp/log" 2>&1
	verdict "probes of Debian's kernel $series" < <(
		for want; do
			grep -qx "#define PENSTOCK_HAVE_${want%=*} ${want#*=}" "$tmp/$series"/driver/*/driver/conftest.h 2>&1 ||
				echo "not $want"
		done
		[ -e "$(echo "$tmp/$series"/driver/*/driver/event.o)" ] || cat "$tmp/log"
		[ $((SECONDS - begin)) -lt 120 ] || echo "$((SECONDS - begin)) s")
}
known 6.12 IO_URING_CMD_H=1 URING_CMD_SQE=1 URING_CMD_DONE_4=1 URING_TASK_WORK_FLAGS=1 URING_CMD_LAZY=1 VM_FLAGS_MOD=1 \
	GUP_P2PDMA=1 SG_DMA_IS_BUS_ADDRESS=1 FILE_BDEV=1 FILE_KATTR=0 VFS_FILEATTR_GET=1 BLK_QUEUE_PCI_P2PDMA=1 IMPORT_NS_TOKEN=1 \
	PAGE_PGMAP=0 BLK_MQ_DMA_H=0 REQ_P2PDMA=0
known 6.1 IO_URING_CMD_H=0 URING_CMD_SQE=0 URING_CMD_LAZY=0 VM_FLAGS_MOD=0 GUP_P2PDMA=0 FILE_BDEV=0 VFS_FILEATTR_GET=1 \
	BLK_QUEUE_PCI_P2PDMA=1 IMPORT_NS_TOKEN=1 PAGE_PGMAP=0 BLK_MQ_DMA_H=0 REQ_P2PDMA=0
finish
