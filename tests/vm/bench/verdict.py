# SPDX-License-Identifier: MIT
"""From what the guest printed to results: TAP of the tests, faults in the kernel's log.

The guest frames each test with "# begin NAME" and "# end NAME STATUS" and prints
"# guest done" last; TAP lines in a frame are that test's. A test without a plan,
with another number of results than its plan, with a bad exit status and no
"not ok", or without an end is a failure of its own.
"""
import re

# A line of the kernel's log that no healthy run has.
FAULT = re.compile(
    r"WARNING:|BUG:|Oops|KASAN|KFENCE|UBSAN|kmemleak: \d+ new|unreferenced object|DMA-API:|Call Trace|INFO: possible|"
    r"possible recursive locking|possible circular locking|inconsistent lock state|suspicious RCU usage|lockdep|"
    r"INFO: task .* blocked|hung task|blocked for more than|general protection|stack segment|double fault|"
    r"Unable to handle|unable to handle|Kernel panic|rcu_\w+ (self-)?detected stall|soft lockup|hard LOCKUP|"
    r"scheduling while atomic|sleeping function called|ODEBUG|refcount_t:|list_(add|del) corruption|"
    r"Bad page|bad page|page dumped|Bad rss-counter|nobody cared|NETDEV WATCHDOG|percpu ref .* <= 0|DEBUG_LOCKS_WARN_ON|"
    r"segfault at|trap invalid opcode|Fixing recursive fault|kernel stack overflow|VFS: Busy inodes|"
    r"refusing to free|Objects remaining|still has \d+ objects|DMAR: \[.*fault|DMAR:.* fault|dead loop|NULL pointer")
# These lines have one of the words above and say that all is well.
HARMLESS = re.compile(
    r"lockdep is turned on|Lock dependency validator|\.\.\. MAX_LOCK|memory used by lock|kmemleak: Kernel memory leak detector|"
    r"kmemleak: Automatic memory scanning|kasan: KernelAddressSanitizer|KASAN: .*initialized|kmemleak: Object testing|"
    r"DMA-API: preallocated|DMA-API: debugging enabled|Yama|rcu: .*lockdep|lockdep checking is enabled|"
    r"enabling DMA-API debugging|DMA-API: driver filter|Command line:|Kernel command line:|lockdep internal ?errors")
TIME = re.compile(r"^\[ *\d+\.\d+\]\s*(\[ *[TC]\d+\]\s*)?")
AROUND = 25
RESULT = re.compile(r"^(not )?ok\b *(\d+)? *-? *(.*)$")
PLAN = re.compile(r"^1\.\.(\d+)")


def faults(lines, allow):
    """Excerpts of the kernel's log: [(line number, text)], those that the lane expects left out.

    A report goes on for many lines with words of its own; an excerpt takes AROUND
    lines, and what follows within them is part of it.
    """
    found, skip_to = [], 0
    for i, line in enumerate(lines):
        if i < skip_to or not FAULT.search(line) or HARMLESS.search(line):
            continue
        bare = TIME.sub("", line)
        if any(pattern.fullmatch(bare) for pattern, _ in allow):
            continue
        found.append((i + 1, lines[i:i + AROUND]))
        skip_to = i + AROUND
    return found


class Frame:
    """One test program's output."""

    def __init__(self, name):
        self.name, self.results, self.plan, self.status = name, [], None, None


class Verdict:
    """Collects lines as they come; report() gives TAP."""

    def __init__(self, lane):
        self.lane, self.console, self.frames, self.done = lane, [], [], False
        self.frame, self.lines, self.owner = None, [], []
        self.autopsy = None

    def begin_autopsy(self):
        """Time is up: what the kernel prints from here was asked for, and tells where it stands."""
        self.autopsy = len(self.console)

    def console_line(self, line):
        """A line of the kernel's log, and which test was running."""
        self.console.append(line)
        self.owner.append(self.frame.name if self.frame else "boot" if not self.frames else "the end")

    def test_line(self, line):
        """A line that a test printed."""
        words = line.split()
        if line.startswith("# begin ") and len(words) == 3:
            self.frame = Frame(words[2])
            self.frames.append(self.frame)
        elif line.startswith("# end ") and self.frame and len(words) == 4:
            self.frame.status = int(words[3])
            self.frame = None
        elif line.strip() == "# guest done":
            self.done = True
        elif self.frame:
            plan, result = PLAN.match(line), RESULT.match(line)
            if plan:
                self.frame.plan = int(plan.group(1))
            elif result:
                self.frame.results.append(None)
            self.lines.append((self.frame, line))
            return
        self.lines.append((None, line))

    def never_began(self):
        """Not a word of the guest's init."""
        return not self.lines and not self.frames

    def _judge(self, frame):
        """Failures of a frame as a whole."""
        bad = any(re.match(r"not ok", line) for f, line in self.lines if f is frame)
        if frame.status is None:
            yield "did not end"
        elif frame.status not in (0, 4) and not bad:
            yield f"exited with {frame.status}"
        if frame.plan is None:
            if frame.status is not None:
                yield "printed no plan"
        elif frame.plan != len(frame.results):
            yield f"planned {frame.plan} results and gave {len(frame.results)}"

    def report(self, ended):
        """TAP of the whole lane as a list of lines, and (passed, failed, skipped). ended: why it stopped, or ""."""
        out, nr, counts = [], 0, [0, 0, 0]

        def add(good, text, name):
            nonlocal nr
            nr += 1
            skip = good and re.search(r"# SKIP", text, re.I)
            counts[2 if skip else 0 if good else 1] += 1
            prefix = f"{name}: " if name else ""
            out.append(f"{'ok' if good else 'not ok'} {nr} {self.lane.name}: {prefix}{text}")

        for frame, line in self.lines:
            result = RESULT.match(line) if frame else None
            if result:
                add(not result.group(1), result.group(3), frame.name)
            elif line.startswith("1..") and frame:
                continue
            else:
                out.append(line if line.startswith("#") else f"# {line}")
            if not frame and line.startswith("# end "):
                self._close(line.split()[2], add)
        for frame in self.frames:
            if frame.status is None:
                self._close(frame.name, add)
        if ended or not self.done:
            at = len(self.console) if self.autopsy is None else self.autopsy
            out.append("# the kernel's last lines:")
            out += [f"#   {text}" for text in self.console[max(0, at - 15):at]]
            if at < len(self.console):
                out.append("# what its CPUs and its blocked tasks do:")
                out += [f"#   {text}" for text in self.console[at:at + 200]]
            add(False, f"the guest ran to its end: {ended or 'it stopped before'}", "")
        else:
            add(True, "the guest ran to its end", "")
        found = faults(self.console[:self.autopsy], self.lane.allow)
        for at, excerpt in found:
            out.append(f"# kernel log, line {at}, during {self.owner[at - 1]}:")
            out += [f"#   {text}" for text in excerpt]
        add(not found, "the kernel's log is clean", "")
        out.append(f"1..{nr}")
        return out, counts

    def _close(self, name, add):
        for frame in self.frames:
            if frame.name == name:
                for text in self._judge(frame):
                    add(False, text, name)
