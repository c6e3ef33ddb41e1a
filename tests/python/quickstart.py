#!/usr/bin/env python3
"""quickstart.sh as somebody runs it: with every answer, and ended in every way; nothing of it is left behind.

usage: quickstart.py OPENEXEC OPENEXEC-APPROVE      (needs curl, jq, openssl, flock)
"""

import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "quickstart.sh"


class Run:
    """One start, at a terminal of its own; with other programs where `changes` names them."""

    def __init__(self, *arguments, **changes):
        self.scratch = tempfile.TemporaryDirectory()
        self.at = pathlib.Path(self.scratch.name)
        (self.at / "tmp").mkdir()
        (self.at / "bin").mkdir()
        # Everything that it starts inherits this.
        self.mark = f"QUICKSTART_TEST={uuid.uuid4()}"
        own = {"PATH": f"{self.at}/bin:{os.environ['PATH']}", "TMPDIR": f"{self.at}/tmp", "TERM": "dumb", "LANG": "C.UTF-8",
               "OPENEXEC": os.path.abspath(sys.argv[1]), "OPENEXEC_APPROVE": os.path.abspath(sys.argv[2]),
               # Settings of another service, of which this one takes none.
               "OPENEXEC_MODE": "demo", "OPENEXEC_DB_URL": "file:/nowhere", "CLAWSHIELD_TENANT_ID": "other"}
        for name, script in changes.items():
            (self.at / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
            (self.at / "bin" / name).chmod(0o755)
            variable = {"openexec": "OPENEXEC", "approver": "OPENEXEC_APPROVE"}.get(name)
            own |= {variable: str(self.at / "bin" / name)} if variable else {}
        name, _, value = self.mark.partition("=")
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            # A job of a shell without job control ignores Ctrl-C, what nohup starts a hangup, and so would this: a shell
            # traps no signal that it was started to ignore.
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            # From elsewhere: it finds its own files.
            os.chdir(self.at)
            os.execve(PROGRAM, [str(PROGRAM), *arguments], own | {name: value})
        self.shown = ""

    def more(self, meanwhile=None):
        deadline = time.monotonic() + 60
        while not select.select([self.terminal], [], [], 0.01 if meanwhile else 60)[0]:
            # What is left running holds the terminal open.
            assert meanwhile and time.monotonic() < deadline, f"nothing more comes; running: {self.alive()}\n{self.shown}"
            meanwhile()
        try:
            piece = os.read(self.terminal, 65536)
        except OSError:
            piece = b""
        self.shown += piece.decode(errors="replace")
        return bool(piece)

    def until(self, words):
        while words not in self.shown:
            assert self.more(), f"{words!r} is not shown:\n{self.shown}"
        return self

    def type(self, text):
        os.write(self.terminal, text.encode())
        return self

    def ended(self, meanwhile=None):
        """Its exit code; what it started has ended too, and its files are gone."""
        while self.more(meanwhile):
            pass
        _, status = os.waitpid(self.pid, 0)
        deadline = time.monotonic() + 30
        while left := self.alive():
            assert time.monotonic() < deadline, f"left running: {left}\n{self.shown}"
            time.sleep(0.05)
        files = os.listdir(self.at / "tmp")
        assert not files, f"left behind: {files}\n{self.shown}"
        return os.waitstatus_to_exitcode(status)

    def alive(self):
        found = []
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_text())
            except OSError:
                pass
        return found


def executed(run):
    for words in ("It waits: pending. Jobs in the queue: 0.", "paid 4900 EUR for order 8841, once", '{"refund":"re_',
                  "executions  1 executed", "1 claims judged, signatures too", "Done. Everything of it is removed now."):
        assert words in run.shown, f"{words!r} is not shown:\n{run.shown}"


def not_executed(run):
    for words in ("paid 4900", "state    executing", "Done."):
        assert words not in run.shown, f"{words!r} is shown:\n{run.shown}"


