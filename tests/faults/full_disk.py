#!/usr/bin/env python3
"""A disk that is full: too small for one segment, filled up under load, and with space again.

    full_disk.py BINARY OPENEXEC

BINARY is the example `fault_handlers`, OPENEXEC the service. On ext4 in a file and on tmpfs.
"""

import argparse
import errno
import http.client
import os
import shutil
import subprocess
import threading
import time

import common
from common import (
    CONFIGURATION, INPUT_OUTPUT, PATIENCE_S, SEGMENT_BYTES, Attempt, Ledger, Mounted, Report, Server, check_all, check_runs,
    expect, runs_counted, text_of, together, until,
)

SMALL_MIB = 4
# Room for three segments, of which a ballast takes the last, and for the file system itself.
ROOM_MIB = 64
CLIENTS = 4
BIG = "x" * 300_000
# It tries again every second; on a slow machine each attempt takes its time.
RECOVERS_S_MAX = 20


def too_small(binary, base, kind):
    """No store can be made: a sentence with the reason and the mend, exit 74, nothing left."""
    directory = os.path.join(base, f"small-{kind}")
    os.makedirs(directory)
    disk = Mounted(directory, SMALL_MIB, kind)
    try:
        store = os.path.join(disk.at, "store")
        server = Server(binary, directory, store=store)
        code = server.wait()
        expect(code == INPUT_OUTPUT, f"it ended with {code}: {server.tail()}")
        text = server.tail()
        for part in (store, "No space left", "make space"):
            expect(part in text, f"no {part!r} in {text!r}")
        left = [name for name in os.listdir(store) if name.endswith((".jsonl", ".tmp"))]
        expect(not left, f"left behind: {left}")
    finally:
        disk.unmount()


def fill(path, leave_bytes=0):
    """A file that takes all space but `leave_bytes`."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        step = 1 << 20
        while step >= 4096:
            room = os.statvfs(path)
            if room.f_bavail * room.f_frsize - leave_bytes < step:
                step //= 2
                continue
            try:
                os.write(handle, b"\0" * step)
            except OSError:
                step //= 2
    finally:
        os.close(handle)


def exhaust(path):
    """A file that takes the last block too, root's share with it."""
    with open(path, "wb", buffering=0) as file:
        for step in (1 << 20, 4096, 512, 1):
            try:
                while True:
                    file.write(b"\0" * step)
            except OSError as error:
                expect(error.errno == errno.ENOSPC, f"{error}")


class Filling:
    """Clients that ask until they are told that the store is full."""

    def __init__(self, server):
        self.server = server
        self.attempts, self.full, self.problems = [], [], []

    def client(self, name):
        try:
            for number in range(1000):
                action = ("echo", "count", "echo", "once")[number % 4]
                attempt = Attempt(action, {"x": BIG}, f"{name}-{number}")
                self.attempts.append(attempt)
                answer = attempt.ask(self.server)
                expect(answer is not None, "the connection was closed")
                if answer.status == 507:
                    self.full.append(attempt)
                    return
                expect(answer.status == 200, f"{answer}")
            raise AssertionError("it never was full")
        except (AssertionError, OSError, http.client.HTTPException) as error:
            self.problems.append(str(error))

    def run(self):
        together(*(lambda n=n: self.client(f"client-{n}") for n in range(CLIENTS)))
        expect(not self.problems, "; ".join(self.problems))


def is_full(ready):
    return ready.status == 503 and ready.value()["reason"] == "no_space"


def fills_up(binary, base, kind):
    directory = os.path.join(base, f"fills-{kind}")
    os.makedirs(directory)
    disk = Mounted(directory, ROOM_MIB, kind)
    store, ballast = os.path.join(disk.at, "store"), os.path.join(disk.at, "ballast")
    try:
        server = Server(binary, directory, store=store).must_be_ready()
        second = os.path.join(store, "00000002.jsonl")
        until("the next segment", lambda: os.path.exists(second), server)
        fill(ballast)
        filling = Filling(server)
        filling.run()
        refused(server, filling)
        while_full(server, filling)
        server.kill()

        # `check` ends as `serve` does, which starts: replays and reads go on.
        checked = subprocess.run(
            [os.path.abspath(binary), "check"], capture_output=True, text=True, timeout=PATIENCE_S,
            env={"OPENEXEC_DB_URL": f"file:{store}", "OPENEXEC_LISTEN": "127.0.0.1:0"}, check=False,
        )
        said = checked.stdout + checked.stderr
        expect(checked.returncode == 0, f"check of a full disk: {checked.returncode}: {said}")
        expect("warning: writing 16 MiB" in said and "No space left" in said, said)

        # A restart finds it full, and as it was.
        server = Server(binary, directory, store=store)
        expect(server.wait_ready(is_full), f"it ended: {server.tail()}")
        while_full(server, filling)

        # Space again: within seconds executions go on, under the nonces that were refused.
        os.unlink(ballast)
        began = time.monotonic()
        server.must_be_ready()
        took = time.monotonic() - began
        expect(took < RECOVERS_S_MAX, f"ready {took:.1f} s after there was space")
        for attempt in filling.full:
            answer = attempt.ask(server)
            expect(answer.status == 200 and not answer.replayed, f"{attempt.nonce}: {answer}")
            attempt.refusals.clear()
        server.kill()
        server = Server(binary, directory, store=store).must_be_ready()
        check_all(binary, server, filling.attempts)
        return len(filling.attempts)
    finally:
        server.kill()
        disk.unmount()


