#!/usr/bin/env python3
"""`openexec backup` ended at each system call that changes or syncs anything, and each of them gone wrong: what is
there then is a whole copy, or passes for no store; what went wrong leaves nothing.

    backup.py BINARY
"""

import os
import re
import shutil
import subprocess
import sys

import common
from common import INPUT_OUTPUT, PATIENCE_S, Report, Server, expect, is_sealed, need, scratch, until

CHANGING = ("/^mkdir", "/^open", "write", "fsync", "/^rename")
KILL, ERRORS = "signal=KILL", ("error=ENOSPC", "error=EIO")
# Of its kind; no chain is longer.
CALLS_MAX = 120
KILLED = -9


def openexec(binary, base, *arguments, prefix=()):
    own = {"PATH": os.environ["PATH"], "OPENEXEC_DB_URL": f"file:{base}/store"}
    command = [*prefix, binary, *arguments]
    return subprocess.run(command, cwd=base, env=own, capture_output=True, text=True, timeout=PATIENCE_S)


def root_of(binary, base, directory):
    """The root that `verify` finds; None where the directory passes for no store."""
    verified = openexec(binary, base, "verify", directory)
    found = re.search(r"^root +(\w+)$", verified.stdout, re.M)
    expect((verified.returncode == 0) == bool(found), verified)
    return found and found[1]


def faulted(binary, base, syscall, action, count, root):
    """One run; whether it met the fault."""
    log = os.path.join(base, "trace")
    prefix = ("strace", "-f", "-qqq", "-o", log, "-e", f"trace={syscall}", "-e", f"inject={syscall}:{action}:when={count}")
    ended = openexec(binary, base, "backup", "copy", prefix=prefix)
    was_killed = ended.returncode in (KILLED, 128 + 9)
    with open(log) as trace:
        met = was_killed or "(INJECTED)" in trace.read()
    left = [name for name in os.listdir(base) if name.startswith(".copy.")]
    is_there = os.path.exists(os.path.join(base, "copy"))
    expect(met or ended.returncode == 0, ended)
    for name in [*left, *["copy"] * is_there]:
        found = root_of(binary, base, name)
        expect(found in (None, root), f"{name} is another store: {found}")
        expect(name != "copy" or found == root, "it has its name and is not whole")
        if found:
            expect(os.path.exists(os.path.join(base, name, "FROZEN")), f"{name} is not frozen")
        shutil.rmtree(os.path.join(base, name))
    if met and not was_killed:
        # A file that cannot be opened may be one that nobody needs.
        expect(ended.returncode in (INPUT_OUTPUT, 0) or syscall == "/^open", ended)
        expect(not left, f"{left} is left")
        expect(is_there or ended.returncode, "it says that it made what is not there")
    return met


def chain(binary, base, syscall, action, root, report):
    """A fault at the first, second, third ... call, until a run ends without meeting it."""
    for count in range(1, CALLS_MAX):
        name = f"{syscall} {count} {action}"
        met = report.case(name, faulted, binary, base, syscall, action, count, root)
        if met is None or not met:
            expect(count > 1 or met is None, f"{syscall} is never called")
            return
    raise AssertionError(f"{syscall}: a chain of over {CALLS_MAX}")


def main():
    binary = os.path.abspath(sys.argv[1])
    need("strace", "mount", "unshare")
    common.own_mounts()
    base = scratch()
    report = Report()
    try:
        server = Server(binary, base).must_be_ready()
        expect(server.execute("echo", {"n": 1}, "first").status == 200, "no execution")
        segment = os.path.join(base, "store/00000001.jsonl")
        until("a seal", lambda: is_sealed(segment), server)
        server.kill()
        # A copy could not be moved over it once it is whole.
        os.mkdir(os.path.join(base, "mounted"))
        subprocess.run(["mount", "-t", "tmpfs", "none", os.path.join(base, "mounted")], check=True)
        refused = openexec(binary, base, "backup", "mounted")
        expect(refused.returncode == INPUT_OUTPUT and "it is mounted" in refused.stderr, refused)
        expect(openexec(binary, base, "backup", "mounted/copy").returncode == 0, "no copy in it")
        subprocess.run(["umount", os.path.join(base, "mounted")], check=True)
        root = root_of(binary, base, "store")
        for syscall in CHANGING:
            for action in (KILL, *ERRORS):
                chain(binary, base, syscall, action, root, report)
    finally:
        shutil.rmtree(base)
    report.end()


if __name__ == "__main__":
    main()
