#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# `penstock serve`: what it starts, with which environment, and what it refuses. The
# llama-server is a fake one; GGUF files without experts and in shards are written here.
# shellcheck source=../tap.sh
. "$(dirname "$0")/../tap.sh"

if ! have python3; then
	skip 'penstock serve' 'no python3 to write GGUF files with'
	finish
	exit 4
fi
unset PENSTOCK_CACHE PENSTOCK_FORM PENSTOCK_STATS PENSTOCK_LOCK GGML_BACKEND_PATH "${!LLAMA_@}"
tool=$(realpath "$build/penstock")
fake=$(realpath tests/fake/llama-server.sh)
backend=$(realpath "$build/libggml-penstock.so")
model=$tmp/model.gguf
export LLAMA_SERVER=$fake
# 8 experts of 3 matrices in 2 layers; 2 of them are 12 slots of 24 KiB
"$tool" synth "$model" --format gguf --dtype q4_0 --layers 2 --experts 8 --top-k 2 --hidden 256 >"$tmp/log" 2>&1 || cat "$tmp/log"

# gguf FILE SPLIT-NO SPLIT-COUNT TENSORS NAME DIMS...: one tensor of F32, zeros
cat >"$tmp/gguf.py" <<'END'
import struct, sys
path, no, count, total, name = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]
dims = [int(d) for d in sys.argv[6:]]
text = lambda s: struct.pack("<Q", len(s)) + s.encode()
keys = [text("general.architecture") + struct.pack("<I", 8) + text("qwen3moe")]
if count:
    keys += [text("split.no") + struct.pack("<IH", 2, no), text("split.count") + struct.pack("<IH", 2, count),
             text("split.tensors.count") + struct.pack("<Ii", 5, total)]
head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(keys)) + b"".join(keys) + text(name) + struct.pack("<I", len(dims))
head += b"".join(struct.pack("<Q", d) for d in dims) + struct.pack("<IQ", 0, 0)
size = 4
for d in dims:
    size *= d
with open(path, "wb") as f:
    f.write(head + bytes(-len(head) % 32) + bytes(size))
END
gguf() { python3 "$tmp/gguf.py" "$@"; }
gguf "$tmp/dense.gguf" 0 0 1 blk.0.ffn_up.weight 64 64
for i in 0 1 2; do
	gguf "$tmp/split-0000$((i + 1))-of-00003.gguf" $i 3 3 blk.$i.ffn_up_exps.weight 64 64 4
done

# serve ARGUMENT...: out, err and its status, with variables of the environment set by the caller
serve() {
	"$tool" serve "$@" >"$tmp/out" 2>"$tmp/err"
	echo $? >"$tmp/status"
}
# started LINE...: it was started, and said these lines
started() {
	local line
	[ "$(cat "$tmp/status")" = 0 ] || { echo "status $(cat "$tmp/status")"; cat "$tmp/err"; }
	for line; do grep -qxF -- "$line" "$tmp/out" || { echo "not there: $line"; cat "$tmp/out"; }; done
}
# refused STATUS TEXT: nothing was started, and the text says why
refused() {
	[ "$(cat "$tmp/status")" = "$1" ] || echo "status $(cat "$tmp/status"), not $1"
	[ ! -s "$tmp/out" ] || cat "$tmp/out"
	grep -qF -- "$2" "$tmp/err" || { echo "does not say: $2"; cat "$tmp/err"; }
}
args() { sed -n 's/^arg //p' "$tmp/out" | tr '\n' ' '; }
has_args() { [ "$(args)" = "$1 " ] || echo "arguments: $(args), not: $1"; }

# ---- what is started ----

verdict 'all is set, other flags are passed on' < <(serve "$model" --cache 50% -np 4 --form plain --port 8080 --stats json
	started "GGML_BACKEND_PATH=$backend" PENSTOCK_CACHE=589824 PENSTOCK_FORM=plain PENSTOCK_STATS=json
	has_args "-m $model --load-mode mmap -fit off -np 4 --port 8080"
	[ "$(grep -c '^penstock serve: .* cache of ' "$tmp/err")" = 1 ] || cat "$tmp/err")
verdict 'without options: all experts, as there is room' < <(serve "$model"
	started PENSTOCK_CACHE=1179648 PENSTOCK_FORM=auto PENSTOCK_STATS=text)
verdict 'more than all experts is all' < <(serve "$model" --cache=3G; started PENSTOCK_CACHE=1179648)
verdict 'the environment counts where no option does' < <(
	PENSTOCK_CACHE=400K PENSTOCK_FORM=repacked PENSTOCK_STATS=none serve "$model" --stats text
	started PENSTOCK_CACHE=409600 PENSTOCK_FORM=repacked PENSTOCK_STATS=text)
verdict 'a budget for a draft model as well' < <(serve "$model" --cache 400K,1M -md draft.gguf; started PENSTOCK_CACHE=400K,1M)
verdict 'what stands behind -- is not ours' < <(serve "$model" -- --cache 8G --help
	started PENSTOCK_CACHE=1179648; has_args "-m $model --load-mode mmap -fit off --cache 8G --help")
verdict 'an old llama-server gets no flag that it does not know' < <(FAKE_HELP='--no-mmap -fitt' serve "$model"
	started; has_args "-m $model")
