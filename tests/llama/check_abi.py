#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compare the backend's declarations of ggml with ggml's own headers, member by member.

check_abi.py RUNTIME_GGML LLAMA...: a C program is made of runtime/ggml's ggml_abi.h and
host.h for each llama.cpp's folder (as tests/llama/build.sh prints it) and compiled with
that one's headers. What differs is printed, one line a member, constant or function.
Exit status 1: something differs, or could not be compared.

Each struct is compared by the size of the whole, the offset and size of each member, and
the type of each pointer to a function; each function by its type. For that, the structs
that a declaration of ours names are taken for ggml's of that name.
"""
import os
import re
import subprocess
import sys
import tempfile

# Ours, and ggml's name of it.
STRUCTS = {
    "tensor": "ggml_tensor", "init_params": "ggml_init_params", "gguf_params": "gguf_init_params",
    "buffer_i": "ggml_backend_buffer_i", "buffer": "ggml_backend_buffer", "backend_i": "ggml_backend_i",
    "backend": "ggml_backend", "dev_caps": "ggml_backend_dev_caps", "dev_props": "ggml_backend_dev_props",
    "device_i": "ggml_backend_device_i", "device": "ggml_backend_device", "reg_i": "ggml_backend_reg_i",
    "reg": "ggml_backend_reg", "threadpool_params": "ggml_threadpool_params",
    "buffer_type_v2_i": "ggml_backend_buffer_type_i", "buffer_type_v3_i": "ggml_backend_buffer_type_i",
    "buffer_type_v2": "ggml_backend_buffer_type", "buffer_type_v3": "ggml_backend_buffer_type",
    "buffer_type": "ggml_backend_buffer_type", "cgraph": "ggml_cgraph", "context": "ggml_context",
    "event": "ggml_backend_event", "gguf": "gguf_context",
}
ENUMS = {"status": "ggml_status", "dev_type": "ggml_backend_dev_type", "type": "ggml_type", "gguf_type": "gguf_type"}
CONSTANTS = {
    "GG_MAX_DIMS": "GGML_MAX_DIMS", "GG_MAX_SRC": "GGML_MAX_SRC", "GG_MAX_OP_PARAMS": "GGML_MAX_OP_PARAMS",
    "GG_MAX_NAME": "GGML_MAX_NAME", "GG_MAX_N_THREADS": "GGML_MAX_N_THREADS",
    "GG_TENSOR_FLAG_COMPUTE": "GGML_TENSOR_FLAG_COMPUTE",
}
# Constants of enums: ours begin so, ggml's so.
PREFIXES = (("GG_STATUS_", "GGML_STATUS_"), ("GG_TYPE_", "GGML_TYPE_"), ("GG_GGUF_TYPE_", "GGUF_TYPE_"),
            ("GG_DEVICE_TYPE_", "GGML_BACKEND_DEVICE_TYPE_"))
# Declared as something else on purpose: guid is never looked into; the arguments of
# graph_optimize differ between versions, and it is left NULL. Size and place are compared.
OPAQUE = {("backend", "guid"), ("backend_i", "graph_optimize")}
# Came at the end of a struct, in what was padding; (version that has it first).
LATER = {("dev_caps", "mmap_support"): (0, 21)}
# Functions that take or return an enum of ggml's, of which ours only need the number.
NUMBERS = ((r"\bint op\b", "enum ggml_op op"), (r"\bint type\b", "enum ggml_type type"))


def without_comments(s):
    return re.sub(r"/\*.*?\*/", " ", s, flags=re.S)


def structs_of(header):
    """(name, [(member, whether a function)]) of each struct that is defined in the header"""
    for name, body in re.findall(r"^struct gg_(\w+) \{\n(.*?)^\};", header, re.S | re.M):
        members = []
        for declaration in body.split(";"):
            declaration = " ".join(declaration.split())
            if not declaration:
                continue
            function = re.match(r".*?\(\*(\w+)\)\s*\(", declaration)
            plain = re.search(r"(\w+)(\[[^]]*\])*$", declaration)
            members.append(((function or plain).group(1), bool(function)))
        yield name, members


def renamed(source):
    """Ours under other names where it is defined, ggml's where it is used."""
    source = re.sub(r"^(struct|enum) gg_(\w+) \{", r"\1 our_\2 {", source, flags=re.M)
    for ours, theirs in STRUCTS.items():
        source = re.sub(rf"\bstruct gg_{ours}\b", f"struct {theirs}", source)
    for ours, theirs in ENUMS.items():
        source = re.sub(rf"\benum gg_{ours}\b", f"enum {theirs}", source)
    return source


