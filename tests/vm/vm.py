#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run lanes of the virtual-machine bench: vm.py [LANE...]

Boots each lane's machine under QEMU, prints its TAP, and ends with
"N passed, N failed, N skipped". See Documentation/vm-tests.rst.
"""
import argparse
import concurrent.futures
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
# pylint: disable=wrong-import-position
from bench import control, image, initramfs, lane as lanes, machine, verdict  # noqa: E402

TOP = lanes.TOP
GUEST = TOP / "tests/vm/guest"
prepare_lock = threading.Lock()


class Missing(Exception):
    """The machine that we run on lacks something; the lane is skipped with that reason."""


def say(options, text):
    """Progress, for people."""
    if options.verbose:
        print(text, file=sys.stderr, flush=True)


def kernel_for(flavour, cache={}):
    """The folder with bzImage, tree and, for Debian's, modules. Builds it when it is not there yet."""
    with prepare_lock:
        if flavour not in cache:
            done = subprocess.run([TOP / "tests/vm/kernel.sh", flavour], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  text=True, check=False)
            if done.returncode == 4:
                raise Missing(done.stderr.strip().splitlines()[-1])
            if done.returncode:
                raise RuntimeError(f"kernel.sh {flavour}: {done.stderr.strip()}")
            cache[flavour] = pathlib.Path(done.stdout.strip().splitlines()[-1])
        return cache[flavour]


