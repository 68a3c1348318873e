# SPDX-License-Identifier: MIT
"""The control port: one line in, one line out. What a guest test asks the host.

Each answer begins with "ok" or "err"; the guest's `host` prints the rest. The
commands are the methods cmd_* below, a dash in a command being an underscore here.
"""
import hashlib
import json
import re
import shlex
import time

from . import image, machine

LINE = re.compile(r"(pci_nvme_\w+) (.*)")


class CommandError(Exception):
    """The command is wrong or failed; the text is the answer."""


def number(text):
    """Decimal, 0x, or with K, M, G."""
    try:
        return machine.size(text) if text[-1:].upper() in machine.UNITS else int(text, 0)
    except ValueError as e:
        raise CommandError(f"{text} is no number") from e


def value(text):
    """A QMP argument: JSON where it is JSON, else a string."""
    try:
        return json.loads(text)
    except ValueError:
        return text


class Trace:
    """What the NVMe controllers were told: for each command its data addresses.

    pci_nvme_map_addr is logged for data alone: queues, PRP lists and SGL segments
    are read by other functions. QEMU handles one command at a time, so an address
    belongs to the command logged last.
    """

    def __init__(self, path):
        self.path, self.start = path, 0

    def mark(self):
        """Forget what came before."""
        self.start = self.path.stat().st_size if self.path.exists() else 0

    def check(self, low, high):
        """Counts of reads' data addresses in and outside of [low, high), and of other commands."""
        counts = {"reads": 0, "writes": 0, "admin": 0, "other": 0, "inside": 0, "outside": 0, "inside_bytes": 0,
                  "outside_bytes": 0, "other_addresses": 0}
        first, kind = None, None
        with open(self.path, encoding="utf-8", errors="replace") as f:
            f.seek(self.start)
            for line in f:
                match = LINE.search(line)
                if not match:
                    continue
                event, rest = match.groups()
                if event == "pci_nvme_io_cmd":
                    kind = {"0x2": "reads", "0x1": "writes"}.get(re.search(r" opc (0x[0-9a-f]+)", rest).group(1), "other")
                    counts[kind] += 1
                elif event == "pci_nvme_admin_cmd":
                    kind = "admin"
                    counts[kind] += 1
                elif event == "pci_nvme_map_addr":
                    addr, length = re.match(r"addr (0x[0-9a-f]+) len (\d+)", rest).groups()
                    addr, length = int(addr, 16), int(length)
                    if kind != "reads":
                        counts["other_addresses"] += 1
                        continue
                    side = "inside" if low <= addr and addr + length <= high else "outside"
                    counts[side] += 1
                    counts[side + "_bytes"] += length
                    if side == "outside" and first is None:
                        first = addr
        text = " ".join(f"{k}={v}" for k, v in counts.items())
        return text + (f" first_outside={first:#x}" if first is not None else "")


