#!/usr/bin/env python3
"""Every built-in handler with an effect, killed at each system call of an execution that changes
or syncs anything; then a worker or a stranger touches the target, or nobody; then a restart, and the
outcome must be the one that the handler's effect promises.

    handlers.py BINARY [--workers N] [--only REQUEST]

A kill at a call that changes nothing leaves what a kill at the next one that does leaves, so those
are left out. What several kills leave alike is restarted once.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor

import common
from common import Attempt, Fault, Ledger, Report, Server, expect, is_sealed, until

CHANGING = (
    "/^mkdir", "write", "/^fchmod", "fsync", "/^link", "/^rename", "/^unlink", "pwrite64",
    "fdatasync",
)
OLD, NEW, FOREIGN = "old content\n", "new content\n", "somebody else's\n"
PATH = "dir/target.txt"
MARKER = ".openexec-place"
# `-y` says of which file.
STORE_SYNC = re.compile(r"fdatasync\(\d+<[^>]*/store/\d+\.jsonl>\)\s+= 0")


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


class Request:
    """One request, what is there before, how others touch its target, and what must come of it."""

    def __init__(self, name, action, payload):
        self.name = name
        self.attempt = Attempt(action, payload, f"nonce-of-{name}")

    def prepare(self, directory):
        for made in ("outbox", "files/dir"):
            os.makedirs(os.path.join(directory, made))


class Job(Request):
    """One that ends in the outbox."""

    def __init__(self, name, action, payload, queue):
        super().__init__(name, action, payload)
        self.queue = queue
        self.file = f"{self.attempt.id}.json"
        job = {
            "action": action, "approval_ids": [], "id": self.attempt.id,
            "nonce": self.attempt.nonce, "payload": payload,
        }
        self.text = json.dumps(job, sort_keys=True, separators=(",", ":"))
        self.result = {"queued": {"job": f"{queue}/{self.file}", "sha256": sha256(self.text)}}

    def at(self, directory, place=""):
        return os.path.join(directory, "outbox", self.queue, place, self.file)

    def touches(self, directory):
        if not os.path.exists(self.at(directory)):
            return ["nobody", "placed", "other outbox"]
        return ["nobody", "taken", "done", "noted", "replaced", "swept", "other outbox"]

    def touch(self, directory, how):
        waiting = self.at(directory)
        if how in ("taken", "done"):
            os.rename(waiting, self.at(directory, how))
        elif how == "noted":
            with open(waiting, "a", encoding="utf-8") as file:
                file.write("a note")
        elif how == "swept":
            os.unlink(waiting)
        elif how == "other outbox":
            os.rename(os.path.join(directory, "outbox"), os.path.join(directory, "meant"))
            os.mkdir(os.path.join(directory, "outbox"))
        elif how == "replaced":
            os.unlink(waiting)
            os.mkdir(waiting)
        elif how == "placed":
            os.makedirs(os.path.dirname(waiting), exist_ok=True)
            with open(waiting, "w", encoding="utf-8") as file:
                file.write(FOREIGN)

    def promised(self, _directory, how, claimed):
        if how == "replaced":
            return "indeterminate" if claimed else "failed"
        if how == "placed":
            # A second run takes it for its own, in which the worker noted something.
            return "executed" if claimed else "failed"
        if how == "other outbox":
            return "indeterminate" if claimed else "executed"
        return "executed"

    def check_target(self, directory, how, outcome):
        if how == "other outbox" and outcome != "executed":
            expect(not os.path.exists(self.at(directory)), "one id has two jobs")
            return
        if how == "swept" and outcome == "recorded":
            return
        places = {place: self.at(directory, place) for place in ("", "taken", "done")}
        there = [place for place, path in places.items() if os.path.lexists(path)]
        expected = how if how in ("taken", "done") else ""
        expect(there == [expected], f"the job is in {there}, not in {[expected]}")
        path = places[expected]
        if how == "replaced":
            expect(os.path.isdir(path), "what a stranger put there is gone")
            return
        with open(path, encoding="utf-8") as file:
            text = file.read()
        wanted = {"placed": FOREIGN, "noted": self.text + "a note"}.get(how, self.text)
        expect(text == wanted, f"the job is {text!r}")
        if how not in ("placed", "noted"):
            mode = stat.S_IMODE(os.stat(path).st_mode)
            expect(mode == 0o640, f"the job's mode is {mode:o}")


class Change(Request):
    """One that ends in a file. `old`: the content before, `new`: the content asked for; None is no
    file. `requires` is the content that the request names as its precondition."""

    ANYTHING = object()

    def __init__(self, name, action, payload, old, new, requires=ANYTHING):
        super().__init__(name, action, {"path": PATH, **payload})
        self.old, self.new, self.requires = old, new, requires
        if new is None:
            self.result = {"deleted": {"path": PATH}}
        else:
            about = {"bytes": len(new), "path": PATH, "sha256": sha256(new)}
            self.result = {"written": about}

    def prepare(self, directory):
        super().prepare(directory)
        if self.old is not None:
            self.put(directory, self.old)

    def put(self, directory, text):
        with open(os.path.join(directory, "files", PATH), "w", encoding="utf-8") as file:
            file.write(text)

    def now(self, directory):
        path = os.path.join(directory, "files", PATH)
        if not os.path.exists(path):
            return None
        with open(path, encoding="utf-8") as file:
            return file.read()

    def touches(self, directory):
        gone = self.now(directory) is None
        return ["nobody", "changed"] + ([] if gone else ["removed"])

    def touch(self, directory, how):
        if how == "changed":
            self.put(directory, FOREIGN)
        elif how == "removed":
            os.unlink(os.path.join(directory, "files", PATH))

    def promised(self, directory, _how, claimed):
        self.found = self.now(directory)
        if self.found == self.new or self.found == self.requires:
            return "executed"
        # A first run goes on from anything. A second one has nothing to tell its own state by.
        if self.requires is self.ANYTHING and not claimed:
            return "executed"
        return "indeterminate" if claimed else "failed"

    def check_target(self, directory, how, outcome):
        # `recorded`: the outcome was stored before anybody touched it.
        kept = outcome in ("failed", "indeterminate", "recorded")
        now, wanted = self.now(directory), self.found if kept else self.new
        expect(now == wanted, f"the file holds {now!r}, not {wanted!r}")


def requests():
    mail = {"to": ["a@example.org"], "subject": "s", "text": "t"}
    charge = {"amount": 1999, "currency": "USD", "customer": "c-1"}
    only_old = {"if_sha256": sha256(OLD)}
    return [
        Job("enqueue", "enqueue", {"queue": "reports", "job": {"n": 1}}, "reports"),
        Job("send_email", "send_email", mail, "send_email"),
        Job("charge_card", "charge_card", charge, "charge_card"),
        Change("write_file", "write_file", {"content": NEW}, OLD, NEW),
        Change("write_file_anew", "write_file", {"content": NEW}, None, NEW),
        Change("create_only", "write_file", {"content": NEW, "create_only": True}, None, NEW, None),
        Change("swap", "write_file", {"content": NEW, **only_old}, OLD, NEW, OLD),
        Change("delete_file", "delete_file", {}, OLD, None),
        Change("delete_if", "delete_file", only_old, OLD, None, OLD),
    ]


def settings(directory):
    return {
        "OPENEXEC_OUTBOX_DIR": os.path.join(directory, "outbox"),
        "OPENEXEC_FILES_DIR": os.path.join(directory, "files"),
    }


def start(binary, directory):
    return Server(binary, directory, settings(directory))


def copy_state(source, to):
    def ignore(_, names):
        return [name for name in names if name in ("LOCK", "inner.sock", "socket", "log", "trace")]

    shutil.copytree(source, to, symlinks=True, ignore=ignore)


def fingerprint(directory, attempt):
    """What a restart depends on: the target's side, by names and contents, and the records."""
    files = []
    for side in ("outbox", "files"):
        for place, _, names in os.walk(os.path.join(directory, side)):
            files.append(os.path.relpath(place, directory))
            for name in names:
                if name == MARKER:
                    # Made at random, and the same at each kill in its meaning.
                    continue
                path = os.path.join(place, name)
                with open(path, "rb") as file:
                    files.append((os.path.relpath(path, directory), file.read()))
    ledger = Ledger(os.path.join(directory, "store"))
    return attempt.id in ledger.claims, attempt.id in ledger.receipts, str(sorted(map(str, files)))


