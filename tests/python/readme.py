#!/usr/bin/env python3
"""Runs what README.md shows, and holds docs/read_store.py to the stores that come of it.

usage: readme.py OPENEXEC      (needs bash, curl, jq, openssl, coreutils)

A session stands between `<!-- session: MODE [NAME=directory ...] -->` and `<!-- end of the session -->`:
a server of its own in a directory of its own, and one shell in which the lines of every ```console
block behind `$ ` (and `> `, where one goes on) are run. What a block prints must be printed; `…` stands
for what differs from run to run. In clawshield mode the tenant is acme, and alice.pem may approve.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from service import ready

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
READER = ROOT / "docs/read_store.py"
# Said only where the tests run as root.
AS_ROOT = '"root_warning":"OpenExec runs as root; give it a user of its own",'


def sessions():
    for found in re.finditer(r"<!-- session: (\w+)(.*?) -->(.*?)<!-- end of the session -->", README, re.S):
        yield found[1], found[2].split(), re.findall(r"^```console\n(.*?)^```$", found[3], re.S | re.M)


def commands(block):
    """(command, what it prints) of a block."""
    pairs = []
    for line in block.splitlines():
        if line.startswith("$ "):
            pairs.append(([line[2:]], []))
        elif line.startswith("> ") and not pairs[-1][1]:
            pairs[-1][0].append(line[2:])
        else:
            pairs[-1][1].append(line)
    return [("\n".join(command), "\n".join(output).strip()) for command, output in pairs]


def serve(binary, scratch, mode, settings):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPENEXEC_", "CLAWSHIELD_"))}
    for setting in settings:
        name, directory = setting.split("=")
        (scratch / directory).mkdir()
        environment[name] = directory
    environment["OPENEXEC_LISTEN"] = "127.0.0.1:0"
    if mode == "clawshield":
        key = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", "alice.pem"]
        subprocess.run(key, cwd=scratch, check=True)
        public = ["openssl", "pkey", "-in", "alice.pem", "-pubout"]
        environment["CLAWSHIELD_PUBLIC_KEY"] = subprocess.run(public, cwd=scratch, check=True, capture_output=True, text=True).stdout
        environment |= {"OPENEXEC_MODE": "clawshield", "CLAWSHIELD_TENANT_ID": "acme"}
        subprocess.run([binary, "init"], cwd=scratch, env=environment, check=True, stdout=subprocess.DEVNULL)
    server = subprocess.Popen([binary], cwd=scratch, env=environment, stderr=subprocess.DEVNULL)
    address = ready(server, scratch / "openexec-data/LOCK")
    return server, address.rpartition(":")[2]


def run(binary, scratch, port, pairs):
    """One shell for all of them, so that variables last."""
    (scratch / "bin").mkdir()
    (scratch / "bin/openexec").symlink_to(binary)
    path = f"{scratch}/bin:{os.environ['PATH']}"
    script = "".join(f"{command}\nprintf '\\n@@%s@@\\n' $?\n" for command, _ in pairs)
    script = script.replace("127.0.0.1:5000", f"127.0.0.1:{port}")
    shell = subprocess.run(["bash"], input=script, cwd=scratch, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=120)
    printed = re.split(r"\n@@(\d+)@@\n", shell.stdout)
    for number, (command, expected) in enumerate(pairs):
        output, status = printed[2 * number].replace("\r", "").replace(AS_ROOT, "").strip(), printed[2 * number + 1]
        pattern = ".*".join(map(re.escape, expected.split("…")))
        if status != "0" or not re.fullmatch(pattern, output):
            sys.exit(f"$ {command}\nprinted:\n{output}\n{shell.stderr}\nexit {status}; README has:\n{expected}")


def wait_for_seal(store):
    """What comes after the last batch that was answered, so that a change in that batch is no torn end."""
    deadline = time.monotonic() + 60
    while True:
        lines = (store / "00000001.jsonl").read_bytes().split()[-2:]
        if all(b'"kind":"commit"' in line for line in lines):
            return
        assert time.monotonic() < deadline, "no seal"
        time.sleep(0.05)


def audit(store):
    return subprocess.run([sys.executable, READER, store], capture_output=True, text=True, timeout=120)


def reader(binary, store, scratch):
    """The reader agrees with `openexec verify` on a store, and refuses what is changed in it."""
    read = audit(store)
    root = subprocess.run([binary, "verify", store], capture_output=True, text=True).stdout
    root = re.search(r"^root +(\w+)$", root, re.M)[1]
    assert read.returncode == 0 and read.stdout.strip().endswith(f"root {root}"), read
    segment = (store / "00000001.jsonl").read_bytes()
    text = len(segment.rstrip(b"\n"))
    copy = scratch / "changed"
    copy.mkdir()
    changes = {f"bit {at % 8} of byte {at}": (at, bytes([segment[at] ^ 1 << at % 8])) for at in range(0, text, max(1, text // 60))}
    changes |= {"a NUL at the end": (text - 1, b"\0"), "text behind the end": (text + 600, b"x")}
    for what, (at, instead) in changes.items():
        (copy / "00000001.jsonl").write_bytes(segment[:at] + instead + segment[at + 1 :])
        changed = audit(copy)
        assert changed.returncode == 1 and "Traceback" not in changed.stderr, (what, changed)
    sectors = [segment[at : at + 512] for at in range(0, text, 512)]
    for what, bytes_ in {
        "a segment cut short": segment[:-512],
        "the first sector twice": sectors[0] + segment[:-512],
        "a sector missing": segment[:512] + segment[1024:] + b"\n" * 512,
        "two sectors swapped": sectors[1] + sectors[0] + segment[1024:],
    }.items():
        (copy / "00000001.jsonl").write_bytes(bytes_)
        changed = audit(copy)
        assert changed.returncode == 1 and "Traceback" not in changed.stderr, (what, changed)
    return len(changes) + 4


def main():
    binary = os.path.abspath(sys.argv[1])
    ran = changed = 0
    for mode, settings, blocks in sessions():
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            (scratch / "examples").symlink_to(ROOT / "examples")
            server, port = serve(binary, scratch, mode, settings)
            try:
                pairs = [pair for block in blocks for pair in commands(block)]
                run(binary, scratch, port, pairs)
                ran += len(pairs)
                assert audit(scratch / "openexec-data").returncode == 0, "beside a live server"
                wait_for_seal(scratch / "openexec-data")
            finally:
                server.kill()
                server.wait()
            changed += reader(binary, scratch / "openexec-data", scratch)
    assert ran >= 22, "README has lost its sessions"
    print(f"{ran} commands of README.md print what it shows; read_store.py refused {changed} changed stores")


if __name__ == "__main__":
    main()
