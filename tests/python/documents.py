#!/usr/bin/env python3
"""Runs what the pages show, and holds docs/read_store.py to the stores that come of it.

usage: documents.py OPENEXEC [PAGE.md ...]      (needs bash, curl, jq, openssl, coreutils, ssh-keygen, a C compiler, libssl-dev)

A session stands between `<!-- session: MODE [NAME=directory ...] -->` and `<!-- end of the session -->`.
It gets a directory of its own and one shell, which runs every ```sh block of it as it is printed. A
```text block right behind a ```sh block is what that block prints; `…` stands for what differs from
run to run. In the modes `demo` and `clawshield` a server runs beside it (tenant acme, and alice.pem may
approve); in the mode `none` the page starts its own. The one thing that a person adds, the answer to
`openexec-approve`, is here `--yes`; where that program is, OPENEXEC_APPROVE says.
"""
import base64
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

from service import ready

ROOT = pathlib.Path(__file__).resolve().parents[2]
READER = ROOT / "docs/read_store.py"
# Said only where the tests run as root.
AS_ROOT = '"root_warning":"OpenExec runs as root; give it a user of its own",'
APPROVE = os.environ.get("OPENEXEC_APPROVE", ROOT / "approver/target/debug/openexec-approve")
WRAPPERS = {
    "openexec": '#!/bin/sh\nexec "{0}" "$@"\n',
    # Where one command goes through all that wait, each is answered at a terminal.
    "openexec-approve": '#!/bin/sh\n[ "$1" = approve ] && exec {python} {answer} "{1}" "$@" </dev/null\nexec "{1}" "$@" --yes\n',
}


def pages():
    """Every page of the repository, as git knows them."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True)
    return listed.stdout.split()


def sessions(page):
    for found in re.finditer(r"<!-- session: (\w+)(.*?) -->(.*?)<!-- end of the session -->", (ROOT / page).read_text(), re.S):
        yield found[1], found[2].split(), list(blocks(found[3]))


def blocks(text):
    """(commands, what they print) of each ```sh block; None where the page shows no output."""
    for found in re.finditer(r"(^<!-- not run: [^\n]*-->\n\n)?^```sh\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", text, re.S | re.M):
        if not found[1]:
            yield found[2], found[3] and found[3].strip()


def environment():
    return {name: value for name, value in os.environ.items() if not name.startswith(("OPENEXEC_", "CLAWSHIELD_"))}


