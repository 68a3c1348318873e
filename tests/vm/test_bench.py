#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The bench's judgement, without a machine: what must fail fails. Prints TAP."""
import pathlib
import re
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
# pylint: disable=wrong-import-position
from bench import control, image, initramfs, lane, verdict  # noqa: E402

results = []


def check(name):
    """A test: what it returns says what is wrong; nothing is good."""
    def run(f):
        try:
            wrong = f()
        except Exception as e:  # pylint: disable=broad-exception-caught
            wrong = f"{type(e).__name__}: {e}"
        if wrong:
            print(f"# {wrong}")
        results.append(not wrong)
        print(f"{'not ok' if wrong else 'ok'} {len(results)} bench: {name}")
        return f
    return run


class FakeLane:
    """As much of a lane as a verdict needs."""

    def __init__(self, allow=()):
        self.name, self.allow = "fake", [(re.compile(a), "expected here") for a in allow]


def judge(tests, console=(), allow=(), ended=""):
    """Counts of a run whose guest printed that."""
    result = verdict.Verdict(FakeLane(allow))
    for line in console:
        result.console_line(line)
    for line in tests:
        result.test_line(line)
    return result.report(ended)


GOOD = ["# begin a", "ok 1 one", "ok 2 two # SKIP no drive", "1..2", "# end a 0", "# guest done"]
HEALTHY = [
    "[    0.000000] Linux version 6.12.117", "[    0.1] Kernel command line: console=ttyS0 oops=panic",
    "[    0.1] lockdep is turned on", "[    0.2] kasan: KernelAddressSanitizer initialized (generic)",
    "[    0.3] rcu: RCU lockdep checking is enabled.", "[    2.0] DMA-API: debugging enabled by kernel config",
    "[    2.1] kmemleak: Kernel memory leak detector initialized (mem pool available: 37000)",
    "[    0.0] Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar",
]
SICK = [
    "[    9.0] WARNING: CPU: 0 PID: 77 at drivers/pci/p2pdma.c:100 pci_p2pdma_release+0x1/0x2",
    "[    9.0] BUG: KASAN: slab-use-after-free in region_put+0x1/0x2 [penstock]",
    "[    9.0] BUG: unable to handle page fault for address: ffffc90000", "[    9.0] Oops: 0000 [#1] PREEMPT SMP KASAN",
    "[    9.0] UBSAN: array-index-out-of-bounds in driver/region.c:3:4", "[    9.0] WARNING: possible recursive locking detected",
    "[    9.0] WARNING: possible circular locking dependency detected", "[    9.0] INFO: task a:12 blocked for more than 60 seconds.",
    "[    9.0] kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
    "[    9.0] general protection fault, probably for non-canonical address", "[    9.0] Call Trace:",
    "[    9.0] DMA-API: nvme 0000:01:00.0: cacheline tracking EEXIST, overlapping mappings aren't supported",
    "[    9.0] refcount_t: underflow; use-after-free.", "[    9.0] BUG: scheduling while atomic: a/1/0x2",
    "[    9.0] BUG: Bad page state in process a  pfn:00042", "[    9.0] WARNING: suspicious RCU usage",
    "[    9.0] Kernel panic - not syncing: Fatal exception", "[    9.0] BUG: sleeping function called from invalid context at a.c:1",
    "[    9.0] rcu: INFO: rcu_preempt self-detected stall on CPU", "[    9.0] rcu: INFO: rcu_sched detected stalls on CPUs/tasks:",
    "[    9.0] ODEBUG: free active (active state 0) object: 00", "[    9.0] DMAR: [DMA Write NO_PASID] Request device [02:00.0] fault addr 0x0",
]


@check("a healthy run passes")
def _():
    lines, counts = judge(GOOD, HEALTHY)
    return "" if counts == [3, 0, 1] and lines[-1] == "1..4" else f"{counts} {lines}"


@check("each sick line of a kernel's log fails")
def _():
    missed = [line for line in SICK if judge(GOOD, HEALTHY + [line])[1][1] != 1]
    return f"went by: {missed}" if missed else ""


@check("the excerpt has the line and names the test")
def _():
    result = verdict.Verdict(FakeLane())
    result.test_line("# begin a")
    result.console_line(SICK[0])
    text = "\n".join(result.report("")[0])
    return "" if SICK[0] in text and "during a" in text else text


@check("an expected line is let go, a longer one is not")
def _():
    allow = [r"WARNING: this is a test"]
    if judge(GOOD, ["[    1.0] WARNING: this is a test"], allow)[1][1]:
        return "the expected line failed"
    return "" if judge(GOOD, ["[    1.0] WARNING: this is a test of more"], allow)[1][1] == 1 else "the longer one went by"


@check("a guest that said nothing never began, one that booted did")
def never_began():
    result = verdict.Verdict(FakeLane())
    result.console_line(HEALTHY[0])
    if not result.never_began():
        return "the kernel's log counts as the guest's word"
    result.test_line("# booted: 6.12.117, 2.05 s")
    return "it counts for nothing that it booted" if result.never_began() else ""


@check("a guest that died fails, with its last lines")
def _():
    lines, counts = judge(GOOD[:2], ["[    1.0] the last words"])
    text = "\n".join(lines)
    return "" if counts[1] == 2 and "did not end" in text and "the last words" in text else f"{counts} {text}"


@check("results other than the plan fail")
def _():
    few = judge(["# begin a", "ok 1 one", "1..2", "# end a 0", "# guest done"])[1]
    none = judge(["# begin a", "ok 1 one", "# end a 0", "# guest done"])[1]
    return "" if few[1] == 1 and none[1] == 1 else f"{few} {none}"


