#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What uapi/linux/penstock.h says, for documents and lint.

    uapi_header.py rst        print Documentation/uapi.rst
    uapi_header.py const      print tests/fuzz/syzkaller/dev_penstock.txt.const
    uapi_header.py layout     what driver/uapi_layout.h lacks or has too much; nothing when good
    uapi_header.py syzkaller  the same of tests/fuzz/syzkaller/dev_penstock.txt
    uapi_header.py comments   what the header's own comments lack
"""
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[1]
HEADER = TOP / "uapi/linux/penstock.h"
LAYOUT = TOP / "driver/uapi_layout.h"
SYZKALLER = TOP / "tests/fuzz/syzkaller/dev_penstock.txt"
CTYPES = {"__u32": ("u32", 4), "__s32": ("s32", 4), "__s64": ("s64", 8), "__aligned_u64": ("u64", 8)}


class Field:
    """One member: its C type, its name, how many of them (0: no array)."""

    def __init__(self, ctype, name, count):
        self.ctype, self.name, self.count = ctype, name, int(count or 0)
        if ctype not in CTYPES:
            raise SystemExit(f"{HEADER}: {name} is of type {ctype}, which has not the same size everywhere")
        self.bytes = CTYPES[ctype][1] * (self.count or 1)

    def shown(self):
        """Its type, for people."""
        return CTYPES[self.ctype][0] + (f"[{self.count}]" if self.count else "")


class Comment:
    """A kernel-doc comment: title, what is said of members, paragraphs."""

    def __init__(self, raw):
        lines = [re.sub(r"^ \*( |$)", "", line) for line in raw.strip("\n").split("\n")]
        self.title, self.members, self.body = lines[0], {}, []
        name = None
        for line in lines[1:]:
            member = re.match(r"@(\w+): (.*)", line)
            if member:
                name = member.group(1)
                self.members[name] = member.group(2)
            elif name and line.strip() and line[0].isspace():
                self.members[name] += " " + line.strip()
            else:
                name = None
                self.body.append(line)

    def text(self):
        """The paragraphs as reStructuredText."""
        return "\n".join(self.body).strip("\n")


class Header:
    """All of it, in order."""

    def __init__(self):
        text = HEADER.read_text(encoding="utf-8")
        self.docs, self.comments = {}, {}
        for raw in re.findall(r"/\*\*\n(.*?)\n \*/", text, re.S):
            comment = Comment(raw)
            kind, _, rest = comment.title.partition(" ")
            if kind == "DOC:":
                self.docs[rest] = comment
            elif kind == "struct":
                self.comments[rest.split(" ")[0]] = comment
        self.structs = {}
        for name, body in re.findall(r"^struct (\w+) \{\n(.*?)^\};", text, re.S | re.M):
            self.structs[name] = [Field(*f) for f in re.findall(r"^\t(\w+) (\w+)(?:\[(\d+)\])?;", body, re.M)]
            if len(self.structs[name]) != body.count(";"):
                raise SystemExit(f"{HEADER}: not all members of {name} are understood")
        # (name, value, comment), in groups that a comment or an empty line parts
        self.groups, group = [], None
        for line in re.sub(r"/\*\*\n.*?\n \*/", "", text, flags=re.S).split("\n"):
            define = re.match(r"#define (PENSTOCK_\w+)\s+(.+?)(?:\s*/\* (.*?) \*/)?$", line)
            heading = re.match(r"/\* (.*) \*/$", line)
            if define and group is not None:
                group[1].append(define.groups(""))
            elif heading or not line.strip():
                group = [heading.group(1) if heading else "", []]
                self.groups.append(group)
            elif define:
                self.groups.append(["", [define.groups("")]])
        self.groups = [g for g in self.groups if g[1]]
        self.defines = {d[0]: d for g in self.groups for d in g[1]}
        self.ioctls = sorted((n for n in self.defines if n.startswith("PENSTOCK_IOC_") and n != "PENSTOCK_IOC_TYPE"),
                             key=lambda n: self.defines[n][1])

    def struct_of(self, ioctl):
        """PENSTOCK_IOC_REGION_PIN -> penstock_region_pin."""
        return "penstock_" + ioctl[len("PENSTOCK_IOC_"):].lower()


def literal(text):
    """Names of the ABI and of members, set as such."""
    text = re.sub(r"(?<![`\w])(PENSTOCK_[A-Z0-9_]+\*?|IORING_[A-Z0-9_]+|O_[A-Z]+|EPOLLIN|RLIMIT_MEMLOCK)(?![\w`])", r"``\1``", text)
    return re.sub(r"@(\w+)", r"``\1``", text).replace("out_* ", "``out_*`` ")


def heading(title, mark):
    """A title with its line below."""
    return [title, mark * len(title), ""]


def table(header, widths, rows):
    """A list-table: no column can be too narrow."""
    out = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in [header] + rows:
        out += [("   * - " if i == 0 else "     - ") + (cell or "..") for i, cell in enumerate(row)]
    return [line.replace("- ..", "-").rstrip() for line in out] + [""]


def members(header, name):
    """The table of a struct's members."""
    rows = []
    for field in header.structs[name]:
        rows.append([f"``{field.name}``", field.shown(), literal(header.comments[name].members.get(field.name, ""))])
    return table(["field", "type", "what"], "25 10 65", rows)