def refused(server, filling):
    """507, with nothing spent and nothing run."""
    expect(len(filling.full) == CLIENTS, f"{len(filling.full)} of {CLIENTS} were told 507")
    ledger, counts = Ledger(server.store), runs_counted(os.path.join(server.directory, "count"))
    check_runs(filling.attempts, ledger, counts)
    for attempt in filling.full:
        value = attempt.refusals[-1].value()
        said = (value["code"], value["approved"], value["recorded"])
        expect(said == ("store_full", False, False), f"{attempt.nonce}: {value}")
        expect(attempt.id not in ledger.claims, f"{attempt.nonce}: 507, and spent")
        expect(server.get(f"/receipts/{attempt.id}").status == 404, f"{attempt.nonce}: known")
    segments = sorted(name for name in os.listdir(server.store) if name.endswith(".jsonl"))
    expect(len(segments) == 2, f"only when room is really out: {segments}")
    used = len(text_of(os.path.join(server.store, segments[-1])))
    # What a client asks for here takes two times its payload, and some room is kept.
    expect(SEGMENT_BYTES - used < 4 * len(BIG), f"507 with {SEGMENT_BYTES - used} bytes to spare")


def while_full(server, filling):
    """Replays, reads and refusals go on; `/ready` and the metric say why nothing else does."""
    until("/ready says no_space", lambda: is_full(server.get("/ready")), server)
    expect(server.get("/health").status == 200, "/health")
    expect(b"openexec_segment" in server.get("/metrics").body, "/metrics")
    for attempt in filling.attempts:
        if attempt.stored:
            replay = attempt.ask(server)
            expect(replay.replayed, f"{attempt.nonce}: {replay}")
            known = server.get(f"/receipts/{attempt.id}")
            expect(known.body == replay.body, f"{attempt.nonce}: {known}")
    another = server.execute("missing", {}, "refused-while-full")
    value = another.value()
    expect((value["code"], value["recorded"]) == ("unknown_action", False), f"{another}")
    for attempt in filling.full:
        expect(attempt.ask(server).status == 507, f"{attempt.nonce}: no longer full")


def returns_alive(binary, base, kind):
    """Space returns while the service runs: no restart is needed."""
    directory = os.path.join(base, f"returns-{kind}")
    os.makedirs(directory)
    disk = Mounted(directory, ROOM_MIB, kind)
    store, ballast = os.path.join(disk.at, "store"), os.path.join(disk.at, "ballast")
    try:
        server = Server(binary, directory, store=store).must_be_ready()
        second = os.path.join(store, "00000002.jsonl")
        until("the next segment", lambda: os.path.exists(second), server)
        # Room for a part of the next segment: making it begins, and fails on the way.
        fill(ballast, leave_bytes=5 << 20)
        filling = Filling(server)
        filling.run()
        while_full(server, filling)
        threading.Timer(0.2, os.unlink, [ballast]).start()
        server.must_be_ready()
        for attempt in filling.full:
            expect(attempt.ask(server).status == 200, f"{attempt.nonce}: not executed")
            attempt.refusals.clear()
        server.kill()
        server = Server(binary, directory, store=store).must_be_ready()
        check_all(binary, server, filling.attempts)
    finally:
        server.kill()
        disk.unmount()


def outbox_unusable(service, base, kind):
    """An outbox that is full or read-only: `check` and `serve` say so, before an approval is spent; a
    full one may have room at the next start, a read-only one is for a person to mend."""
    directory = os.path.join(base, f"outbox-{kind}")
    os.makedirs(directory)
    disk = Mounted(directory, SMALL_MIB, kind)
    outbox, ballast = os.path.join(disk.at, "outbox"), os.path.join(disk.at, "ballast")
    os.makedirs(os.path.join(outbox, "tickets"))
    settings = {"OPENEXEC_OUTBOX_DIR": outbox, "OPENEXEC_LISTEN": "127.0.0.1:0",
                "OPENEXEC_DB_URL": f"file:{os.path.join(directory, 'store')}"}

    def ends(code, *parts):
        for command in ("check", "serve"):
            ended = subprocess.run([os.path.abspath(service), command], env=settings, text=True,
                                   capture_output=True, timeout=PATIENCE_S, check=False)
            said = ended.stdout + ended.stderr
            expect(ended.returncode == code, f"{command} ended with {ended.returncode}: {said}")
            for part in (outbox, *parts):
                expect(part in said, f"{command}: no {part!r} in {said!r}")

    try:
        fill(ballast)
        ends(INPUT_OUTPUT, "'enqueue'", "No space left", "make space")
        os.unlink(ballast)
        subprocess.run(["mount", "-o", "remount,ro", disk.at], check=True)
        ends(CONFIGURATION, "'enqueue'", "Read-only file system", "ReadWritePaths=")
        subprocess.run(["mount", "-o", "remount,rw", disk.at], check=True)
        left = [name for _, _, names in os.walk(outbox) for name in names]
        expect(not left, f"left behind: {left}")
    finally:
        disk.unmount()