def main():
    run = Run("--yes")
    assert run.ended() == 0, run.shown
    executed(run)
    run = Run("--terminal").until("Type yes: ").type("yes\n")
    assert run.ended() == 0, run.shown
    executed(run)
    assert "49.00 EUR" in run.shown and "in their words" in run.shown, run.shown
    for answer in ("no\n", "\n", "y\n", "yes please\n", "\x04"):
        run = Run("--terminal").until("Type yes: ").type(answer)
        assert run.ended() == 1 and "nothing was executed: the proposal is pending" in run.shown, (answer, run.shown)
        not_executed(run)
    # Ctrl-C and signals, at each place where it waits.
    for words in ("1. The operator", "2. The agent", "Type yes: "):
        # Once; and by somebody who does not stop pressing.
        for meanwhile in (None, lambda: run.type("\x03")):
            run = Run("--terminal").until(words).type("\x03")
            assert run.ended(meanwhile) == 130, run.shown
            not_executed(run)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            run = Run("--terminal").until(words)
            # As a closing terminal does: to all in front.
            os.killpg(os.getpgid(run.pid), number)
            assert run.ended() == 128 + number, (number, run.shown)
            not_executed(run)
    on_the_page()
    # Something fails midway.
    real = os.path.abspath(sys.argv[1])
    for changes, word in [
        ({"openexec": "exit 78"}, "ended early (78)"),
        ({"openexec": f'[ "$1" = init ] && exec {real} "$@"; echo "no port" >&2; exit 74'}, "no port"),
        ({"approver": "exit 74"}, "nothing was executed: the proposal is pending"),
        ({"approver": "echo approved"}, "nothing was executed: the proposal is pending"),
        ({"openssl": "exit 1"}, "ended early (1)"),
        ({"curl": f'case "$*" in */ready) exec {shutil.which("curl")} "$@";; esac; exit 7'}, "ended early (7)"),
        ({"openexec": f'[ "$1" = verify ] && exit 65; exec {real} "$@"'}, "ended early (65)"),
    ]:
        run = Run("--yes", **changes)
        assert run.ended() != 0 and word in run.shown and "Done." not in run.shown, (word, run.shown)
    for arguments in (["--no"], ["--yes", "x"], ["--files"], ["--files", "a", "b"], [""], ["--help"]):
        run = Run(*arguments)
        assert run.ended() == 64 and "usage: ./quickstart.sh" in run.shown, (arguments, run.shown)
    files()
    print("quickstart.sh: approved and executed; with five other answers, twelve ends from outside and seven failures nothing was, and nothing was left")


def on_the_page():
    """It waits for what is decided on the page, by whoever decides first; approver/tests/browser is about the page itself."""
    for answer, status in ((["approve"], 0), (["reject", "--justification", "no"], 1)):
        run = Run().until("and decide.")
        id = re.search(r"\b[0-9a-f]{64}\b", next((run.at / "tmp").glob("*/proposed")).read_text())[0]
        made = next((run.at / "tmp").iterdir())
        url = re.search(r"It listens on (\S+)\. ", run.shown)[1]
        command = [sys.argv[2], answer[0], id, *answer[1:], "--yes", "--url", url, "--token-file", made / "alice.token", "--key", made / "alice.pem"]
        subprocess.run(command, check=True, capture_output=True)
        assert run.ended() == status, run.shown
        executed(run) if status == 0 else not_executed(run)
    run = Run().until("and decide.").type("\x03")
    assert run.ended() == 130, run.shown
    run = Run(approver="exit 78")
    assert run.ended() == 70, run.shown
    run = Run(approver="echo http://127.0.0.1:1/x; sleep 1")
    assert run.ended() == 70, run.shown


def files():
    """What `--files` writes is what a service takes; it writes over nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        at = pathlib.Path(scratch) / "made"
        run = Run("--files", str(at))
        assert run.ended() == 0, run.shown
        own = {"OPENEXEC_MODE": "clawshield", "CLAWSHIELD_TENANT_ID": "acme", "OPENEXEC_DB_URL": f"file:{at}/store-of/store",
               "OPENEXEC_KEYS_FILE": f"{at}/keys.json", "OPENEXEC_CALLERS_FILE": f"{at}/callers.json",
               "OPENEXEC_ACTIONS_FILE": f"{at}/actions.json", "OPENEXEC_OUTBOX_DIR": f"{at}/outbox"}
        for command in ("init", "check"):
            done = subprocess.run([sys.argv[1], command], env=own, capture_output=True, text=True)
            assert done.returncode == 0, done
        assert {entry["action"] for entry in json.loads((at / "actions.json").read_text())["actions"]} == {"refund", "refund_large"}
        assert not [path for path in at.rglob("*") if path.stat().st_mode & 0o077], "others may read nothing of it"
        beside = Run("--files", "made")
        assert beside.ended() == 0 and (beside.at / "made/alice.pem").exists(), beside.shown
        before = (at / "alice.pem").read_bytes()
        run = Run("--files", str(at))
        assert run.ended() != 0 and (at / "alice.pem").read_bytes() == before, run.shown


if __name__ == "__main__":
    main()