@check("a bad exit status without a not ok fails")
def _():
    counts = judge(["# begin a", "ok 1 one", "1..1", "# end a 139", "# guest done"])[1]
    return "" if counts[1] == 1 else f"{counts}"


@check("a test's not ok fails, once")
def _():
    counts = judge(["# begin a", "not ok 1 one", "1..1", "# end a 1", "# guest done"])[1]
    return "" if counts[1] == 1 else f"{counts}"


@check("a run that was cut off fails")
def _():
    counts = judge(GOOD, ended="no end after 9 s")[1]
    return "" if counts[1] == 1 else f"{counts}"


@check("what was asked for at the end of time is shown, and is no fault of its own")
def _():
    result = verdict.Verdict(FakeLane())
    result.console_line("[    1.0] waiting")
    result.begin_autopsy()
    result.console_line("[    2.0] Call Trace:")
    lines, counts = result.report("no end after 9 s")
    return "" if counts == [1, 1, 0] and "#   [    2.0] Call Trace:" in lines else f"{counts} {lines}"


@check("a trace tells reads' data addresses from others")
def _():
    text = """1@2.3:pci_nvme_io_cmd cid 1 nsid 0x1 sqid 1 opc 0x2 opname 'NVME_NVM_CMD_READ'
1@2.3:pci_nvme_map_addr addr 0x1000 len 4096
1@2.3:pci_nvme_map_addr addr 0x1fff len 4096
1@2.3:pci_nvme_io_cmd cid 1 nsid 0x1 sqid 1 opc 0x1 opname 'NVME_NVM_CMD_WRITE'
1@2.3:pci_nvme_map_addr addr 0x9000 len 512
1@2.3:pci_nvme_admin_cmd cid 1 sqid 0 opc 0x6 opname 'NVME_ADM_CMD_IDENTIFY'
1@2.3:pci_nvme_map_addr addr 0xa000 len 4096
"""
    with tempfile.TemporaryDirectory() as d:
        path = pathlib.Path(d) / "trace"
        path.write_text(text)
        got = control.Trace(path).check(0x1000, 0x2000)
    want = ("reads=1 writes=1 admin=1 other=0 inside=1 outside=1 inside_bytes=4096 outside_bytes=4096 other_addresses=2 "
            "first_outside=0x1fff")
    return "" if got == want else got


@check("the peer's commands: poison, sums, ranges")
def _():
    with tempfile.TemporaryDirectory() as d:
        run = pathlib.Path(d)
        (run / "peer0").write_bytes(bytes(8192))
        ask = control.Control(None, run).answer
        steps = [("peer-fill 0 4K 0xa5", "ok "), ("peer-is 0 4096 165", "ok "), ("peer-is 1 4096 0xa5", "err at 4096: 0x0, not 0xa5"),
                 ("peer-read 4094 4", "ok a5a50000"), ("peer-sum 8000 193", "err peer 0 has 8192 bytes; 8000+193 is outside"),
                 ("peer-sum 0 0 3", "err no peer 3"), ("nothing", "err no command nothing"), ("peer-sum", "err wrong arguments: peer-sum")]
        wrong = [(step, ask(step)) for step, want in steps if ask(step) != want]
    return f"{wrong}" if wrong else ""


@check("blocks of test files are all distinct, and ranges agree with the whole")
def _():
    blocks = set()
    for length, constant in image.FILES.values():
        data = image.pattern(constant, 0, min(length, image.MIB))
        new = {data[i:i + 4096] for i in range(0, len(data) - 4095, 4096)}
        if blocks & new or len(new) != len(data) // 4096:
            return "two blocks are alike"
        blocks |= new
        if image.pattern(constant, 4099, 5000) != data[4099:9099]:
            return "a range differs"
    return ""


@check("modules are loaded after those that they need")
def _():
    with tempfile.TemporaryDirectory() as d:
        folder = pathlib.Path(d)
        (folder / "modules.dep").write_text("k/nvme.ko.xz: k/nvme-core.ko.xz k/auth.ko.xz\nk/nvme-core.ko.xz: k/auth.ko.xz\n"
                                            "k/auth.ko.xz:\nk/other.ko.xz:\n")
        got = initramfs.module_order(folder, ("nvme", "not-there"))
    return "" if got == ["k/auth.ko.xz", "k/nvme-core.ko.xz", "k/nvme.ko.xz"] else f"{got}"


@check("every lane can be read, and its tests are there")
def _():
    guest = lane.TOP / "tests/vm/guest"
    sources = (guest, lane.TOP / "tests/kselftest")
    for name in lane.names():
        one = lane.load(name)
        for test in one.tests:
            program = test.split(":")[0]
            if not (guest / f"{program}.sh").exists() and not any((s / f"{program}.c").exists() for s in sources):
                return f"{name}: no test {program}"
        if not one.about:
            return f"{name} does not say what it is about"
    return ""


@check("a lane with an unknown key or an expectation without a reason is refused")
def _():
    for text in ("[lane]\nkernal = plain\n", "[lane]\n[allow]\nWARNING.* =\n", "[lane]\ndrives = floppy\n", "[line]\n"):
        with tempfile.TemporaryDirectory() as d:
            path = pathlib.Path(d) / "bad.lane"
            path.write_text(text)
            try:
                lane.Lane(path)
            except lane.LaneError:
                continue
            return f"taken: {text!r}"
    return ""


print(f"1..{len(results)}")
sys.exit(0 if all(results) else 1)
