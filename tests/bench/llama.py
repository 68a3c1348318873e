#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""llama.cpp with its experts streamed by libggml-penstock.so, against llama.cpp alone, in alternating rounds.

    llama.py MODEL.gguf [--llama DIR] [--backend FILE] [--limits 25,33,50,75] [--rounds 3]
             [--prompt 512] [--decode 64] [--routing greedy,random] [--all] [--json]

With a memory limit (per cent of the file, a memory cgroup of its own, as root) the
other side is llama.cpp's mmap with --no-repack, from a loop device over the file
with direct I/O and the kernel's usual read-ahead of 128 KiB; the file itself must
stay out of the page cache, which fincore is asked for. With --all there is memory
for everything: repacked experts against the default, plain ones against --no-repack.

Printed are the median tokens a second of prompt and decode, their ratios, bytes
read, and the peak of the cgroup less what llama.cpp prints for KV cache, compute and
output buffers. "random" samples at a temperature of 100, which routes evenly; greedy
decoding of random weights falls into short cycles, which a cache likes.

Exit status: 0; 1 a run failed; 4 this machine lacks something (root, a loop device).
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

MIB = 1 << 20
ROUTING = {
    "greedy": ["--temp", "0"],
    "random": ["--temp", "100", "--top-k", "0", "--top-p", "1", "--min-p", "0", "--seed", "42"],
}


class Cgroup:
    """A memory cgroup, version 1 or 2; None as the limit: no cgroup at all."""

    def __init__(self, limit):
        self.path = None
        if limit is None:
            return
        self.v1 = os.path.isdir("/sys/fs/cgroup/memory")
        top = "/sys/fs/cgroup/memory" if self.v1 else "/sys/fs/cgroup"
        self.path = tempfile.mkdtemp(prefix="penstock-", dir=top)
        self.write("memory.limit_in_bytes" if self.v1 else "memory.max", limit)

    def write(self, name, value):
        with open(os.path.join(self.path, name), "w", encoding="ascii") as f:
            f.write(str(value))

    def enter(self):
        if self.path:
            self.write("cgroup.procs", os.getpid())

    def end(self):
        """Bytes at the peak; the cgroup is gone then."""
        if not self.path:
            return 0
        name = "memory.max_usage_in_bytes" if self.v1 else "memory.peak"
        with open(os.path.join(self.path, name), encoding="ascii") as f:
            peak = int(f.read())
        os.rmdir(self.path)
        return peak


def sectors_read(device):
    with open(f"/sys/block/{os.path.basename(device)}/stat", encoding="ascii") as f:
        return int(f.read().split()[2])


def number(pattern, text):
    found = re.search(pattern, text)
    return float(found.group(1)) if found else 0.0


def run(args, model, extra, environment, limit, device=None):
    """One process: its rates, its bytes, its peak."""
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("3")
    group = Cgroup(limit)
    before = sectors_read(device) if device else 0
    with tempfile.NamedTemporaryFile("r") as stats:
        env = dict(os.environ, PENSTOCK_STATS="json", PENSTOCK_STATS_FILE=stats.name, **environment)
        command = [os.path.join(args.llama, "llama-completion"), "-m", model, "-t", str(args.threads), "-n",
                   str(args.decode), "-no-cnv", "-c", str(args.prompt + args.decode + 64), "-f", args.text,
                   "--ignore-eos", "--no-display-prompt", "-fit", "off", "-v", *extra]
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", preexec_fn=group.enter, check=False)
        line = stats.read().strip().splitlines()
    peak = group.end()
    if done.returncode:
        sys.exit(f"llama.py: {' '.join(command)}: exit {done.returncode}\n{done.stderr[-2000:]}")
    err = done.stderr
    own = sum(float(n) for n in re.findall(r"(?:KV|compute|output) buffer size = +([0-9.]+) MiB", err))
    result = {
        "prompt": number(r"prompt eval time = .*?([0-9.]+) tokens per second", err),
        "decode": number(r"(?<!prompt)[ :]+eval time = .*?([0-9.]+) tokens per second", err),
        "tokens": number(r"prompt eval time = +[0-9.]+ ms / +([0-9]+) tokens", err),
        "peak_mib": peak / MIB, "own_mib": own,
        "dense_mib": number(r"dense weights: ([0-9]+) MiB locked", err),
        "text": done.stdout,
    }
    if device:
        result["bytes_read"] = (sectors_read(device) - before) * 512
    if line:
        result.update(json.loads(line[-1]))
    elif environment:
        sys.exit(f"llama.py: the backend was not used\n{err[-2000:]}")
    return result


def loop_device(path):
    made = subprocess.run(["losetup", "--direct-io=on", "--read-only", "-f", "--show", path], capture_output=True,
                          text=True, check=False)
    if made.returncode:
        print(f"llama.py: no loop device: {made.stderr.strip()}", file=sys.stderr)
        sys.exit(4)
    device = made.stdout.strip()
    subprocess.run(["blockdev", "--setra", "256", device], check=True)
    return device


def cached(path):
    out = subprocess.run(["fincore", "-b", "-n", "-o", "RES", path], capture_output=True, text=True, check=True)
    return int(out.stdout)


def median(rows, key):
    return statistics.median(r.get(key, 0) for r in rows)


