#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The main job on a machine that has nothing yet: install what is missing, build,
# make a checkpoint (once), stream it under a cache of one eighth of its experts.
# Environment: SIZE (4G), MODEL (a checkpoint to use instead), O (build),
# XDG_CACHE_HOME (where the checkpoint is kept: its folder penstock/).
set -euo pipefail
cd "$(dirname "$0")/.."
size=${SIZE:-4G} model=${MODEL:-} build=${O:-build}

die() {
	echo "demo: $*" >&2
	exit 1
}

# bytes TEXT: 4G, 256M, 1073741824
bytes() {
	local n=${1%[KMGTkmgt]} unit=1
	[[ $n =~ ^[0-9]+$ ]] || die "SIZE=$1 is no size (256M, 4G)"
	case $1 in
	*[Kk]) unit=$((1 << 10)) ;;
	*[Mm]) unit=$((1 << 20)) ;;
	*[Gg]) unit=$((1 << 30)) ;;
	*[Tt]) unit=$((1 << 40)) ;;
	esac
	echo $((n * unit))
}

# check_space BYTES FOLDER: a tenth more is for embedding, attention and head
check_space() {
	local need=$(($1 * 11 / 10 + (64 << 20))) avail
	mkdir -p "$2"
	avail=$(df -B1 --output=avail "$2" | tail -n 1)
	[ "$avail" -gt "$need" ] ||
		die "the checkpoint needs $((need >> 20)) MiB in $2, where $((avail >> 20)) MiB are free." \
			'Set XDG_CACHE_HOME to another drive, or SIZE=1G, or MODEL=/path of one that you have'
}

# make_model BYTES FOLDER: whole or not at all
make_model() {
	part=$2.part
	rm -rf "$part"
	trap 'rm -rf "$part"' EXIT
	echo "== making a checkpoint of about $size in $2 (once)"
	"$build/penstock" synth "$part" --size "$1" >/dev/null || die 'no checkpoint was made'
	mv "$part" "$2"
}

want=$(bytes "$size")
[ "$want" -ge $((64 << 20)) ] || die "SIZE=$size is too small for a model with 128 experts a layer; the least is 64M"
make=''
if [ -z "$model" ]; then
	model=${XDG_CACHE_HOME:-${HOME:-/var/tmp}/.cache}/penstock/demo-qwen3_moe-$size
	[ -d "$model" ] || make=yes
elif [ ! -e "$model" ]; then
	die "MODEL=$model: there is no such file or folder"
fi
[ -z "$make" ] || check_space "$want" "$(dirname "$model")"

if [ ! -e "$build/config.mk" ] && ! ./configure --build-dir="$build" >/dev/null 2>&1; then
	echo '== installing what is missing'
	.ci/install.sh --demo
	./configure --build-dir="$build" >/dev/null || { ./configure --build-dir="$build"; exit 1; }
fi
echo '== building'
env -u MAKEFLAGS -u MAKELEVEL make -s -j"$(nproc)" O="$build" all

[ -z "$make" ] || make_model "$want" "$model"

list=$("$build/penstock" ls "$model" --json) || exit 1
[[ $list =~ \"expert_bytes\":\ *([0-9]+) ]] || die "$model: 'penstock ls' found no experts"
experts=${BASH_REMATCH[1]}
cache=$((experts / 8))
echo "== streaming $model: $((experts >> 20)) MiB of experts through a cache of $((cache >> 20)) MiB"
exec "$build/penstock" run "$model" --cache "$cache" --tokens "${TOKENS:-32}" --verify --compare mmap
