# SPDX-License-Identifier: MIT
"""The guest's root: a cpio archive (newc) written here, with busybox, programs
and the shared libraries that they need, kernel modules, scripts.

Being written and not copied from a folder, it can hold device nodes without root.
"""
import lzma
import os
import pathlib
import re
import shutil
import stat
import subprocess

from . import image

# Not one of the stock kernels has these built in on every version.
STOCK_MODULES = ("nvme", "ext4", "xfs", "btrfs", "overlay", "loop", "dm-mod", "raid0", "udmabuf")
# Debian's busybox has none of these, and guest tests use them.
PROGRAMS = ("flock",)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class RootError(Exception):
    """Something for the guest is missing; the text says what."""


class Archive:
    """A newc archive in memory; folders are made as needed, what is added twice counts once."""

    def __init__(self):
        self.parts, self.names, self.inode = [], set(), 1

    def _entry(self, name, mode, data=b"", rdev=(0, 0)):
        raw = name.encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, rdev[0], rdev[1], len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % v for v in fields) + raw
        self.parts += [head, b"\0" * (-len(head) % 4), data, b"\0" * (-len(data) % 4)]
        self.inode += 1

    def _new(self, name):
        name = name.strip("/")
        if name in self.names:
            return None
        parent = os.path.dirname(name)
        if parent:
            self.folder(parent)
        self.names.add(name)
        return name

    def folder(self, name, mode=0o755):
        """A folder and those above it."""
        new = self._new(name)
        if new:
            self._entry(new, stat.S_IFDIR | mode)

    def file(self, name, data, mode=0o644):
        """A file with these bytes."""
        new = self._new(name)
        if new:
            self._entry(new, stat.S_IFREG | mode, data)

    def link(self, name, target):
        """A symbolic link."""
        new = self._new(name)
        if new:
            self._entry(new, stat.S_IFLNK | 0o777, target.encode())

    def char(self, name, major, minor):
        """A character device."""
        new = self._new(name)
        if new:
            self._entry(new, stat.S_IFCHR | 0o600, rdev=(major, minor))

    def save(self, path):
        """Write it, with its trailer."""
        self._entry("TRAILER!!!", 0)
        with open(path, "wb") as f:
            f.writelines(self.parts)


def libraries(path):
    """The shared libraries of a program, and its loader, as ldd finds them."""
    done = subprocess.run(["ldd", str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    found = []
    for line in done.stdout.splitlines():
        if "not found" in line:
            raise RootError(f"{path}: {line.strip()}")
        match = re.search(r"(?:=> )?(/\S+) \(0x", line)
        if match:
            found.append(match.group(1))
    return found


def add_program(archive, path, name=None):
    """A program under /bin, its libraries where its loader looks for them."""
    path = pathlib.Path(path).resolve()
    archive.file(f"bin/{name or path.name}", path.read_bytes(), 0o755)
    for library in libraries(path):
        archive.file(library, pathlib.Path(library).read_bytes(), 0o755)


def module_name(path):
    """The name that a module file goes by: nvme-core.ko.xz -> nvme_core."""
    return re.sub(r"\.ko(\.xz)?$", "", os.path.basename(path)).replace("-", "_")


def module_order(folder, wanted):
    """Files of the wanted modules and of those that they need, the needed first."""
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        file, _, rest = line.partition(":")
        needs[module_name(file)] = (file, [module_name(r) for r in rest.split()])
    order, seen = [], set()

    def visit(name):
        # What is not there is built in, or not part of this kernel.
        if name in seen or name not in needs:
            return
        seen.add(name)
        file, deps = needs[name]
        # depmod lists the nearest need first; each brings its own.
        for dep in deps:
            visit(dep)
        order.append(file)

    for name in wanted:
        visit(name.replace("-", "_"))
    return order


def add_stock_modules(archive, folder):
    """Debian's modules under /modules, numbered in the order of loading."""
    # ext4, xfs and btrfs ask for crc32c by its name, not by a symbol.
    wanted = ("crc32c_generic", "libcrc32c") + STOCK_MODULES
    for i, file in enumerate(module_order(folder, wanted)):
        data = (folder / file).read_bytes()
        if file.endswith(".xz"):
            data = lzma.decompress(data)
        archive.file(f"modules/{i:02}-{module_name(file)}.ko", data)


def busybox():
    """Debian's static one."""
    for path in ("/bin/busybox", "/usr/bin/busybox"):
        if os.path.exists(path) and not libraries(path):
            return path
    raise RootError("no static busybox (Debian: busybox-static)")


def quote(text):
    """For the shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def lane_env(lane, shell):
    """What /init reads: shell variables."""
    filesystems = [f"{d.name}:{d.kind.split('-')[0]}" for d in lane.drives if d.kind[:3] in ("ext", "xfs", "btr")]
    values = {
        "LANE": lane.name, "KERNEL": lane.kernel, "TOPOLOGY": lane.topology, "IOMMU": lane.iommu,
        "TESTS": " ".join(lane.tests), "MODULES": lane.modules, "FILESYSTEMS": " ".join(filesystems),
        "DRIVES": " ".join(d.name for d in lane.drives), "PEERS": str(len(lane.peers)),
        "TEST_TIMEOUT": str(lane.test_timeout), "SHELL_WANTED": "1" if shell else "",
        "ICOUNT": lane.icount,
        "FILES": " ".join(f"{n}:{size}:{constant:#x}" for n, (size, constant) in image.FILES.items()),
    }
    return "".join(f"{k}={quote(v)}\n" for k, v in values.items())


def build(lane, kernel, modules, programs, guest, path, shell):
    """Write the archive for one lane; returns the programs that were not found."""
    archive, missing = Archive(), []
    for name in ("proc", "sys", "dev", "run", "tmp", "mnt", "root", "modules", "tests", "etc"):
        archive.folder(name)
    archive.char("dev/console", 5, 1)
    archive.char("dev/null", 1, 3)
    box = busybox()
    archive.file("bin/busybox", pathlib.Path(box).read_bytes(), 0o755)
    for program in programs:
        add_program(archive, program)
    for name in PROGRAMS + tuple(lane.programs):
        found = shutil.which(name, path=PATH)
        if found:
            add_program(archive, found, name)
        else:
            missing.append(name)
    applets = subprocess.run([box, "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    for applet in applets:
        archive.link(f"bin/{applet}", "busybox")
    archive.link("sbin", "bin")
    stock = kernel / "modules"
    if stock.exists():
        add_stock_modules(archive, stock)
    for module in modules:
        archive.file(f"modules/ours/{module.name}", module.read_bytes())
    for script in guest.glob("*.sh"):
        archive.file(f"tests/{script.name}", script.read_bytes(), 0o755)
    for name in lane.files:
        source = guest.parents[2] / name
        archive.file(f"files/{source.name}", source.read_bytes(), 0o755 if os.access(source, os.X_OK) else 0o644)
    archive.file("init", (guest / "init").read_bytes(), 0o755)
    archive.file("bin/host", (guest / "host").read_bytes(), 0o755)
    archive.file("etc/lane.env", lane_env(lane, shell).encode())
    archive.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nmember:x:1000:1000::/tmp:/bin/sh\n"
                 b"other:x:1001:1001::/tmp:/bin/sh\n")
    archive.file("etc/group", b"root:x:0:\npenstock:x:990:member\nmember:x:1000:\nother:x:1001:\n")
    archive.save(path)
    return missing
