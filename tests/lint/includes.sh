#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Includes go one way, as the data does. The table lists, for each room, the rooms
# that its files may include beside its own; any other edge is an error.
# Foreign libraries are rooms too: each has its place.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

table='
api             :
base            : api
store           : api base
index           : api base store kabi yajl xxhash
plan            : api base
drv             : api base uapi
ring            : api base store drv liburing
mem             : api base drv numa
tune            : api base store ring mem
slot            : api base mem
canary          : api base mem
route           : api base store ring mem drv canary
policy          : api base
predict         : api base
cache           : api base policy
stream          : api base store index plan ring mem drv route tune slot policy predict cache
launch          : api base kabi
ctx             : api base store index plan ring mem drv canary route tune slot policy predict cache stream launch kabi
ggml            : api mem
kabi            : api
kernels         : api kabi simd
decoder         : api kabi
tools           : api kabi base store index plan ring mem tune drv decoder tools/* yajl simd
tools/*         : api kabi base tools decoder xxhash
tools/serve     : store index
tools/doctor    : store ring mem drv canary route uapi
examples        : api
uapi            :
driver          : uapi layout
fake            : driver
kselftest       : uapi layout
layout          : uapi
tests           : *
'

# room FILE: the room that a file belongs to; "-" for the system
room() {
	case $1 in
	runtime/include/penstock/*) echo api ;;
	runtime/err.* | runtime/util.* | runtime/log.* | runtime/stat.* | runtime/flow.*) echo base ;;
	runtime/ggml/*) echo ggml ;;
	runtime/*) local f=${1#runtime/}; f=${f%.*}; echo "${f%%_*}" ;;
	uapi/*) echo uapi ;;
	kernels/kabi.h) echo kabi ;;
	kernels/*) echo kernels ;;
	tools/decoder/*) echo decoder ;;
	tools/*/*) local d=${1#tools/}; echo "tools/${d%%/*}" ;;
	tools/*) echo tools ;;
	Documentation/examples/*) echo examples ;;
	driver/uapi_layout.h) echo layout ;;
	driver/*) echo driver ;;
	tests/fake/nvidia_p2p.* | tests/fake/dmabuf_importer.*) echo fake ;;
	tests/kselftest/*) echo kselftest ;;
	tests/*) echo tests ;;
	liburing.h | liburing/*) echo liburing ;;
	numa.h | numaif.h) echo numa ;;
	yajl/*) echo yajl ;;
	xxhash.h) echo xxhash ;;
	immintrin.h | *intrin.h) echo simd ;;
	*) echo - ;;
	esac
}

# resolve FROM NAME: the file that an include means, or its name where it is not ours
resolve() {
	local d
	for d in "$(dirname "$1")" runtime/include uapi kernels runtime tests .; do
		if [ -e "$d/$2" ]; then
			realpath --relative-to=. "$d/$2"
			return
		fi
	done
	case $2 in penstock/kabi.h) echo kernels/kabi.h ;; *) echo "$2" ;; esac
}

# allowed ROOM ROOM: is there an edge in the table?
allowed() {
	local name may m
	while IFS=: read -r name may; do
		name=${name// /}
		# shellcheck disable=SC2053 # the right side is a pattern
		if [ -z "$name" ] || ! [[ $1 == $name ]]; then
			continue
		fi
		set -f
		for m in $may; do
			# shellcheck disable=SC2053
			[[ $2 == $m ]] && { set +f; return 0; }
		done
		set +f
	done <<<"$table"
	return 1
}

declare -A known
while IFS=: read -r file line include; do
	from=$(room "$file")
	[[ $include =~ [\"\<]([^\"\>]*)[\"\>] ]] && name=${BASH_REMATCH[1]}
	to=$(room "$(resolve "$file" "$name")")
	[ "$to" = - ] || [ "$from" = "$to" ] || [ "$from" = tests ] && continue
	[ -n "${known[$from $to]:-}" ] || known[$from $to]=$(allowed "$from" "$to" && echo yes || echo no)
	[ "${known[$from $to]}" = yes ] || echo "$file:$line: $from includes $name of $to"
done < <(files '*.c' '*.h' | xargs grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]' /dev/null) >"$tmp/bad"
verdict 'includes go one way' <"$tmp/bad"
finish
