#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# What this kernel has, found by compiling small programs with its own flags:
#	conftest.sh OUTPUT SYMVERS COMPILER FLAGS...
# writes a header with PENSTOCK_HAVE_X 0 or 1 for each probe, for compat.h.
# SYMVERS is the kernel's Module.symvers, or empty where there is none.
#
# A probe that does not compile says "no" only if its headers alone do compile,
# and the whole is trusted only if a program that must compile does, and ones
# that must not do not: a broken compiler or a missing folder never reads as a
# kernel without features.
#
# From the environment, for tests: PENSTOCK_PRETEND='X=1 Y=0', answers that are
# given whatever was found. What only numbers decide can so be tried on a kernel
# that is not like that.
set -u

out=$1
symvers=$2
shift 2

tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

jobs=0
most=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)

fail() {
	echo "conftest: $1" >&2
	[ $# -lt 2 ] || head -n 20 "$2" >&2
	rm -f "$out"
	exit 1
}

# compile FILE COMPILER FLAGS...: quietly; what it says is in FILE.log
compile() {
	c=$1
	shift
	"$@" -Wno-error -Werror=implicit-function-declaration -Werror=incompatible-pointer-types -Werror=int-conversion \
		-Wno-unused -Wno-missing-prototypes -Wno-missing-declarations \
		-DMODULE -DKBUILD_BASENAME='"conftest"' -DKBUILD_MODNAME='"conftest"' -D__KBUILD_MODNAME=conftest \
		-fsyntax-only -x c "$c" >"$c.log" 2>&1
}

# run NAME COMPILER FLAGS...: the verdict on NAME.c into NAME.have: 0, 1, or broken
run() {
	n=$tmp/$1
	shift
	if compile "$n.c" "$@"; then
		echo 1 >"$n.have"
		return
	fi
	grep '^#' "$n.c" | grep -v '^#error' >"$n.headers.c"
	if compile "$n.headers.c" "$@"; then
		echo 0 >"$n.have"
	else
		echo broken >"$n.have"
	fi
}

names=
# probe NAME <PROGRAM
probe() {
	names="$names $1"
	cat >"$tmp/$1.c"
}

# exported NAME SYMBOL: can a module call it? Without a list of symbols: no.
exported() {
	names="$names $1"
	if [ -n "$symvers" ] && grep -q "	$2	" "$symvers"; then
		echo 1 >"$tmp/$1.have"
	else
		echo 0 >"$tmp/$1.have"
	fi
}

# ---- controls ----

probe CONTROL_YES <<'END'
#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
int conftest(struct file *file) { return file->f_flags ? PTR_ERR_OR_ZERO(file) : -ENODEV; }
END

probe CONTROL_NO_FUNCTION <<'END'
#include <linux/fs.h>
int conftest(void) { return penstock_no_such_function(); }
END

probe CONTROL_NO_TYPE <<'END'
#include <linux/fs.h>
_Static_assert(__builtin_types_compatible_p(typeof(&iput), void (*)(struct file *)), "");
END

# ---- io_uring commands ----

probe IO_URING_CMD_H <<'END'
#if !__has_include(<linux/io_uring/cmd.h>)
#error older
#endif
END

uring='#if __has_include(<linux/io_uring/cmd.h>)
#include <linux/io_uring/cmd.h>
#else
#include <linux/io_uring.h>
#endif'

# 6.1: the command's bytes behind cmd->cmd; later behind cmd->sqe
probe URING_CMD_SQE <<END
$uring
const void *conftest(struct io_uring_cmd *cmd) { return io_uring_sqe_cmd(cmd->sqe); }
END

# the type is named: the size is checked against the ring's entries
probe URING_SQE128_CMD <<END
$uring
const u64 *conftest(struct io_uring_cmd *cmd) { return io_uring_sqe128_cmd(cmd->sqe, u64); }
END

# done(cmd, ret, res2, issue_flags), since late 6.1
probe URING_CMD_DONE_4 <<END
$uring
void conftest(struct io_uring_cmd *cmd) { io_uring_cmd_done(cmd, 0, 0, 0); }
END

# done(cmd, ret, issue_flags): as many arguments as the oldest form, with another meaning
probe URING_CMD_DONE_FLAGS <<END
$uring
void conftest(struct io_uring_cmd *cmd) { io_uring_cmd_done(cmd, 0, 0); }
void also(struct io_uring_cmd *cmd) { io_uring_cmd_done32(cmd, 0, 0, 0); }
END

probe URING_TASK_WORK_FLAGS <<END
$uring
static void work(struct io_uring_cmd *cmd, unsigned int issue_flags) { }
void conftest(struct io_uring_cmd *cmd) { io_uring_cmd_complete_in_task(cmd, work); }
END

probe URING_TASK_WORK_REQ <<END
$uring
static void work(struct io_tw_req req, io_tw_token_t tw) { }
void conftest(struct io_uring_cmd *cmd) { io_uring_cmd_complete_in_task(cmd, work); }
END

probe URING_CMD_LAZY <<END
$uring
void *conftest(void) { return io_uring_cmd_do_in_task_lazy; }
END

probe URING_CMD_TO_PDU <<END
$uring
#ifndef io_uring_cmd_to_pdu
#error older
#endif
END

# ---- memory ----

probe VM_FLAGS_MOD <<'END'
#include <linux/mm.h>
void conftest(struct vm_area_struct *vma) { vm_flags_mod(vma, VM_DONTCOPY, 0); }
END

# With it came the end of base references to pages of a device: 6.15
probe PAGE_PGMAP <<'END'
#include <linux/mm.h>
#include <linux/memremap.h>
struct dev_pagemap *conftest(struct page *page) { return page_pgmap(page); }
END

probe GET_DEV_PAGEMAP_PFN_ONLY <<'END'
#include <linux/mm.h>
#include <linux/memremap.h>
struct dev_pagemap *conftest(void) { return get_dev_pagemap(0); }
END

# Peer pages pass get_user_pages() and may be mapped: 6.2
probe GUP_P2PDMA <<'END'
#include <linux/mm.h>
int conftest(void) { return FOLL_PCI_P2PDMA; }
END

probe SG_DMA_IS_BUS_ADDRESS <<'END'
#include <linux/scatterlist.h>
bool conftest(struct scatterlist *sg) { return sg_dma_is_bus_address(sg); }
END

# ---- dma-buf ----

# dma_buf_move_notify(), renamed in 7.1
probe DMA_BUF_INVALIDATE_MAPPINGS <<'END'
#include <linux/dma-buf.h>
void conftest(struct dma_buf *dmabuf) { dma_buf_invalidate_mappings(dmabuf); }
END

# ---- files, block devices ----

probe FILE_BDEV <<'END'
#include <linux/blkdev.h>
struct block_device *conftest(struct file *file) { return file_bdev(file); }
END

probe BDEV_MAPPING <<'END'
#include <linux/blkdev.h>
struct inode *conftest(struct block_device *bdev) { return bdev->bd_mapping->host; }
END

probe FILE_KATTR <<'END'
#include <linux/fs.h>
#include <linux/fileattr.h>
int conftest(struct dentry *dentry, struct file_kattr *fa) { return vfs_fileattr_get(dentry, fa); }
END
exported VFS_FILEATTR_GET vfs_fileattr_get

probe BLK_QUEUE_PCI_P2PDMA <<'END'
#include <linux/blkdev.h>
int conftest(struct request_queue *q) { return !!blk_queue_pci_p2pdma(q); }
END

# Requests are mapped piece by piece, all as the first: 6.17
probe BLK_MQ_DMA_H <<'END'
#if !__has_include(<linux/blk-mq-dma.h>)
#error older
#endif
END

# and that only in requests with this mark: 6.17 alone
probe REQ_P2PDMA <<'END'
#include <linux/blkdev.h>
blk_opf_t conftest(void) { return REQ_P2PDMA; }
END

# ---- modules ----

probe IMPORT_NS_TOKEN <<'END'
#include <linux/module.h>
MODULE_IMPORT_NS(A_TOKEN);
END


for name in $names; do
	[ -e "$tmp/$name.c" ] || continue
	run "$name" "$@" &
	jobs=$((jobs + 1))
	if [ "$jobs" -ge "$most" ]; then
		wait
		jobs=0
	fi
done
wait

for name in $names; do
	case $(cat "$tmp/$name.have") in
	0 | 1) ;;
	*) fail "the kernel's headers do not compile (probe $name)" "$tmp/$name.headers.c.log" ;;
	esac
done
[ "$(cat "$tmp/CONTROL_YES.have")" = 1 ] || fail 'what must compile does not' "$tmp/CONTROL_YES.c.log"
for name in CONTROL_NO_FUNCTION CONTROL_NO_TYPE; do
	[ "$(cat "$tmp/$name.have")" = 0 ] || fail "what must not compile does ($name)"
done

for answer in ${PENSTOCK_PRETEND-}; do
	[ -e "$tmp/${answer%=*}.have" ] || fail "no probe ${answer%=*} to pretend the answer of"
	echo "${answer#*=}" >"$tmp/${answer%=*}.have"
done

{
	echo '/* Generated by conftest.sh */'
	for name in $names; do
		case $name in CONTROL_*) continue ;; esac
		echo "#define PENSTOCK_HAVE_$name $(cat "$tmp/$name.have")"
	done
} >"$tmp/header" && cp "$tmp/header" "$out"
