#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# llama-server with the backend: four clients at once get what one gets alone, and what
# they get without it; killed amid its work, it starts again.
# shellcheck source=llama.sh
. "$(dirname "$0")/llama.sh"

model=$models/qwen3moe-Q4_0.gguf
server=''
trap '[ -z "$server" ] || kill -9 "$server" 2>/dev/null; rm -rf "$tmp"' EXIT
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

# serve [NAME=VALUE...]: the server, up and answering; else its last lines in $tmp/died
serve() {
	rm -f "$tmp/died"
	env "$@" "$bin/llama-server" -m "$model" -t 2 -np 4 -c 1024 -fit off -lm mmap --no-repack \
		--host 127.0.0.1 --port "$port" </dev/null >"$tmp/server" 2>&1 &
	server=$!
	for _ in $(seq 300); do
		curl -s -f "http://127.0.0.1:$port/health" >/dev/null 2>&1 && return
		kill -0 "$server" 2>/dev/null || break
		sleep 0.1
	done
	tail -n 5 "$tmp/server" >"$tmp/died"
}
ours=(GGML_BACKEND_PATH="$backend" PENSTOCK_CACHE=60% PENSTOCK_FORM=plain PENSTOCK_STATS=json
	PENSTOCK_STATS_FILE="$tmp/stats")

# ask NR...: the tokens that these prompts are continued with, a line each. One request
# brings them all, so that the server's batches are the same each time: llama.cpp rounds
# differently in batches of another size.
ask() {
	local prompts
	prompts=$(printf ', "ba de w%s gimi lo"' "$@")
	curl -s -m 60 "http://127.0.0.1:$port/completion" -d "{\"prompt\":[${prompts#, }], \"n_predict\":32,
		\"temperature\":0, \"top_k\":1, \"ignore_eos\":true, \"return_tokens\":true, \"cache_prompt\":false}" |
		python3 -c 'import json, sys
answers = json.load(sys.stdin)
for answer in sorted(answers if isinstance(answers, list) else [answers], key=lambda r: r["index"]):
    print(*answer["tokens"])'
}

# stop [SIGNAL]
stop() {
	kill "${1:--TERM}" "$server"
	wait "$server" 2>/dev/null
	server=''
}

# alike A B: the answers of A are 32 tokens each, differ, and are those of B
alike() {
	[ ! -e "$tmp/died" ] || cat "$tmp/died"
	awk 'NF != 32 { print "answer " NR " has " NF " tokens" } END { if (NR < 4) print "only " NR " answers" }' "$tmp/$1"
	[ -z "$(sort "$tmp/$1" | uniq -d)" ] || echo 'two prompts got the same answer'
	cmp "$tmp/$1" "$tmp/$2" 2>&1
}

if ! have curl; then
	skip 'the server' 'no curl'
	finish
	exit 4
fi
# answers NAME: four prompts at once, then each alone
answers() {
	local one
	ask 1 2 3 4 >"$tmp/$1"
	for one in 1 2 3 4; do
		ask "$one"
	done >"$tmp/$1.alone"
	stop
}

serve PENSTOCK_STATS=none
answers without
serve "${ours[@]}"
answers with
verdict 'four slots at once get the tokens that they get without the backend' < <(alike with without; used)
verdict 'so does each alone' < <(alike with.alone without.alone)

# A signal brings the statistics of a server that goes on.
serve "${ours[@]}"
ask 1 >"$tmp/before"
rm -f "$tmp/stats"
kill -USR1 "$server"
for _ in $(seq 50); do
	[ ! -s "$tmp/stats" ] || break
	sleep 0.1
done
ask 1 >"$tmp/after"
verdict 'statistics come on SIGUSR1, and the server goes on' < <(used; cmp "$tmp/before" "$tmp/after" 2>&1)

ask 1 2 3 4 >/dev/null 2>&1 &
sleep 0.2
stop -9
rm -f "$tmp/stats"
serve "${ours[@]}"
answers again
verdict 'killed amid its work, it starts again and answers as before' < <(alike again with; used)

# Who writes to the model's file while it is served gets no answer from a mixture of both.
cp "$model" "$tmp/model.gguf"
model=$tmp/model.gguf
serve "${ours[@]}" PENSTOCK_CACHE=25%
ask 1 >"$tmp/before"
sleep 1.1
touch "$model"
for prompt in 2 3 4 5 6; do
	ask "$prompt"
done >"$tmp/after" 2>/dev/null
verdict 'a file that changed is refused, with a sentence' < <(
	[ -s "$tmp/before" ] || cat "$tmp/died"
	grep -q '^penstock: .*model.gguf.*changed' "$tmp/server" || grep penstock: "$tmp/server"
	[ ! -s "$tmp/after" ] || echo 'answers all the same')
stop
finish