class Case:
    def __init__(self, binary, base, template, request, report):
        self.binary, self.base, self.template = binary, base, template
        self.request, self.report = request, report
        self.kills = self.restarts = 0

    def run(self):
        seen = set()
        for call, count in self.calls():
            for number in range(1, count + 1):
                self.report.case(
                    f"{self.request.name}, killed at {call} {number}",
                    self.killed, call, number, seen,
                )

    def traced(self, directory, fault):
        copy_state(self.template, directory)
        self.request.prepare(directory)
        server = start(self.binary, directory).must_be_ready()
        try:
            fault.attach(server, "executor")
            asked = self.request.attempt
            return server, server.execute(asked.action, asked.payload, asked.nonce)
        except BaseException:
            server.kill()
            raise

    def calls(self):
        """How many calls of each kind one execution makes."""
        directory = tempfile.mkdtemp(dir=self.base)
        fault = Fault(os.path.join(directory, "trace"), "write", "error=EIO", 1000, CHANGING)
        try:
            server, answer = self.traced(os.path.join(directory, "state"), fault)
            server.kill()
            fault.tracer.wait(common.PATIENCE_S)
            expect(answer is not None and answer.status == 200, f"without a fault: {answer}")
            lines = fault.lines()
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        # The claim's sync, then the receipt's: what follows is a seal, if the machine was slow.
        synced = [number for number, line in enumerate(lines) if STORE_SYNC.match(line)]
        expect(len(synced) >= 2, f"a claim and a receipt are synced: {lines}")
        names = [line.split("(")[0] for line in lines[:synced[1] + 1] if "(" in line]
        kinds = []
        for call in CHANGING:
            pattern = call[1:] if call.startswith("/") else f"^{call}$"
            count = sum(re.search(pattern, name) is not None for name in names)
            kinds.append((call, count))
        total = sum(count for _, count in kinds)
        expect(total >= 6, f"claim, effect and receipt take more than {total} calls: {names}")
        return [(call, count) for call, count in kinds if count]

    def killed(self, call, number, seen):
        directory = tempfile.mkdtemp(dir=self.base)
        state = os.path.join(directory, "state")
        try:
            fault = Fault(os.path.join(directory, "trace"), call, "signal=KILL", number)
            server, answer = self.traced(state, fault)
            code = server.wait() if answer is None else server.kill()
            expect(answer is None and code == -9, f"not killed: {code}, {answer}")
            self.kills += 1
            attempt = self.request.attempt
            left = fingerprint(state, attempt)
            if left in seen:
                return
            seen.add(left)
            for how in self.request.touches(state):
                touched = os.path.join(directory, how)
                copy_state(state, touched)
                self.restarts += 1
                try:
                    self.restart(touched, how, left)
                except AssertionError as error:
                    raise AssertionError(f"{how}, {left}: {error}") from error
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def restart(self, directory, how, left):
        request = self.request
        attempt = request.attempt.copy()
        claimed, has_receipt, _ = left
        request.touch(directory, how)
        outcome = request.promised(directory, how, claimed)
        if has_receipt:
            outcome = "executed"
        server = start(self.binary, directory).must_be_ready()
        try:
            answer = attempt.ask(server)
            expect(answer is not None, "no answer")
            expect(answer.replayed == claimed, f"a replay, or not: {answer}")
            value = answer.value()
            expect(value["outcome"] == outcome, f"{outcome} was promised: {answer}")
            if outcome == "executed":
                expect(value["result"] == request.result, f"the result: {answer}")
            for _ in range(2):
                expect(attempt.ask(server).replayed, "a replay")
            request.check_target(directory, how, "recorded" if has_receipt else outcome)
            unfinished = [
                os.path.join(place, name)
                for side in ("outbox", "files")
                for place, _, names in os.walk(os.path.join(directory, side))
                for name in names if name.startswith(".openexec-") and name != MARKER
            ]
            expect(not unfinished, f"left behind: {unfinished}")
            retries = Ledger(server.store).retries.get(attempt.id, 0)
            again = claimed and not has_receipt and how != "other outbox"
            expect(retries == again, f"{retries} retry records")
        finally:
            server.kill()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--only")
    options = parser.parse_args()
    common.need("strace")
    os.umask(0o022)
    base = common.scratch()
    report = Report()
    try:
        template = os.path.join(base, "template")
        os.makedirs(template)
        server = Server(options.binary, template).must_be_ready()
        # Sealed, so that no copy of it writes a seal while the calls of an execution are counted.
        first, second = (os.path.join(server.store, f"0000000{n}.jsonl") for n in (1, 2))
        until("both segments", lambda: os.path.exists(second) and is_sealed(first), server)
        server.kill()
        cases = [
            Case(options.binary, base, template, request, report)
            for request in requests()
            if options.only in (None, request.name)
        ]
        with ThreadPoolExecutor(options.workers) as pool:
            for case, done in [(case, pool.submit(case.run)) for case in cases]:
                report.case(f"{case.request.name}: all its calls", done.result)
        for case in cases:
            print(f"{case.request.name}: {case.kills} kills, {case.restarts} restarts")
    finally:
        shutil.rmtree(base, ignore_errors=True)
    report.end()


if __name__ == "__main__":
    main()
