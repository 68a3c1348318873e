# SPDX-License-Identifier: MIT
"""Contents of the guest's drives, made without root, and what is in them.

Every 8-byte word of a test file is (file offset + 8) times an odd constant of
that file, modulo 2^64: no two blocks of all files are alike, and any range can
be computed again without the file. Images are made once in a folder and copied
for each run.
"""
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from array import array

MIB = 1 << 20
# name: (length, constant). The last one ends in the middle of a block.
FILES = {
    "data": (32 * MIB, 0x9E3779B97F4A7C15),
    "small": (64 * 1024, 0xC2B2AE3D27D4EB4F),
    "tail": (MIB + 1234, 0x165667B19E3779F9),
}
RAW = (64 * MIB, 0xD6E8FEB86659FD93)
SIZES = {"ext4": 96, "ext4-odd": 96, "xfs": 320, "btrfs": 192, "raw": 64, "raw-4k": 64, "raw-pi": 64, "raw-paths": 64,
         "blank": 256}
MASK = (1 << 64) - 1


class ImageError(Exception):
    """An image could not be made; the text has the tool's output."""


def pattern(constant, offset, length):
    """Bytes [offset, offset + length) of the file with that constant."""
    first, last = offset // 8, (offset + length + 7) // 8
    words = array("Q", (((i + 1) * 8 * constant) & MASK for i in range(first, last)))
    if sys.byteorder == "big":
        words.byteswap()
    skip = offset - first * 8
    return words.tobytes()[skip:skip + length]


def write_pattern(path, length, constant):
    """A whole file of that pattern."""
    with open(path, "wb") as f:
        for offset in range(0, length, MIB):
            f.write(pattern(constant, offset, min(MIB, length - offset)))


def known(name):
    """(length, constant) of a test file or of the raw drives; KeyError for others."""
    return RAW if name == "raw" else FILES[name]


def digest(name, offset, length):
    """SHA-256 of a range of a test file: what a read of it must bring."""
    size, constant = known(name)
    if offset < 0 or length < 0 or offset + length > size:
        raise ImageError(f"{name} has {size} bytes; {offset}+{length} is outside")
    sha = hashlib.sha256()
    for at in range(offset, offset + length, MIB):
        sha.update(pattern(constant, at, min(MIB, offset + length - at)))
    return sha.hexdigest()


def tool(*command):
    """Run a file system's tool; its output only matters when it fails."""
    env = dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, check=False)
    except OSError as e:
        raise ImageError(f"{command[0]}: {e.strerror}") from e
    if done.returncode:
        raise ImageError(f"{' '.join(command)}: {done.stdout.strip()}")


def populate(folder):
    """The test files, and one that is all hole."""
    for name, (length, constant) in FILES.items():
        write_pattern(folder / name, length, constant)
    with open(folder / "hole", "wb") as f:
        f.truncate(4 * MIB)


def make_xfs(path, folder):
    """mkfs.xfs takes files by a protofile."""
    proto = folder.parent / "proto"
    lines = ["/", "0 0", "d--755 0 0"]
    lines += [f"{f.name} ---644 0 0 {f}" for f in sorted(folder.iterdir())]
    proto.write_text("\n".join(lines + ["$", "$"]) + "\n")
    tool("mkfs.xfs", "-q", "-f", "-p", str(proto), str(path))


def make(kind, path):
    """Make one image under that name."""
    with open(path, "wb") as f:
        f.truncate(SIZES[kind] * MIB)
    if kind == "blank":
        return
    if kind.startswith("raw"):
        write_pattern(path, *RAW)
        return
    with tempfile.TemporaryDirectory(dir=path.parent) as work:
        folder = pathlib.Path(work) / "files"
        folder.mkdir()
        populate(folder)
        if kind == "xfs":
            make_xfs(path, folder)
        elif kind == "btrfs":
            tool("mkfs.btrfs", "-q", "-f", "--rootdir", str(folder), str(path))
        else:
            features = ["-O", "encrypt,verity,inline_data"] if kind == "ext4-odd" else []
            tool("mkfs.ext4", "-q", "-F", "-b", "4096", *features, "-E", "root_owner=0:0,lazy_itable_init=0",
                 "-d", str(folder), str(path))


def ensure(kind, folder):
    """The path of a pristine image of that kind in folder; made when missing."""
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()[:8]
    path = folder / f"{kind}-{key}.img"
    if not path.exists():
        new = folder / f"{kind}-{key}.{os.getpid()}.new"
        try:
            make(kind, new)
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)
    return path


def copy(kind, folder, to):
    """A private copy for one run. Holes stay holes."""
    source = ensure(kind, folder)
    if kind == "blank":
        make(kind, to)
        return
    cp = shutil.which("cp")
    tool(cp or "cp", "--sparse=always", "--reflink=auto", str(source), str(to))