def constants(group):
    """The table of a group of values."""
    return table(["name", "value", "what"], "45 20 35",
                 [[f"``{n}``", f"``{v}``" if not v.isdigit() else v, literal(c)] for n, v, c in group[1]])


def rst(header):
    """The page."""
    out = [".. SPDX-License-Identifier: MIT", "..",
           "   Made from uapi/linux/penstock.h by tests/uapi_header.py (make uapi-doc): do not edit.", ""]
    out += heading("The ABI of /dev/penstock", "=")
    out += ["``uapi/linux/penstock.h`` is the contract; this page is made from its comments.", ""]
    out += heading("General rules", "-") + [literal(header.docs["General rules"].text()), ""]
    out += heading("Commands", "-")
    for ioctl in header.ioctls:
        name = header.struct_of(ioctl)
        out += heading(ioctl, "~")
        out += [f"Number ``{header.defines[ioctl][1]}``, argument ``struct {name}``.", ""]
        out += members(header, name)
        text = literal(header.comments[name].text())
        out += [text, ""] if text else []
    out += heading("Commands of io_uring, events, parts of commands", "-")
    for name in header.structs:
        if name not in [header.struct_of(i) for i in header.ioctls]:
            out += heading(f"struct {name}", "~")
            out += [literal(header.comments[name].title.partition(" - ")[2][:1].upper() +
                            header.comments[name].title.partition(" - ")[2][1:]) + ".", ""]
            out += members(header, name)
            text = literal(header.comments[name].text())
            out += [text, ""] if text else []
    out += heading("Values", "-")
    for group in header.groups:
        first = group[1][0][0]
        if first in header.ioctls or first.startswith("PENSTOCK_REASON_") or first == "PENSTOCK_IOC_TYPE":
            continue
        if group[0]:
            out += [literal(group[0][:1].upper() + group[0][1:] if not group[0].startswith("struct") else group[0]) + ":", ""]
        out += constants(group)
    out += heading("Reasons", "-") + [literal(header.docs["Reasons"].text()), ""]
    out += table(["name", "value"], "70 30", [[f"``{n}``", v] for n, (_, v, _) in header.defines.items()
                                             if n.startswith("PENSTOCK_REASON_")])
    return "\n".join(out).rstrip("\n") + "\n"


def check_layout(header):
    """Each struct and member is in the list, in order, and nothing else."""
    text = LAYOUT.read_text(encoding="utf-8")
    got = re.findall(r"\t(STRUCT|FIELD)\((\w+), (\w+)", text)
    want = []
    for name, fields in header.structs.items():
        want.append(("STRUCT", name, None))
        want += [("FIELD", name, f.name) for f in fields]
    got = [(k, s, f if k == "FIELD" else None) for k, s, f in got]
    for entry in want:
        if entry not in got:
            yield f"{LAYOUT.name}: no {entry[0]} {entry[1]} {entry[2] or ''}"
    for entry in got:
        if entry not in want:
            yield f"{LAYOUT.name}: {entry[1]} {entry[2] or ''} is not in the header"
    if not set(want) ^ set(got) and want != got:
        yield f"{LAYOUT.name}: not in the header's order"


def check_comments(header):
    """Each struct and member is explained; ioctls and their structs name each other; reasons are all explained."""
    for name, fields in header.structs.items():
        comment = header.comments.get(name)
        if not comment:
            yield f"struct {name} has no comment"
            continue
        for field in fields:
            if field.name not in comment.members:
                yield f"struct {name}: nothing about {field.name}"
    for ioctl in header.ioctls:
        name = header.struct_of(ioctl)
        if name not in header.structs:
            yield f"{ioctl}: no struct {name}"
        elif f"ioctl({ioctl})" not in header.comments[name].title:
            yield f"struct {name} does not say that it is {ioctl}'s"
        elif header.structs[name][0].name != "size" or header.structs[name][0].ctype != "__u32":
            yield f"struct {name} does not begin with __u32 size"
    numbers = [header.defines[i][1] for i in header.ioctls]
    for number in {n for n in numbers if numbers.count(n) > 1}:
        yield f"two commands have number {number}"
    reasons = {n: d for n, d in header.defines.items() if n.startswith("PENSTOCK_REASON_") and n != "PENSTOCK_REASON_NONE"}
    for name in reasons:
        if not re.search(rf"\b{name}\b", header.docs["Reasons"].text()):
            yield f"{name} is not explained"
    values = [d[1] for d in reasons.values()]
    for value in {v for v in values if values.count(v) > 1}:
        yield f"two reasons have value {value}"