def serve(binary, scratch, mode, settings):
    own = environment()
    for setting in settings:
        name, directory = setting.split("=")
        (scratch / directory).mkdir()
        own[name] = directory
    own["OPENEXEC_LISTEN"] = "127.0.0.1:0"
    if mode == "clawshield":
        key = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", "alice.pem"]
        subprocess.run(key, cwd=scratch, check=True)
        public = ["openssl", "pkey", "-in", "alice.pem", "-pubout"]
        own["CLAWSHIELD_PUBLIC_KEY"] = subprocess.run(public, cwd=scratch, check=True, capture_output=True, text=True).stdout
        own |= {"OPENEXEC_MODE": "clawshield", "CLAWSHIELD_TENANT_ID": "acme"}
        subprocess.run([binary, "init"], cwd=scratch, env=own, check=True, stdout=subprocess.DEVNULL)
    server = subprocess.Popen([binary], cwd=scratch, env=own, stderr=subprocess.DEVNULL)
    address = ready(server, scratch / "openexec-data/LOCK")
    return server, address.rpartition(":")[2]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run(binary, scratch, port, shown):
    """One shell for all of them, so that variables last; the first command that fails ends it."""
    (scratch / "bin").mkdir()
    for name, wrapper in WRAPPERS.items():
        (scratch / "bin" / name).write_text(wrapper.format(binary, os.path.abspath(APPROVE), python=sys.executable, answer=ROOT / "tests/python/answer.py"))
        (scratch / "bin" / name).chmod(0o755)
    own = environment() | {"PATH": f"{scratch}/bin:{os.environ['PATH']}", "OPENEXEC_LISTEN": f"127.0.0.1:{port}", "OPENEXEC_LOG": "off"}
    own["SSH_SK_PROVIDER"] = str(token(scratch))
    script = "set -e\n" + "".join(f"{commands}\nprintf '\\n@@ended@@\\n'\n" for commands, _ in shown)
    script = script.replace("127.0.0.1:5000", f"127.0.0.1:{port}")
    # In files: what the page leaves running would keep a pipe open.
    with open(scratch / ".printed", "w+") as printed, open(scratch / ".said", "w+") as said:
        shell = subprocess.Popen(["bash"], stdin=subprocess.PIPE, cwd=scratch, env=own, stdout=printed, stderr=said, text=True, start_new_session=True)
        try:
            shell.communicate(script, timeout=120)
        finally:
            os.killpg(shell.pid, signal.SIGKILL) if running(shell.pid) else None
        printed.seek(0)
        said.seek(0)
        outputs, complaint = printed.read().split("\n@@ended@@\n"), said.read()
    for number, (commands, expected) in enumerate(shown):
        output = outputs[number].replace("\r", "").replace(AS_ROOT, "").strip()
        pattern = ".*".join(map(re.escape, (expected or "").split("…")))
        if number + 1 >= len(outputs) or (expected is not None and not re.fullmatch(pattern, output)):
            sys.exit(f"{commands}\nprinted:\n{output}\n{complaint}\nexit {shell.returncode}; the page has:\n{expected}")


def token(scratch):
    """A security key in software, for the pages that use one."""
    command = ["cc", "-shared", "-fPIC", "-o", scratch / ".token.so", ROOT / "tests/token/token.c", "-lcrypto"]
    subprocess.run(command, check=True)
    return scratch / ".token.so"


def running(group):
    try:
        os.killpg(group, 0)
        return True
    except ProcessLookupError:
        return False


def wait_for_seal(store):
    """What comes after the last batch that was answered, so that a change in that batch is no torn end."""
    deadline = time.monotonic() + 60
    while True:
        lines = (store / "00000001.jsonl").read_bytes().split()[-2:]
        if all(b'"kind":"commit"' in line for line in lines):
            return
        assert time.monotonic() < deadline, "no seal"
        time.sleep(0.05)


def audit(store, *checkpoint):
    return subprocess.run([sys.executable, READER, store, *checkpoint], capture_output=True, text=True, timeout=120)


def checkpoints(binary, store, scratch):
    """The reader finds the records of each checkpoint that the store once had, and of no other."""
    newest = subprocess.run([binary, "checkpoint", store], capture_output=True, check=True).stdout.decode()
    name, last, root, *_ = newest.split("\n")
    lines = (json.loads(line) for line in (store / "00000001.jsonl").read_bytes().split(b"\n") if b'"kind":"commit"' in line)
    past = {line["size"]: base64.b64encode(bytes.fromhex(line["root"])).decode() for line in lines}
    assert past[int(last)] == root and len(past) > 1, (past, newest)
    other = base64.b64encode(bytes(32)).decode()
    cases = [(f"{name}\n{size}\n{then}\n", 0, f"the {size} records") for size, then in past.items()]
    cases += [
        (f"{newest}\n\u2014 {name} c2lnbmVk\n", 0, f"the {last} records"), (f"{name}\n{last}\n{other}\n", 1, "not those"),
        (f"{name}\n{int(last) - 1}\n{root}\n", 1, "not those"), (f"{name}\n{int(last) + 1}\n{root}\n", 1, "1 fewer than"),
        (f"openexec/{'0' * 32}\n{last}\n{root}\n", 1, "of another store"),
        (f"{name}\n0{last}\n{root}\n", 1, "no checkpoint"), (f"{name}\n{last}\n{root[:-2]}\n", 1, "no checkpoint"), ("", 1, "no checkpoint"),
    ]
    for text, status, word in cases:
        (scratch / "kept").write_text(text)
        read = audit(store, scratch / "kept")
        said = read.stderr if status else read.stdout
        assert read.returncode == status and word in said and "Traceback" not in read.stderr, (text, read)
    # What is given is held to, empty as it may be; and a line ends where every other program ends it.
    for given in ("", "\r"):
        (scratch / "\r").write_text(f"{name}\r{last}\r{root}\r\n{int(last) + 1}\n{other}\n", newline="")
        read = audit(store, given and scratch / given)
        assert read.returncode == 1 and "Traceback" not in read.stderr, (given, read)
    read = audit(store, scratch / "nothing there")
    assert read.returncode == 1 and "No such file" in read.stderr and "Traceback" not in read.stderr, read


