#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Load one safetensors checkpoint with several loaders, cold, in alternating rounds.

    compare_loaders.py MODEL [--rounds 5] [--penstock build/penstock] [--json]

Loaders: `penstock bench load`, and from the Python registry safetensors,
fastsafetensors (without GDS) and runai-model-streamer, as their own documents use
them. Each load runs in a process of its own; before it the files are dropped from
the page cache (posix_fadvise; all caches as root with --drop-caches).

What is timed: from the first open to the last byte in memory. Imports, and
penstock's opening of the context (where slots are allocated and prefaulted), are
not: that is what "prefaulted" tells. A loader whose tensors are a mapping has each
page touched. Bytes are those of the routed experts for all loaders where these can
be asked for by name (--all: every tensor, and penstock still the experts).
"""
import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time

EXPERT = re.compile(r"\.experts\.|\.feed_forward\.experts|block_sparse_moe\.experts")
LOADERS = ("safetensors", "fastsafetensors", "runai")


def shards(model):
    """Paths of the safetensors files, and the names of the expert tensors of each."""
    files = sorted(os.path.join(model, f) for f in os.listdir(model) if f.endswith(".safetensors"))
    if not files:
        sys.exit(f"{model}: no safetensors files")
    names = {}
    for path in files:
        with open(path, "rb") as f:
            head = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        names[path] = [k for k in head if k != "__metadata__" and EXPERT.search(k)]
    return names


def drop(paths, everything):
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    if everything:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("1\n")


def touch(tensor):
    """One byte of each page, so that a mapping is read; little work for what is in memory."""
    import torch

    flat = tensor.contiguous().reshape(-1).view(torch.uint8)
    return int(flat[::4096].sum())


def load_safetensors(names, every):
    from safetensors import safe_open

    kept, size = [], 0
    yield
    for path, experts in names.items():
        with safe_open(path, framework="pt", device="cpu") as f:
            for key in f.keys() if every else experts:
                t = f.get_tensor(key)
                touch(t)
                size += t.numel() * t.element_size()
                kept.append(t)
    yield size


def load_fastsafetensors(names, every):
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup

    kept, size = [], 0
    yield
    for path, experts in names.items():
        if not every and not experts:
            continue
        loader = SafeTensorsFileLoader(SingleGroup(), "cpu", nogds=True)
        if not every:
            loader.set_tensor_filter(lambda key: EXPERT.search(key) is not None)
        loader.add_filenames({0: [path]})
        buffers = loader.copy_files_to_device()
        for key in loader.get_keys() if every else experts:
            t = buffers.get_tensor(key)
            size += t.numel() * t.element_size()
            kept.append(t)
        kept.append(buffers)
        loader.close()
    yield size


def load_runai(names, every):
    from runai_model_streamer import SafetensorsStreamer

    kept, size = [], 0
    paths = [p for p, experts in names.items() if every or experts]
    wanted = None if every else [k for experts in names.values() for k in experts]
    yield
    with SafetensorsStreamer() as streamer:
        streamer.stream_files(paths, tensor_names=wanted)
        for _, t in streamer.get_tensors():
            size += t.numel() * t.element_size()
            kept.append(t)
        yield size


def child(loader, model, every):
    """Run in a process of its own; prints one JSON object."""
    names = shards(model)
    load = {"safetensors": load_safetensors, "fastsafetensors": load_fastsafetensors, "runai": load_runai}[loader]
    steps = load(names, every)
    next(steps)
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    size = next(steps)
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    faults = after.ru_minflt + after.ru_majflt - before.ru_minflt - before.ru_majflt
    print(json.dumps({"bytes": size, "seconds": seconds, "cpu_s": cpu, "faults": faults,
                      "prefaulted": faults < size / (2 << 20) / 8 + 64}), flush=True)
    # Some loaders have threads that outlive them.
    os._exit(0)


def run_child(loader, args):
    cmd = [sys.executable, __file__, args.model, "--child", loader] + (["--all"] if args.all else [])
    env = dict(os.environ, RUNAI_STREAMER_LOG_LEVEL="ERROR")
    out = subprocess.run(cmd, stdout=subprocess.PIPE, env=env, check=True, text=True).stdout
    return json.loads(out.strip().splitlines()[-1])


def run_penstock(args):
    cmd = [args.penstock, "bench", "load", args.model, "--json", "--cache", args.cache]
    out = json.loads(subprocess.run(cmd, stdout=subprocess.PIPE, check=True, text=True).stdout)
    row = out["rounds"][-1]
    cpu = (row["user_s_per_gb"] + row["system_s_per_gb"]) * out["bytes"] / 1e9
    return {"bytes": out["bytes"], "seconds": row["read_s"], "cpu_s": cpu, "faults": row["minor_faults"],
            "prefaulted": out["prefaulted"], "open_s": row["open_s"]}


def version(loader):
    from importlib import metadata

    if loader == "penstock":
        return ""
    return metadata.version("runai-model-streamer" if loader == "runai" else loader)


def measure(args):
    names = list(shards(args.model))
    rows = {name: [] for name in ("penstock",) + LOADERS}
    failed = {}
    for nr in range(args.rounds):
        for name in rows:
            if name in failed:
                continue
            drop(names, args.drop_caches)
            try:
                rows[name].append(run_penstock(args) if name == "penstock" else run_child(name, args))
            except (subprocess.CalledProcessError, OSError, ValueError) as e:
                failed[name] = str(e)
            print(f"round {nr + 1}/{args.rounds}: {name} done", file=sys.stderr, flush=True)
    return rows, failed


def summary(rows, failed):
    table = []
    for name, done in rows.items():
        if not done or name in failed:
            table.append({"loader": name, "failed": failed.get(name, "not run")})
            continue
        table.append({
            "loader": name, "version": version(name), "bytes": done[-1]["bytes"], "rounds": len(done),
            "gb_s": statistics.median(r["bytes"] / r["seconds"] / 1e9 for r in done),
            "gb_s_least": min(r["bytes"] / r["seconds"] / 1e9 for r in done),
            "gb_s_most": max(r["bytes"] / r["seconds"] / 1e9 for r in done),
            "cpu_s_per_gb": statistics.median(r["cpu_s"] / (r["bytes"] / 1e9) for r in done),
            "prefaulted": done[-1]["prefaulted"],
        })
    return table


def show(table):
    print(f"{'loader':<16} {'version':<9} {'GB':>7} {'GB/s':>7} {'least':>7} {'most':>7} {'CPU s/GB':>9}  prefaulted")
    for r in table:
        if "failed" in r:
            print(f"{r['loader']:<16} failed: {r['failed']}")
            continue
        print(f"{r['loader']:<16} {r['version']:<9} {r['bytes'] / 1e9:>7.3f} {r['gb_s']:>7.3f} {r['gb_s_least']:>7.3f} "
              f"{r['gb_s_most']:>7.3f} {r['cpu_s_per_gb']:>9.4f}  {'yes' if r['prefaulted'] else 'no'}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", help="folder with safetensors files")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--penstock", default=os.path.join(os.environ.get("PENSTOCK_BUILD", "build"), "penstock"))
    p.add_argument("--cache", default="512M", help="slots of penstock")
    p.add_argument("--all", action="store_true", help="the other loaders load every tensor")
    p.add_argument("--drop-caches", action="store_true", help="drop all caches (root)")
    p.add_argument("--json", action="store_true")
    p.add_argument("--child", choices=LOADERS, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.child:
        child(args.child, args.model, args.all)
    rows, failed = measure(args)
    table = summary(rows, failed)
    if args.json:
        print(json.dumps({"schema": "penstock.compare_loaders/1", "loaders": table}))
    else:
        show(table)
    best = max((r["gb_s"] for r in table if "gb_s" in r and r["loader"] != "penstock"), default=0)
    ours = table[0].get("gb_s", 0)
    return 0 if ours >= best else 1


if __name__ == "__main__":
    sys.exit(main())
