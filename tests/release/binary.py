#!/usr/bin/env python3
"""The form of the binary that is shipped, read with readelf.

    binary.py BINARY [TEXT...]     no TEXT, such as a path of this machine, may be in it
"""

import os
import re
import subprocess
import sys

# Of the service; and of the approver's tool and the service over PostgreSQL, which have TLS.
BYTES_MAX, WITH_TLS_BYTES_MAX = 5 * 512 * 1024, {"openexec-approve": 4 << 20, "openexec-postgres": 6 << 20}


def readelf(option, path):
    command = ["readelf", "--wide", option, path]
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout.decode()


def faults(path, texts):
    header, segments = readelf("--file-header", path), readelf("--segments", path)
    dynamic, sections = readelf("--dynamic", path), readelf("--sections", path)
    loads = re.findall(r"^ +LOAD .* ([R ][W ][E ]) 0x", segments, re.MULTILINE)
    stack = re.search(r"^ +GNU_STACK .* ([R ][W ][E ]) 0x", segments, re.MULTILINE)
    with open(path, "rb") as file:
        content = file.read()
    most = WITH_TLS_BYTES_MAX.get(os.path.basename(path), BYTES_MAX)
    checks = [
        (len(content) <= most, f"{len(content)} bytes, more than {most}"),
        (re.search(r"Type: +DYN ", header), "at a fixed address"),
        (re.search(r"\(FLAGS_1\).*\bPIE\b", dynamic), "no position-independent executable"),
        ("INTERP" not in segments, "it has an interpreter"),
        ("(NEEDED)" not in dynamic, "it needs libraries"),
        ("GNU_RELRO" in segments, "no RELRO"),
        (re.search(r"\(FLAGS(_1)?\).*\b(BIND_)?NOW\b", dynamic), "RELRO is not full"),
        (stack and "E" not in stack[1], "the stack may be executed"),
        (loads and not any("W" in load and "E" in load for load in loads), "writable code"),
        (not re.search(r" \.(symtab|debug_\w+) ", sections), "not stripped"),
        *((text.encode() not in content, f"it holds {text!r}") for text in texts),
    ]
    return [fault for is_right, fault in checks if not is_right]


def main():
    path, texts = sys.argv[1], [text for text in sys.argv[2:] if text]
    found = faults(path, texts)
    if found:
        sys.exit(f"{path}: " + "; ".join(found))
    print(f"{path}: {os.path.getsize(path)} bytes, static-pie, full RELRO, no interpreter, no library")


if __name__ == "__main__":
    main()