class Control:
    """Answers the guest of one run."""

    def __init__(self, monitor, run, drives=()):
        self.monitor, self.run = monitor, run
        self.drives = {d.name: d for d in drives}
        self.added = 0
        self.trace = Trace(run / "trace")

    def answer(self, line):
        """The reply to one line, without its end."""
        try:
            words = line.split(None, 2) if line.startswith("qmp {") else shlex.split(line)
            if not words:
                raise CommandError("empty command")
            method = getattr(self, "cmd_" + words[0].replace("-", "_"), None)
            if not method:
                raise CommandError(f"no command {words[0]}")
            if words[0] == "qmp" and line.startswith("qmp {"):
                words = ["qmp", line[4:]]
            text = str(method(*words[1:]))
        except (CommandError, machine.MachineError, image.ImageError) as e:
            return "err " + " ".join(str(e).split())
        except TypeError:
            return f"err wrong arguments: {line}"
        except (OSError, ValueError, KeyError) as e:
            return f"err {type(e).__name__}: {e}"
        return "ok " + " ".join(text.split())

    def _peer(self, index, mode, offset, length):
        path = self.run / f"peer{int(index)}"
        if not path.exists():
            raise CommandError(f"no peer {index}")
        total = path.stat().st_size
        if offset < 0 or length < 0 or offset + length > total:
            raise CommandError(f"peer {index} has {total} bytes; {offset}+{length} is outside")
        f = open(path, mode)
        f.seek(offset)
        return f

    @staticmethod
    def cmd_ping():
        """Is anybody there?"""
        return "pong"

    def cmd_qmp(self, name, *pairs):
        """qmp NAME KEY=VALUE..., or qmp {JSON}: a command of QEMU's monitor; prints what it returns."""
        if name.startswith("{"):
            message = json.loads(name)
            result = self.monitor.command(message["execute"], message.get("arguments"))
        else:
            arguments = dict(pair.split("=", 1) for pair in pairs)
            result = self.monitor.command(name, {k: value(v) for k, v in arguments.items()})
        return json.dumps(result)[:3000] if result else ""

    def cmd_wait_event(self, name, match="", timeout="30"):
        """wait-event NAME [TEXT [SECONDS]]: until an event of the monitor whose data hold TEXT."""
        return json.dumps(self.monitor.wait_event(name, match, float(timeout)).get("data", {}))[:3000]

    def cmd_throttle(self, drive, bps, iops="0"):
        """throttle DRIVE BPS [IOPS]: limit a drive; 0 0 lifts the limit."""
        zero = {k: 0 for k in ("bps_rd", "bps_wr", "iops_rd", "iops_wr")}
        self.monitor.command("block_set_io_throttle", {"id": f"nvme-{drive}", "bps": number(bps), "iops": number(iops), **zero})
        return ""

    def _remove(self, device, timeout):
        """Ask the guest to let go, and wait until the device is gone. The slot's button takes five seconds."""
        self.monitor.command("device_del", {"id": device})
        if timeout:
            self.monitor.wait_event("DEVICE_DELETED", f'"{device}"', timeout)

    def cmd_peer_del(self, index="0", timeout="30"):
        """peer-del [PEER [SECONDS]]: orderly removal of a peer; with 0 seconds it is only begun."""
        self._remove(f"peer{int(index)}", float(timeout))
        return ""

    def cmd_peer_add(self, index="0"):
        """peer-add [PEER]: put a removed peer back, with its memory as it is."""
        path = self.run / f"peer{int(index)}"
        # QEMU can't take a memory object again that a removed device had.
        self.added += 1
        memory = f"mem-peer{int(index)}-{self.added}"
        self.monitor.command("object-add", {"qom-type": "memory-backend-file", "id": memory, "share": True,
                                            "mem-path": str(path), "size": path.stat().st_size})
        self.monitor.command("device_add", {"driver": "ivshmem-plain", "id": f"peer{int(index)}", "memdev": memory,
                                            "bus": f"port-peer{int(index)}"})
        return ""

    def cmd_drive_del(self, name, timeout="30"):
        """drive-del DRIVE [SECONDS]: orderly removal of a drive; with 0 seconds it is only begun."""
        self._remove(f"nvme-{name}", float(timeout))
        return ""

    def cmd_drive_add(self, name):
        """drive-add DRIVE: put a removed drive back."""
        if name not in self.drives or self.drives[name].kind == "raw-pi":
            raise CommandError(f"no drive {name} that can be added")
        self.monitor.command("device_add", machine.drive_device(self.drives[name]))
        return ""

    def cmd_peer_sum(self, offset, length, index="0"):
        """peer-sum OFF LEN [PEER]: SHA-256 of what is in the peer's memory."""
        offset, length = number(offset), number(length)
        with self._peer(index, "rb", offset, length) as f:
            return hashlib.sha256(f.read(length)).hexdigest()

    def cmd_peer_fill(self, offset, length, byte, index="0"):
        """peer-fill OFF LEN BYTE [PEER]: poison a range of the peer's memory."""
        offset, length = number(offset), number(length)
        with self._peer(index, "r+b", offset, length) as f:
            f.write(bytes([number(byte)]) * length)
        return ""

    def cmd_peer_read(self, offset, length, index="0"):
        """peer-read OFF LEN [PEER]: up to 1024 bytes in hex."""
        offset, length = number(offset), number(length)
        if length > 1024:
            raise CommandError(f"{length} bytes; at most 1024")
        with self._peer(index, "rb", offset, length) as f:
            return f.read(length).hex()

    def cmd_peer_is(self, offset, length, byte, index="0"):
        """peer-is OFF LEN BYTE [PEER]: error unless each byte of the range is BYTE; the first other offset."""
        offset, length = number(offset), number(length)
        want = number(byte)
        with self._peer(index, "rb", offset, length) as f:
            data = f.read(length)
        if data.count(want) == length:
            return ""
        at = next(i for i, b in enumerate(data) if b != want)
        raise CommandError(f"at {offset + at}: {data[at]:#x}, not {want:#x}")

    @staticmethod
    def cmd_file_sum(name, offset="0", length=""):
        """file-sum FILE [OFF [LEN]]: SHA-256 of a range of a test file (data, small, tail) or of the raw drives (raw)."""
        offset = number(offset)
        return image.digest(name, offset, number(length) if length else image.known(name)[0] - offset)

    def cmd_trace_start(self):
        """trace-start: log the NVMe controllers' commands and data addresses from here."""
        for event in machine.TRACED:
            self.monitor.command("trace-event-set-state", {"name": event, "enable": True})
        self.trace.mark()
        return ""

    def cmd_trace_check(self, low, high):
        """trace-check LOW HIGH: stop; reads' data addresses inside [LOW, HIGH) and outside, other commands."""
        self.cmd_trace_stop()
        return self.trace.check(number(low), number(high))

    def cmd_trace_stop(self):
        """trace-stop: log no more."""
        for event in machine.TRACED:
            self.monitor.command("trace-event-set-state", {"name": event, "enable": False})
        return ""

    @staticmethod
    def cmd_sleep(seconds):
        """sleep SECONDS: answers later, by the host's clock."""
        time.sleep(min(float(seconds), 60))
        return ""