def modules_for(lane, kernel, build, cache={}):
    """Our modules built for the lane's kernel, that for NVIDIA's against its stand-in."""
    flavour = " ".join([lane.kernel, lane.pretend]).strip()
    with prepare_lock:
        if flavour not in cache:
            out = build / "vm" / "-".join([kernel.name] + lane.pretend.replace("=", "-").split())
            env = {k: v for k, v in os.environ.items() if k not in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS")}
            done = subprocess.run(["make", "-s", f"-j{os.cpu_count()}", "-C", TOP, "driver", f"KDIR={kernel / 'tree'}",
                                   f"O={out}", "FAKE_NV=1", f"PRETEND={lane.pretend}"], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  check=False, env=env)
            if done.returncode:
                cache[flavour] = RuntimeError(f"the driver does not build for {flavour}:\n{done.stdout}")
            else:
                # Where the kernel's build left a module and where it was brought to: one of each name.
                cache[flavour] = list({p.name: p for p in sorted(out.rglob("*.ko"))}.values())
        if isinstance(cache[flavour], RuntimeError):
            raise cache[flavour]
        return cache[flavour]


def programs_in(build):
    """Programs that every guest has: those for it, and the tool."""
    found = [p for p in sorted((build / "vm/bin").glob("*")) if os.access(p, os.X_OK) and p.is_file() and p.suffix != ".d"]
    return found + [p for p in (build / "penstock",) if p.exists()]


class Reader:
    """Lines of one channel."""

    def __init__(self, sock, take):
        self.sock, self.take, self.rest = sock, take, b""

    def read(self):
        """Take what there is; False at the end."""
        try:
            data = self.sock.recv(65536)
        except OSError:
            data = b""
        *lines, self.rest = (self.rest + data).split(b"\n")
        if not data and self.rest:
            lines, self.rest = lines + [self.rest], b""
        for line in lines:
            self.take(line.decode("utf-8", "replace").rstrip("\r"))
        return bool(data)


def serve(vm, result, run, lane, options):
    """Carry lines until QEMU ends or time is up. Returns why it was ended, or ""."""
    server = control.Control(vm.monitor, run, lane.drives)

    def answer(line):
        # The asker's number comes back with the answer: one that was killed while it waited leaves an answer behind.
        asker, _, line = line.partition(" ")
        reply = server.answer(line)
        say(options, f"{lane.name} host: {line} -> {reply[:200]}")
        vm.sockets["control"].sendall(f"{asker} {reply}\n".encode())

    def console(line):
        result.console_line(line)
        say(options, f"{lane.name} | {line}")

    def tests(line):
        result.test_line(line)
        say(options, f"{lane.name} > {line}")

    def autopsy():
        """Have the kernel print what its tasks wait for, before the machine is ended."""
        result.begin_autopsy()
        for key in "lw":
            vm.monitor.command("chardev-send-break", {"id": "console"})
            vm.sockets["console"].sendall(key.encode())
            end = time.monotonic() + 2
            while time.monotonic() < end:
                if select.select([vm.sockets["console"]], [], [], 0.2)[0] and not readers[0].read():
                    return

    readers = [Reader(vm.sockets["console"], console), Reader(vm.sockets["tests"], tests),
               Reader(vm.sockets["control"], answer)]
    if options.shell:
        readers.pop(0)
    limit = options.timeout or lane.timeout
    deadline = time.monotonic() + limit if not options.shell else float("inf")
    while readers:
        left = deadline - time.monotonic()
        if left <= 0:
            try:
                autopsy()
            except (machine.MachineError, OSError) as e:
                say(options, f"{lane.name}: {e}")
            return f"no end after {limit} s"
        ready = select.select([r.sock for r in readers], [], [], min(left, 60))[0]
        for reader in [r for r in readers if r.sock in ready]:
            if not reader.read():
                readers.remove(reader)
    try:
        vm.process.wait(30)
    except subprocess.TimeoutExpired:
        return "QEMU does not end"
    if vm.process.returncode:
        said = (run / "qemu.log").read_text(errors="replace").strip()
        return f"QEMU exited with {vm.process.returncode}: {said}"
    return ""


def boot(lane, kernel, run, options):
    """Run the machine to its end: the verdict, and why it was ended, or ""."""
    result = verdict.Verdict(lane)
    vm = machine.Machine(lane, kernel, run / "initrd", run, options.shell)
    try:
        ended = serve(vm, result, run, lane, options)
    finally:
        vm.stop()
    return result, ended


def run_lane(name, options):
    """Run one lane: (TAP lines, [passed, failed, skipped])."""
    begin = time.monotonic()
    try:
        lane = lanes.load(name)
        if options.tests:
            lane.tests = options.tests.split()
        if not shutil.which(machine.QEMU):
            raise Missing(f"no {machine.QEMU} (Debian: qemu-system-x86)")
        build = pathlib.Path(options.build).resolve()
        lane.files = [f.replace("@build@", str(build)) for f in lane.files]
        kernel = kernel_for(lane.kernel)
        if options.no_modules:
            lane.modules = ""
        modules = modules_for(lane, kernel, build) if lane.modules else []
        run = pathlib.Path(tempfile.mkdtemp(prefix="penstock-vm.", dir=os.environ.get("TMPDIR", "/var/tmp")))
    except (Missing, initramfs.RootError) as e:
        return [f"ok 1 {name}: # SKIP {e}", "1..1"], [0, 0, 1]
    except (lanes.LaneError, RuntimeError) as e:
        return [f"# {line}" for line in str(e).splitlines()] + [f"not ok 1 {name}: can be prepared", "1..1"], [0, 1, 0]
    try:
        images = build / "vm/images"
        for drive in lane.drives:
            with prepare_lock:
                image.copy(drive.kind, images, run / f"{drive.name}.img")
        missing = initramfs.build(lane, kernel, modules, programs_in(build), GUEST, run / "initrd", options.shell)
        notes = []
        result, ended = boot(lane, kernel, run, options)
        if not options.shell and not ended and result.never_began():
            # QEMU 7.2 loses a guest now and then while its kernel patches itself: nothing of ours has run by then.
            notes += ["# the machine ended in its kernel's own start, and was begun again; it had said:"]
            notes += [f"#   {line}" for line in result.console[-5:]]
            result, ended = boot(lane, kernel, run, options)
        if options.shell:
            return [], [0, 0, 0]
        lines, counts = result.report(ended)
        notes.insert(0, f"# {name}: {lane.about}; {time.monotonic() - begin:.0f} s")
        if missing:
            notes.append(f"# not on this machine: {' '.join(missing)}")
        logs = build / "vm/logs"
        logs.mkdir(parents=True, exist_ok=True)
        (logs / f"{name}.console").write_text("\n".join(result.console) + "\n")
        (logs / f"{name}.tap").write_text("\n".join(lines) + "\n")
        return notes + lines, counts
    except (machine.MachineError, image.ImageError, initramfs.RootError, OSError) as e:
        return [f"# {e}", f"not ok 1 {name}: the machine starts", "1..1"], [0, 1, 0]
    finally:
        if options.keep:
            print(f"kept: {run}", file=sys.stderr)
        else:
            shutil.rmtree(run, ignore_errors=True)


def main():
    """Parse the command line, run, count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lanes", nargs="*", help="lanes to run; without any, all that are not of their own")
    parser.add_argument("--list", action="store_true", help="list the lanes")
    parser.add_argument("--shell", action="store_true", help="a shell in the lane's guest on this terminal, no tests")
    parser.add_argument("--tests", default="", help="run these tests instead of the lane's")
    parser.add_argument("--no-modules", action="store_true", help="build and load none of our modules")
    parser.add_argument("--build", default=os.environ.get("PENSTOCK_BUILD", str(TOP / "build")), help="the build folder")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="machines at a time")
    parser.add_argument("--timeout", type=int, default=0, help="seconds a lane may take, instead of the lane's own")
    parser.add_argument("--keep", action="store_true", help="keep the run's folder (drives, peers' memory, trace)")
    parser.add_argument("--verbose", "-v", action="store_true", help="show all lines as they come, on stderr")
    options = parser.parse_args()
    if options.list:
        for name in lanes.names():
            print(f"{name:20} {lanes.load(name).about}")
        return 0
    # Those that take longest begin first.
    chosen = options.lanes or sorted((n for n in lanes.names() if not lanes.load(n).own),
                                     key=lambda n: -lanes.load(n).timeout)
    if options.shell:
        if len(chosen) != 1:
            parser.error("--shell takes one lane")
        run_lane(chosen[0], options)
        return 0
    total = [0, 0, 0]
    failed = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for name, future in [(n, pool.submit(run_lane, n, options)) for n in chosen]:
            lines, counts = future.result()
            print("\n".join(lines), flush=True)
            total = [a + b for a, b in zip(total, counts)]
            failed += [line for line in lines if line.startswith("not ok ")]
    for line in failed:
        print(f"# failed: {line.split(' ', 3)[-1]}")
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped")
    return 1 if total[1] else 0


if __name__ == "__main__":
    sys.exit(main())
