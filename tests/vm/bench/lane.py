# SPDX-License-Identifier: MIT
"""Lane files: tests/vm/lanes/NAME.lane, one machine with its tests.

An unknown key is an error, so that a misspelt one cannot go by unnoticed.
"""
import configparser
import pathlib
import re

TOP = pathlib.Path(__file__).resolve().parents[3]
LANES = TOP / "tests/vm/lanes"

# key: default
KEYS = {
    "about": "",
    "kernel": "plain",
    "topology": "switch",
    "iommu": "none",
    "cpu": "qemu64",
    "smp": "2",
    "memory": "768M",
    "numa": "1",
    "icount": "",
    "append": "",
    "drives": "ext4",
    "peers": "64M",
    "modules": "penstock allow_test_peer=1",
    "pretend": "",
    "programs": "",
    "files": "",
    "tests": "",
    "timeout": "180",
    "test_timeout": "120",
    "own": "no",
}
FLAVOURS = ("plain", "debug", "stock-6.12", "stock-6.1")
DRIVE_KINDS = ("ext4", "ext4-odd", "xfs", "btrfs", "raw", "raw-4k", "raw-pi", "raw-paths", "blank")


class LaneError(Exception):
    """The lane file is wrong; the text says where."""


class Drive:
    """One NVMe controller with one namespace, raw-paths: two with the same. Its name is the serial number in the guest."""

    def __init__(self, name, kind, options):
        self.name, self.kind, self.options = name, kind, options


class Lane:
    """What a lane file says, checked. Attributes are the keys of KEYS."""

    def __init__(self, path):
        self.name = path.stem
        parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
        parser.optionxform = str
        try:
            with open(path, encoding="utf-8") as f:
                parser.read_file(f)
        except (OSError, configparser.Error) as e:
            raise LaneError(f"{path}: {e}") from e
        allowed = {"lane", "allow"}
        for section in parser.sections():
            if section not in allowed and not section.startswith("drive "):
                raise LaneError(f"{path}: unknown section [{section}]")
        given = dict(parser["lane"]) if parser.has_section("lane") else {}
        for key in given:
            if key not in KEYS:
                raise LaneError(f"{path}: unknown key {key}")
        for key, default in KEYS.items():
            setattr(self, key, " ".join(given.get(key, default).split()))
        self.timeout, self.test_timeout = int(self.timeout), int(self.test_timeout)
        self.smp, self.numa = int(self.smp), int(self.numa)
        self.own = self.own == "yes"
        if self.kernel not in FLAVOURS:
            raise LaneError(f"{path}: kernel {self.kernel} is none of {' '.join(FLAVOURS)}")
        if self.iommu not in ("none", "off", "on", "passthrough"):
            raise LaneError(f"{path}: iommu {self.iommu} is none of none off on passthrough")
        self.tests = self.tests.split()
        self.peers = self.peers.split()
        self.programs = self.programs.split()
        self.files = self.files.split()
        self.drives = self._drives(path, parser)
        self.allow = self._allow(path, parser)

    def _drives(self, path, parser):
        drives, seen = [], {}
        for kind in self.drives.split():
            if kind not in DRIVE_KINDS:
                raise LaneError(f"{path}: drive {kind} is none of {' '.join(DRIVE_KINDS)}")
            seen[kind] = seen.get(kind, 0) + 1
            name = kind if seen[kind] == 1 else f"{kind}{seen[kind]}"
            section = f"drive {name}"
            options = parser[section].get("options", "") if parser.has_section(section) else ""
            drives.append(Drive(name, kind, options))
        return drives

    @staticmethod
    def _allow(path, parser):
        """[allow]: a regular expression for a whole line of the kernel's log = why it is expected."""
        allow = []
        if not parser.has_section("allow"):
            return allow
        for pattern, reason in parser["allow"].items():
            if not reason.strip():
                raise LaneError(f"{path}: [allow] {pattern} has no reason")
            allow.append((re.compile(pattern), reason))
        return allow


def load(name):
    """The lane of that name, or LaneError."""
    path = LANES / f"{name}.lane"
    if not path.exists():
        known = " ".join(names())
        raise LaneError(f"no lane {name}; there are: {known}")
    return Lane(path)


def names():
    """All lanes, in the order of their files' names."""
    return sorted(p.stem for p in LANES.glob("*.lane"))
