#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Landing memory from a hugetlbfs pool, which root can fill: the unit test of it, not skipped.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

pool=/proc/sys/vm/nr_hugepages
test="$build/tests/unit/test_mem"
if [ ! -w "$pool" ] || ! grep -q '^Hugepagesize: *2048 kB' /proc/meminfo; then
	skip mem_takes_pages_of_hugetlbfs_first 'no pool of 2 MiB pages that can be filled'
	finish
	exit
fi
before=$(cat "$pool")
trap 'echo "$before" >"$pool"; rm -rf "$tmp"' EXIT
echo $((before + 16)) >"$pool"
if [ "$(awk '/^HugePages_Free/ { print $2 }' /proc/meminfo)" -lt 8 ]; then
	skip mem_takes_pages_of_hugetlbfs_first 'memory is too fragmented for 16 huge pages'
else
	make -s O="$build" B="$build" "$test" >&2
	verdict mem_takes_pages_of_hugetlbfs_first < <("$test" mem_takes_pages_of_hugetlbfs_first mem_says_what_pages_it_got \
		mem_is_left_out_of_children_and_dumps | grep -E '^not ok|SKIP|^# ')
fi
finish