def stops_and_starts(binary, base, kind):
    """Without a single block the store has its room still, so the stop has to work, and a start."""
    directory = os.path.join(base, f"stops-{kind}")
    os.makedirs(directory)
    disk = Mounted(directory, ROOM_MIB, kind)
    store = os.path.join(disk.at, "store")
    command = [os.path.abspath(binary)]
    settings = {"env": {"OPENEXEC_DB_URL": f"file:{store}"}, "capture_output": True, "text": True, "check": False}

    def says(name, *arguments):
        done = subprocess.run([*command, name, *arguments], timeout=PATIENCE_S, **settings)
        expect(done.returncode == 0, f"{name}: {done.returncode}: {done.stdout}{done.stderr}")

    def executes(server, number, status):
        answer = Attempt("echo", {"x": 1}, f"stops-{number}").ask(server)
        expect(answer is not None and answer.status == status, f"{number}: {answer}")

    servers = []
    try:
        server = Server(binary, directory, store=store).must_be_ready()
        servers.append(server)
        second = os.path.join(store, "00000002.jsonl")
        until("the next segment", lambda: os.path.exists(second), server)
        exhaust(os.path.join(disk.at, "ballast"))
        executes(server, 1, 200)
        says("freeze", "--reason", "no room")
        executes(server, 2, 503)
        server.kill()
        server = Server(binary, directory, store=store)
        servers.append(server)
        until("it serves", lambda: healthy(command, settings), server)
        until("it is open", lambda: Attempt("echo", {"x": 1}, "stops-1").ask(server).status == 200, server)
        executes(server, 3, 503)
        executes(server, 1, 200)
        says("unfreeze")
        executes(server, 4, 200)
        server.kill()
        says("check")
    finally:
        for server in servers:
            server.kill()
        disk.unmount()


def first_start(service, base, kind):
    """A store that was made while there was room is served on a full disk. One that was restored without its
    LOCK has no room for that, and `check` says what `serve` does."""
    directory = os.path.join(base, f"first-{kind}")
    os.makedirs(directory)
    disk = Mounted(directory, ROOM_MIB, kind)
    store, ballast = os.path.join(disk.at, "store"), os.path.join(disk.at, "ballast")
    command = os.path.abspath(service)
    settings = {"OPENEXEC_DB_URL": f"file:{store}", "OPENEXEC_LISTEN": "127.0.0.1:0"}
    ran = {"env": settings, "capture_output": True, "text": True, "check": False}
    try:
        made = subprocess.run([command, "init"], timeout=PATIENCE_S, **ran)
        expect(made.returncode == 0, f"init: {made.stderr}")
        exhaust(ballast)
        checked = subprocess.run([command, "check"], timeout=PATIENCE_S, **ran)
        expect(checked.returncode == 0, f"check: {checked.returncode}: {checked.stdout}{checked.stderr}")
        with subprocess.Popen([command, "serve"], env=settings, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as server:
            try:
                until("it serves or ends", lambda: server.poll() is not None or healthy([command], ran))
                expect(server.poll() is None, f"serve ended with {server.poll()}")
            finally:
                server.kill()
        os.unlink(os.path.join(store, "LOCK"))
        exhaust(os.path.join(disk.at, "ballast-2"))
        for name in ("check", "serve"):
            ended = subprocess.run([command, name], timeout=PATIENCE_S, **ran)
            said = ended.stdout + ended.stderr
            expect(ended.returncode == INPUT_OUTPUT, f"{name}: {ended.returncode}: {said}")
            expect("No space left" in said, f"{name}: {said}")
    finally:
        disk.unmount()


def healthy(command, settings):
    return subprocess.run([*command, "healthcheck"], timeout=PATIENCE_S, **settings).returncode == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("service")
    options = parser.parse_args()
    common.need("mkfs.ext4", "mount", "umount", "unshare")
    common.own_mounts()
    base = common.scratch()
    report = Report()
    missing = []
    try:
        for kind in ("ext4", "tmpfs"):
            reason = common.can_mount(base, kind)
            if reason:
                missing.append(f"no {kind} can be mounted here: {reason}")
                continue
            for case in (too_small, fills_up, returns_alive, stops_and_starts):
                report.case(f"{case.__name__}, {kind}", case, options.binary, base, kind)
            for case in (outbox_unusable, first_start):
                report.case(f"{case.__name__}, {kind}", case, options.service, base, kind)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if missing and not report.failures:
        common.skip("; ".join(missing))
    report.end()


if __name__ == "__main__":
    main()