def report(args, name, routing, ours, theirs, extra):
    row = {"case": name, "routing": routing, **extra}
    for key in ("prompt", "decode"):
        row[f"{key}_tok_s"] = round(median(ours, key), 2)
        row[f"{key}_llama_tok_s"] = round(median(theirs, key), 2)
        row[f"{key}_ratio"] = round(statistics.median(a[key] / b[key] for a, b in zip(ours, theirs)), 3)
    row["bytes_read_mib"] = round(median(ours, "bytes_read") / MIB)
    row["bytes_read_llama_mib"] = round(median(theirs, "bytes_read") / MIB)
    row["read_over_wanted"] = round(statistics.median(
        r["bytes_read"] / r["bytes_wanted"] if r["bytes_wanted"] else 1 for r in ours), 3)
    row["hit_rate"] = round(statistics.median(r["experts_hit"] / r["experts_wanted"] for r in ours), 3)
    if ours[0]["peak_mib"]:
        held = ours[0]["cache_mib"] + ours[0]["dense_mib"]
        row["peak_mib"] = round(median(ours, "peak_mib"))
        row["peak_over_budget"] = round((median(ours, "peak_mib") - ours[0]["own_mib"] - 64) / held, 3)
    row["same_text"] = all(a["text"] == theirs[0]["text"] for a in ours)
    if args.json:
        print(json.dumps(row), flush=True)
        return
    print(f"{name:>8} {routing:>6}: decode {row['decode_tok_s']:7.2f} tok/s, llama.cpp {row['decode_llama_tok_s']:7.2f}"
          f" = {row['decode_ratio']:.2f}; prompt {row['prompt_tok_s']:7.2f}, {row['prompt_llama_tok_s']:7.2f}"
          f" = {row['prompt_ratio']:.2f}; read {row['bytes_read_mib']} MiB ({row['read_over_wanted']:.3f} of what missed),"
          f" {row['bytes_read_llama_mib']}; hits {100 * row['hit_rate']:.1f} %; peak {row.get('peak_mib', 0)} MiB"
          f" ({row.get('peak_over_budget', 0):.3f}); {'same text' if row['same_text'] else 'other text'}", flush=True)


def limited(args, device, per_cent, routing):
    size = os.path.getsize(args.model)
    limit = size * per_cent // 100
    rest = args.own_mib + args.dense_mib + 64
    cache = limit // MIB - int(rest) - 1
    ours, theirs = [], []
    for _ in range(args.rounds):
        env = {"GGML_BACKEND_PATH": args.backend, "PENSTOCK_CACHE": f"{cache}M", "PENSTOCK_FORM": "plain"}
        ours.append(run(args, args.model, ROUTING[routing], env, limit))
        ours[-1]["cache_mib"] = cache
        theirs.append(run(args, device, [*ROUTING[routing], "--no-repack"], {}, limit, device))
        if cached(args.model) > MIB:
            sys.exit(f"llama.py: {cached(args.model)} bytes of {args.model} are in the page cache")
    report(args, f"{per_cent} %", routing, ours, theirs, {"limit_mib": limit // MIB, "cache_mib": cache})


def everything(args, form, routing):
    theirs_extra = ["--no-repack"] if form == "plain" else []
    ours, theirs = [], []
    for _ in range(args.rounds):
        env = {"GGML_BACKEND_PATH": args.backend, "PENSTOCK_CACHE": "100%", "PENSTOCK_FORM": form}
        ours.append(run(args, args.model, ROUTING[routing], env, None))
        theirs.append(run(args, args.model, [*ROUTING[routing], *theirs_extra, "-lm", "none"], {}, None))
    report(args, form, routing, ours, theirs, {})


def main():
    ap = argparse.ArgumentParser(usage=__doc__)
    ap.add_argument("model")
    ap.add_argument("--llama", default="")
    ap.add_argument("--backend", default="build/libggml-penstock.so")
    ap.add_argument("--limits", default="25,33,50,75")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--prompt", type=int, default=512)
    ap.add_argument("--decode", type=int, default=64)
    ap.add_argument("--threads", type=int, default=os.cpu_count())
    ap.add_argument("--routing", default="greedy,random")
    ap.add_argument("--all", action="store_true")
    ap.add_argument("--json", action="store_true")
    args = ap.parse_args()
    if os.geteuid():
        print("llama.py: needs root, for cgroups, loop devices and the page cache", file=sys.stderr)
        sys.exit(4)
    if not args.llama:
        build = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../llama/build.sh")
        args.llama = os.path.join(subprocess.run([build], check=True, capture_output=True, text=True).stdout.strip(), "bin")
    args.backend = os.path.abspath(args.backend)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as text:
        # about a token each: short words that are apart
        text.write(" ".join(f"w{i * 7919 % 97}" for i in range(args.prompt // 3)))
        text.flush()
        args.text = text.name
        first = run(args, args.model, ROUTING["greedy"],
                    {"GGML_BACKEND_PATH": args.backend, "PENSTOCK_CACHE": "100%", "PENSTOCK_FORM": "plain"}, None)
        args.own_mib, args.dense_mib = first["own_mib"], first["dense_mib"]
        print(f"llama.py: prompt of {first['tokens']:.0f} tokens, decode of {args.decode}; KV, compute and output buffers"
              f" {args.own_mib:.0f} MiB, dense weights {args.dense_mib:.0f} MiB", file=sys.stderr)
        for routing in args.routing.split(","):
            if args.all:
                for form in ("plain", "repacked"):
                    everything(args, form, routing)
                continue
            device = loop_device(args.model)
            try:
                for per_cent in args.limits.split(","):
                    limited(args, device, int(per_cent), routing)
            finally:
                subprocess.run(["losetup", "-d", device], check=False)


if __name__ == "__main__":
    main()
