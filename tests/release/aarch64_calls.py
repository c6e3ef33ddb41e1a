#!/usr/bin/env python3
"""The system calls of a service on aarch64, as qemu wrote them down, held to seccomp.json.

usage: aarch64_calls.py DIRECTORY      of files of `qemu-aarch64 -strace`
"""

import collections
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Asked for on x86_64 too, denied there by the profile, and gone on without; tests/container runs so.
DENIED = {
    "brk": "the allocator maps memory instead",
    "getcwd": "a relative path stays one; the image's are absolute",
    "gettid": "the number of a thread is for a message alone",
    "lseek": "a file is read without knowing how long it is",
    "sched_getaffinity": "`verify` counts the processors otherwise, or works on one",
    "sigaltstack": "a stack that overflows ends the process without a sentence",
    "madvise": "memory is given back later",
}
# Rules of the profile about arguments, as qemu spells them.
ARGUMENTS = {
    "clone": lambda said: "CLONE_THREAD" in said and "CLONE_NEW" not in said and "CLONE_UNTRACED" not in said,
    "mmap": lambda said: "PROT_EXEC" not in said,
    "mprotect": lambda said: "PROT_EXEC" not in said,
    "prctl": lambda said: said.startswith("15,"),
    "socket": lambda said: re.match(r"(PF_UNIX|PF_INET|PF_INET6|1|2|10),", said),
    # The terminal's width is asked for, denied, and gone on without.
    "ioctl": lambda said: re.match(r"\d+,(FIONBIO|TIOCGWINSZ),", said),
}
# Where x86_64 has two, aarch64 has the second alone: what the profile names for it must have been asked for.
OF_AARCH64 = ("fchmodat", "mkdirat", "newfstatat", "openat", "ppoll", "readlinkat", "renameat", "unlinkat")


def judge(lines, allowed):
    """How often each call was made, and what the profile has no rule for."""
    seen, faults = collections.Counter(), set()
    for line in lines:
        # Threads may write into one line: what stands first in it is whole up to the next bracket.
        call = re.match(r"\d+ (\w+)\(([^()]*)\)", line)
        if call is None:
            if re.match(r"\d+ Unknown", line):
                faults.add(line.strip())
            continue
        name, said = call.groups()
        seen[name] += 1
        if name not in allowed and name not in DENIED:
            faults.add(f"{name} is not in the profile: {line.strip()[:120]}")
        elif name in ARGUMENTS and not ARGUMENTS[name](said):
            faults.add(f"the profile does not allow {name}({said})")
    return seen, faults


def main():
    profile = json.loads((ROOT / "seccomp.json").read_text())
    assert "SCMP_ARCH_AARCH64" in profile["architectures"]
    allowed = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    assert not allowed & set(DENIED), "the profile has changed"
    # It can fail.
    for line in ("7 ptrace(0,0) = 0", "7 socket(PF_NETLINK,1,0) = 3", "7 mmap(NULL,1,PROT_READ|PROT_EXEC,2) = 1",
                 "7 clone(CLONE_VM|SIGCHLD) = 8", "7 prctl(4,0) = 0", "7 Unknown syscall 500"):
        assert judge([line], allowed)[1], line
    seen, faults = collections.Counter(), set()
    files = list(pathlib.Path(sys.argv[1]).iterdir())
    for file in files:
        with open(file, encoding="utf-8", errors="replace") as lines:
            more, wrong = judge(lines, allowed)
        seen += more
        faults |= wrong
    lacking = [name for name in OF_AARCH64 if not seen[name]]
    if faults or lacking:
        sys.exit("\n".join([*sorted(faults), *(f"nothing asked for {name}" for name in lacking)]))
    print(f"{len(files)} processes, {sum(seen.values())} system calls of {len(seen)} kinds: the profile has a rule for each, "
          f"or denies it as on x86_64 ({', '.join(sorted(set(DENIED) & set(seen)))})")
    print(f"allowed, and not asked for: {', '.join(sorted(allowed - set(seen)))}")


if __name__ == "__main__":
    main()