def reader(binary, store, scratch):
    """The reader agrees with `openexec verify` on a store, and refuses what is changed in it."""
    read = audit(store)
    root = subprocess.run([binary, "verify", store], capture_output=True, text=True).stdout
    root = re.search(r"^root +(\w+)$", root, re.M)[1]
    assert read.returncode == 0 and read.stdout.strip().endswith(f"root {root}"), read
    checkpoints(binary, store, scratch)
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


def session(binary, scratch, mode, settings, shown):
    """How many changed stores the reader has refused."""
    (scratch / "examples").symlink_to(ROOT / "examples")
    if mode == "none":
        run(binary, scratch, free_port(), shown)
        return 0
    server, port = serve(binary, scratch, mode, settings)
    try:
        run(binary, scratch, port, shown)
        assert audit(scratch / "openexec-data").returncode == 0, "beside a live server"
        wait_for_seal(scratch / "openexec-data")
    finally:
        server.kill()
        server.wait()
    # Where the page executes nothing, there is too little to change.
    executed = b'"kind":"receipt"' in (scratch / "openexec-data/00000001.jsonl").read_bytes()
    return reader(binary, scratch / "openexec-data", scratch) if executed else 0


def counted(text):
    """How many commands stand in the ```sh blocks of a text; one that goes on over lines is one."""
    lines = [line for block in re.findall(r"^```sh\n(.*?)^```$", text, re.S | re.M) for line in block.splitlines()]
    return sum(not line.startswith(" ") and not before.endswith(("\\", "|")) for before, line in zip(["", *lines], lines))


def commands_are_as_many_as_said():
    """The table of docs/approvals.md: commands once, and commands for a decision, of each of three people."""
    page = (ROOT / "docs/approvals.md").read_text()
    said = [tuple(map(int, numbers)) for numbers in re.findall(r"\| (\d+) commands? \| (\d+) commands? \|$", page, re.M)]
    sections = dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^##)", page, re.S | re.M))
    lead, security, paper = re.findall(r"^```sh\n.*?^```$", sections["Each makes a key"], re.S | re.M)
    on_the_page, in_a_terminal, on_paper = (
        counted(next(text for title, text in sections.items() if title.startswith(begins)))
        for begins in ("As a team lead", "As a security engineer", "With paper tools"))
    there = [(counted(lead) + on_the_page, 0), (counted(security), in_a_terminal), (counted(paper), on_paper)]
    assert said == there and in_a_terminal == 1, (said, there)


def main():
    commands_are_as_many_as_said()
    binary = os.path.abspath(sys.argv[1])
    ran = changed = 0
    for page in sys.argv[2:] or pages():
        for mode, settings, shown in sessions(page):
            with tempfile.TemporaryDirectory() as scratch:
                changed += session(binary, pathlib.Path(scratch), mode, settings, shown)
            ran += len(shown)
            print(f"ok: {page}: {len(shown)} blocks", flush=True)
    assert sys.argv[2:] or (ran >= 15 and changed), "the pages have lost their sessions"
    print(f"{ran} blocks of the pages print what is shown; read_store.py refused {changed} changed stores")


if __name__ == "__main__":
    main()