verdict 'flags of the user are not given twice' < <(serve "$model" -lm mmap -fit on; started
	has_args "-m $model -lm mmap -fit on")
verdict 'experts stay off a GPU' < <(FAKE_DEVICES='CUDA0: NVIDIA H100' serve "$model"; started
	has_args "-m $model --load-mode mmap -fit off --cpu-moe")
verdict 'or where the user wants them' < <(FAKE_DEVICES='CUDA0: NVIDIA H100' serve "$model" -ot exps=PENSTOCK; started
	has_args "-m $model --load-mode mmap -fit off -ot exps=PENSTOCK")
verdict 'any shard stands for the set' < <(serve "$tmp/split-00002-of-00003.gguf"; started
	has_args "-m $tmp/split-00001-of-00003.gguf --load-mode mmap -fit off")
verdict 'it becomes the server: its process, its exit code' < <(
	FAKE_STATUS=7 "$tool" serve "$model" >"$tmp/out" 2>"$tmp/err" &
	pid=$!
	wait "$pid"
	[ $? -eq 7 ] || cat "$tmp/err"
	grep -qx "pid $pid" "$tmp/out" || { echo "not $pid"; cat "$tmp/out"; })
verdict 'the limit of locked memory is raised as far as it goes' < <(
	most=$(ulimit -H -l)
	(ulimit -S -l 8 && serve "$model"; started "memlock $most"))
verdict 'PATH is where llama-server is looked for' < <(
	mkdir "$tmp/bin" && ln -s "$fake" "$tmp/bin/llama-server"
	LLAMA_SERVER='' PATH=$tmp/none:$tmp/bin:$PATH serve "$model" --dry-run
	started; grep -q "^$tmp/bin/llama-server -m" "$tmp/out" || cat "$tmp/out" "$tmp/err")
verdict 'a dry run says it, as a shell takes it, and starts nothing' < <(
	serve "$model" --dry-run -a "it's mine"
	started; ! grep '^pid' "$tmp/out"
	FAKE_HELP='' bash -c "$(cat "$tmp/out")" >"$tmp/run" 2>&1
	diff <(serve "$model" -a "it's mine"; grep -v '^pid' "$tmp/out") <(grep -v '^pid' "$tmp/run"))

# ---- what is refused ----

verdict 'a model without experts' < <(serve "$tmp/dense.gguf"; refused 2 'run llama-server itself')
verdict 'no such model' < <(serve "$tmp/none.gguf"; refused 2 "$tmp/none.gguf")
verdict 'no GGUF' < <(echo '{}' >"$tmp/junk.gguf"; serve "$tmp/junk.gguf"; refused 1 "$tmp/junk.gguf")
verdict 'a missing shard is named' < <(mv "$tmp/split-00003-of-00003.gguf" "$tmp/away"
	serve "$tmp/split-00001-of-00003.gguf"; refused 2 "$tmp/split-00003-of-00003.gguf")
for flags in --no-mmap --mlock -dio '-lm none' '-lm dio' '--load-mode mmap+mlock' --check-tensors; do
	read -r -a words <<<"$flags"
	verdict "$flags" < <(serve "$model" "${words[@]}"; refused 2 "$flags: ")
done
verdict 'another model' < <(serve "$model" -m other.gguf; refused 2 'the model is the argument')
verdict 'the same by the environment' < <(LLAMA_ARG_MLOCK=1 serve "$model"; refused 2 'LLAMA_ARG_MLOCK=1')
verdict 'less than a token needs' < <(serve "$model" --cache 200K; refused 2 "one token's experts, 1 MiB")
verdict 'a size that is none' < <(serve "$model" --cache lots; refused 2 "not 'lots'")
verdict 'a share above all' < <(serve "$model" --cache 101%; refused 2 "not '101%'")
verdict 'a form that is none' < <(serve "$model" --form tidy; refused 2 "not 'tidy'")
verdict 'statistics that are none' < <(serve "$model" --stats xml; refused 2 "not 'xml'")
verdict 'an option without its value' < <(serve "$model" --cache; refused 2 '--cache takes a value')
verdict 'flags before the model' < <(serve --port 8080 "$model"; refused 2 "'--port' before the model")
verdict 'more memory than there is' < <(serve "$model" -c 4000000000; refused 3 'of dense weights')
verdict 'a llama-server that is not there' < <(serve "$model" --llama-server "$tmp/none"; refused 2 "$tmp/none: no such file")
verdict 'no llama-server at all' < <(LLAMA_SERVER='' PATH=/usr/none serve "$model"; refused 2 'no llama-server in PATH')
verdict 'one that does not run' < <(FAKE_HELP_STATUS=9 serve "$model"; refused 1 'failed (status 9)')
verdict 'a backend that is not there' < <(serve "$model" --backend "$tmp/none.so"; refused 2 "$tmp/none.so: no such file")
verdict 'no backend at all' < <(mkdir "$tmp/alone" && cp "$tool" "$tmp/alone/"
	"$tmp/alone/penstock" serve "$model" >"$tmp/out" 2>"$tmp/err"
	echo $? >"$tmp/status"; refused 2 'no libggml-penstock.so beside')
finish