def syz_structs(text):
    """name -> [(field, type)]."""
    found = {}
    for name, body in re.findall(r"^(\w+) \{\n(.*?)^\}", text, re.S | re.M):
        found[name] = [tuple(line.split("\t", 1)) for line in
                       (line.strip("\t") for line in body.splitlines()) if line and not line.startswith("#")]
    return found


def syz_bytes(kind, structs):
    """Bytes of a type of the description; None where it does not say."""
    kind = kind.strip().removesuffix("(out)").strip()
    array = re.match(r"array\[(.*), (\d+)\]$", kind)
    if array:
        one = syz_bytes(array.group(1), structs)
        return None if one is None else one * int(array.group(2))
    if re.match(r"(ptr64|vma64)\b", kind) or kind == "penstock_mmap_offset":
        return 8
    if re.match(r"(fd(_\w+)?|penstock_\w+_id)(\[opt\])?$", kind):
        return 4
    if kind in structs:
        return sum(syz_bytes(k, structs) for _, k in structs[kind])
    bits = re.search(r"\bint(8|16|32|64)\b", kind)
    return int(bits.group(1)) // 8 if bits else None


def check_syzkaller(header):
    """Each command, struct, member (in order, of its size), flag."""
    text = SYZKALLER.read_text(encoding="utf-8")
    code = re.sub(r"#.*", "", text)
    structs = syz_structs(text)
    for ioctl in header.ioctls:
        if not re.search(rf"^ioctl\${ioctl}\(fd fd_penstock, cmd const\[{ioctl}\], arg ptr\[(in|inout), "
                         rf"{header.struct_of(ioctl)}\]\)$", code, re.M):
            yield f"no ioctl${ioctl}"
    for name, fields in header.structs.items():
        want, got = [f.name for f in fields], [f for f, _ in structs.get(name, [])]
        if want != got:
            yield f"{name}: has {' '.join(got) or 'nothing'}, not {' '.join(want)}"
            continue
        for field, (_, kind) in zip(fields, structs[name]):
            if syz_bytes(kind, structs) != field.bytes:
                yield f"{name}.{field.name}: {kind} has not {field.bytes} bytes"
            if field.name.startswith("out_") != kind.endswith("(out)"):
                yield f"{name}.{field.name}: {kind} has the wrong direction"
    size = syz_bytes("penstock_sqe", structs)
    if size != 128:
        yield f"penstock_sqe has {size} bytes, not 128"
    # What a caller may pass; what only the kernel reports needs no name.
    for name in header.defines:
        given = re.match(r"PENSTOCK_(URING_CMD|PIN_F|REGION_PEER_F|REGION_FREE_F)_|PENSTOCK_PEER_(BAR|NVIDIA|DMABUF)$", name)
        if given and not re.search(rf"\b{name}\b", code):
            yield f"{name} is not used"


def const(header):
    """Values of all names that the description uses, as the compiler sees them."""
    code = re.sub(r"#.*", "", SYZKALLER.read_text(encoding="utf-8"))
    names = sorted(set(re.findall(r"\b(?:PENSTOCK|IORING|O|AT)_[A-Z0-9_]+\b", code)) - {"PENSTOCK"})
    calls = sorted(set(re.findall(r"^(\w+)\$\w+\(", code, re.M)))
    calls = [f"__NR_{c}" for c in calls if not c.startswith("syz_")]
    program = "#define _GNU_SOURCE\n#include <fcntl.h>\n#include <stdio.h>\n#include <sys/syscall.h>\n" \
              "#include <linux/io_uring.h>\n#include <linux/penstock.h>\nint main(void)\n{\n" + \
              "".join(f'\tprintf("{n} = %llu\\n", (unsigned long long)({n}));\n' for n in names + calls) + "\treturn 0;\n}\n"
    del header
    here = pathlib.Path(subprocess.run(["mktemp", "-d"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip())
    try:
        (here / "const.c").write_text(program, encoding="utf-8")
        subprocess.run(["gcc", "-I", str(TOP / "uapi"), "-o", str(here / "const"), str(here / "const.c")], check=True)
        values = subprocess.run([str(here / "const")], stdout=subprocess.PIPE, text=True, check=True).stdout
    finally:
        subprocess.run(["rm", "-rf", str(here)], check=True)
    return "# SPDX-License-Identifier: MIT\n# Made by tests/uapi_header.py const (make uapi-doc): do not edit.\narches = amd64\n" + values


def main():
    """Do what the argument says."""
    header = Header()
    what = sys.argv[1] if len(sys.argv) == 2 else ""
    if what in ("rst", "const"):
        sys.stdout.write({"rst": rst, "const": const}[what](header))
    elif what in ("layout", "syzkaller", "comments"):
        for line in {"layout": check_layout, "syzkaller": check_syzkaller, "comments": check_comments}[what](header):
            print(line)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