def program(folder, llama, version):
    with open(os.path.join(folder, "ggml_abi.h"), encoding="utf-8") as f:
        abi = without_comments(f.read())
    with open(os.path.join(folder, "host.h"), encoding="utf-8") as f:
        host = without_comments(f.read())
    with open(os.path.join(llama, "internal", "ggml-backend-impl.h"), encoding="utf-8") as f:
        api = int(re.search(r"GGML_BACKEND_API_VERSION\s+(\d+)", f.read()).group(1))
    out = ['#include <stdio.h>', '#include "ggml.h"', '#include "ggml-backend.h"', '#include "ggml-cpu.h"',
           '#include "gguf.h"', '#include "ggml-backend-impl.h"', renamed(abi), "static int bad, seen;",
           "#define SAY(...) do { bad++; printf(__VA_ARGS__); putchar('\\n'); } while (0)",
           "#define IS(what, a, b) do { seen++; if ((long long)(a) != (long long)(b)) "
           "SAY(what \": %lld, ggml has %lld\", (long long)(a), (long long)(b)); } while (0)",
           "#define SAME(what, a, b) do { seen++; if (!__builtin_types_compatible_p(a, b)) "
           "SAY(what \": another type\"); } while (0)", "int main(void)", "{"]
    problems = []
    for name, members in structs_of(abi):
        if "_v" in name and f"_v{api}" not in name:
            continue
        theirs = STRUCTS.get(name)
        if not theirs:
            problems.append(f"struct gg_{name}: not known to check_abi.py")
            continue
        present = [m for m in members if LATER.get((name, m[0]), (0, 0)) <= version]
        if present == members:
            out.append(f'IS("sizeof(struct gg_{name})", sizeof(struct our_{name}), sizeof(struct {theirs}));')
        for member, function in present:
            what = f"gg_{name}.{member}"
            a, b = f"((struct our_{name} *)0)->{member}", f"((struct {theirs} *)0)->{member}"
            out.append(f'IS("offset of {what}", offsetof(struct our_{name}, {member}), '
                       f"offsetof(struct {theirs}, {member}));")
            out.append(f'IS("size of {what}", sizeof({a}), sizeof({b}));')
            if function and (name, member) not in OPAQUE:
                out.append(f'SAME("{what}", __typeof__({a}), __typeof__({b}));')
    constants = dict(CONSTANTS)
    for constant in re.findall(r"\bGG_[A-Z0-9_]+\b", abi):
        for ours, theirs in PREFIXES:
            if constant.startswith(ours):
                constants[constant] = theirs + constant[len(ours):]
        if constant not in constants and constant not in ("GG_API_OLDEST", "GG_API_NEWEST"):
            problems.append(f"{constant}: not known to check_abi.py")
    for ours, theirs in constants.items():
        out.append(f'IS("{ours}", {ours}, {theirs});')
    functions = re.findall(r"X\(([^,]+), (\w+), (\(.*?\))\)(?: \\)?$", renamed(host), re.M)
    if len(functions) < 10:
        problems.append("host.h: no list of functions found")
    for result, name, arguments in functions:
        for number, enum in NUMBERS:
            arguments = re.sub(number, enum, arguments)
        if result == "int" and name.endswith("_type"):
            result = "enum gguf_type"
        out.append(f'{{ {result} (*ours){arguments} = 0; (void)ours; '
                   f'SAME("{name}()", __typeof__(ours), __typeof__(&{name})); }}')
    out.append('if (!bad) fprintf(stderr, "%d comparisons\\n", seen);\nreturn bad != 0;\n}')
    return out, problems


def run(lines, llama):
    """What the program says when it is compiled with the headers of llama."""
    with tempfile.TemporaryDirectory() as work:
        source, binary = os.path.join(work, "abi.c"), os.path.join(work, "abi")
        with open(source, "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")
        # It links with nothing: functions are named in __typeof__ only.
        done = subprocess.run([os.environ.get("CC", "gcc"), "-std=gnu11", "-w", "-I" + os.path.join(llama, "include"),
                               "-I" + os.path.join(llama, "internal"), "-o", binary, source],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "error" in line]
            return [re.sub(r"^.*?error: ", "", e) for e in errors] or [done.stderr.strip()]
        done = subprocess.run([binary], capture_output=True, text=True, check=False)
        sys.stderr.write(done.stderr)
        return done.stdout.splitlines()


def main():
    folder, llamas = sys.argv[1], sys.argv[2:]
    if not llamas:
        sys.exit(__doc__)
    bad = False
    for llama in llamas:
        with open(os.path.join(llama, "VERSION"), encoding="utf-8") as f:
            text = re.search(r"^ggml (\d+)\.(\d+)\.\d+", f.read(), re.M)
        version = (int(text.group(1)), int(text.group(2)))
        out, problems = program(folder, llama, version)
        problems += run(out, llama)
        for problem in problems:
            print(f"{text.group(0)}: {problem}")
        bad = bad or bool(problems)
    sys.exit(bad)


if __name__ == "__main__":
    main()
