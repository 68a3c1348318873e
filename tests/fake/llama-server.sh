#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A llama-server that serves nothing: it says what it was started with. FAKE_HELP is
# what its --help names, FAKE_DEVICES what --list-devices does, FAKE_STATUS its exit code.
case ${1:-} in
--help)
	for flag in ${FAKE_HELP---list-devices --load-mode -fit --cpu-moe}; do
		printf '%s VALUE%10s\n' "$flag" text
	done
	exit "${FAKE_HELP_STATUS:-0}"
	;;
--list-devices)
	printf 'Available devices:\n'
	[ -z "${GGML_BACKEND_PATH:-}" ] || echo '  PENSTOCK: experts streamed from the drive (0 MiB, 0 MiB free)'
	printf '  %s (0 MiB, 0 MiB free)\n' "${FAKE_DEVICES[@]:-BLAS: OpenBLAS}"
	exit
	;;
esac
echo "pid $$"
echo "memlock $(ulimit -S -l)"
for name in GGML_BACKEND_PATH PENSTOCK_CACHE PENSTOCK_FORM PENSTOCK_STATS; do
	echo "$name=${!name:-}"
done
printf 'arg %s\n' "$@"
exit "${FAKE_STATUS:-0}"
