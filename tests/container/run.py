#!/usr/bin/env python3
"""The container for real: the binary in a bundle laid out as the image is, under runc and
seccomp.json, as user 65532, without capabilities, with a root that cannot be written.

    run.py BINARY [PYTHON]     PYTHON: one that has `requests`, for tests/python/api.py

The walk-through of everything, the worked examples of the API from outside, kills and restarts under
load, and a load within the memory, process and file limits. Skipped, and said, where runc cannot run.
"""

import argparse
import io
import json
import os
import shutil
import sys
import tarfile
import threading
import time

import bundle as bundles
import common
from bundle import FILES, REPOSITORY, SETTINGS, Bundle, Service
from common import Attempt, Ledger, Report, expect
from walk import DEMO, Approver, walk

KILLS = 12
CLIENTS = 16
LOAD_CLIENTS = 96
LOAD_SECONDS = 8
# What a flood of clients may make it hold; SECURITY.md.
RESIDENT_BYTES_MAX = 64 << 20


def api(bundle, python):
    """tests/python/api.py in the container's own network, from another process."""
    container = bundle.container(["/openexec"], DEMO)
    try:
        deadline = time.monotonic() + common.PATIENCE_S
        while container.execute("healthcheck")[0] != 0:
            expect(container.process.poll() is None, container.said())
            expect(time.monotonic() < deadline, "not healthy")
        script = os.path.join(REPOSITORY, "tests", "python", "api.py")
        done = container.inside([python, script, "http://127.0.0.1:5000"], capture_output=True)
        expect(done.returncode == 0, (done.stdout + done.stderr).decode())
        links = container.inside(["cat", "/proc/net/dev"], capture_output=True).stdout.decode()
        names = [line.split(":")[0].strip() for line in links.splitlines()[2:]]
        expect(names == ["lo"], f"its network has {names}")
    finally:
        container.kill()


def hardened(bundle):
    """What the kernel says of the process, not what was asked for."""
    service = Service(bundle, SETTINGS).must_be_ready()
    try:
        with open(f"/proc/{service.pid()}/status", encoding="ascii") as status:
            facts = dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)
        user = str(bundles.USER)
        for name, wanted in (
            ("Uid", "\t".join([user] * 4)), ("Gid", "\t".join([user] * 4)),
            ("NoNewPrivs", "1"), ("Seccomp", "2"), ("Seccomp_filters", "1"),
            *((name, "0" * 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")),
        ):
            expect(facts.get(name) == wanted, f"{name} is {facts.get(name)!r}, not {wanted!r}")
        with open(f"/proc/{service.pid()}/mountinfo", encoding="ascii") as mounts:
            root = next(line for line in mounts if line.split()[4] == "/")
        expect(root.split()[5].startswith("ro"), f"the root is mounted {root}")
    finally:
        service.kill()


class Load:
    """Clients that each ask one thing after the other, under nonces of their own, and remember what
    they were promised."""

    def __init__(self, clients):
        self.clients = clients
        self.attempts = []
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.errors = []
        self.service = None

    def client(self, number):
        count = 0
        while not self.ended.is_set():
            count += 1
            action, payload = [
                ("echo", {"n": count, "client": number}),
                ("enqueue", {"queue": f"q{number % 4}", "job": {"n": count, "client": number}}),
                ("write_file", {"path": f"f{number}", "content": str(count)}),
            ][count % 3]
            attempt = Attempt(action, payload, f"{id(self)}-{number}-{count}")
            with self.lock:
                self.attempts.append(attempt)
            try:
                deadline = time.monotonic() + common.PATIENCE_S
                while attempt.stored is None and time.monotonic() < deadline:
                    attempt.ask(self.service)
                    if attempt.stored is None:
                        time.sleep(0.02)
            except AssertionError as error:
                self.errors.append(str(error))
                return

    def __enter__(self):
        self.threads = [
            threading.Thread(target=self.client, args=(number,)) for number in range(self.clients)
        ]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def promised(self):
        return [attempt for attempt in self.attempts if attempt.stored is not None]


def crashes(bundle, binary):
    """Killed and started again, again and again, while clients ask: no answer is ever taken back,
    and nothing is done twice."""
    load = Load(CLIENTS)
    service = load.service = Service(bundle, SETTINGS).must_be_ready()
    with load:
        for number in range(KILLS):
            time.sleep(0.1 + 0.03 * number)
            before = len(load.promised())
            os.kill(service.pid(), 9)
            service.process.wait(common.PATIENCE_S)
            service = load.service = Service(bundle, SETTINGS).must_be_ready()
            deadline = time.monotonic() + common.PATIENCE_S
            while len(load.promised()) <= before and time.monotonic() < deadline:
                time.sleep(0.01)
            expect(len(load.promised()) > before, f"no answer after kill {number}")
    service.kill()
    expect(not load.errors, load.errors[:3])
    service = Service(bundle, SETTINGS).must_be_ready()
    try:
        for attempt in load.promised():
            attempt.ask(service)
        commands(service, load.promised()[-1])
    finally:
        service.kill()
    common.verify(binary, service.store)
    ledger = Ledger(service.store)
    for attempt in load.promised():
        expect(attempt.id in ledger.receipts, f"{attempt.nonce} has no receipt")
        if attempt.action == "enqueue":
            queue = bundle.at("outbox", attempt.payload["queue"])
            expect(os.path.exists(os.path.join(queue, f"{attempt.id}.json")), "a job is missing")
    print(f"{KILLS} kills, {len(load.promised())} answers kept, "
          f"{len(ledger.retries)} executions run again")


def commands(service, attempt):
    """What an operator and an auditor ask beside the service, where there is no shell: with the image's own limits."""
    for arguments in (["verify"], ["history"], ["history", "--json"], ["evidence", attempt.id]):
        code, said = service.container.execute(*arguments)
        expect(code == 0 and (arguments == ["verify"] or attempt.id[:8] in said), f"{arguments}: {code}: {said[-400:]}")
    copied = service.container.run("backup", "-")
    expect(copied.returncode == 0, copied.stderr.decode(errors="replace"))
    with tarfile.open(fileobj=io.BytesIO(copied.stdout)) as tar:
        names = tar.getnames()
    expect(names[-2:] == ["FROZEN", "00000001.jsonl"], f"a backup of {names}")


def load(bundle, binary):
    """As many clients as it has connections for, within the limits that the image is given."""
    load = Load(LOAD_CLIENTS)
    service = load.service = Service(bundle, SETTINGS).must_be_ready()
    try:
        with load:
            time.sleep(LOAD_SECONDS)
            tasks = len(os.listdir(f"/proc/{service.pid()}/task"))
            files = len(os.listdir(f"/proc/{service.pid()}/fd"))
        expect(service.process.poll() is None, f"it ended: {service.tail()}")
        expect(not load.errors, load.errors[:3])
        answered, owed = len(load.promised()), len(load.attempts)
        expect(answered == owed, f"{owed - answered} requests were never answered")
        resident = service.resident_bytes()
        expect(resident < RESIDENT_BYTES_MAX, f"{resident} bytes resident")
        expect(tasks < bundles.PROCESSES and files < FILES, f"{tasks} threads, {files} files")
        refused = json.dumps(service.get("/health").value())
        expect("healthy" in refused, refused)
    finally:
        service.kill()
    common.verify(binary, service.store)
    expect(answered > LOAD_CLIENTS, f"only {answered} answers")
    print(f"{answered} executions in {LOAD_SECONDS} s by {LOAD_CLIENTS} clients, "
          f"{resident >> 20} MiB resident, {tasks} threads, {files} files")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("python", nargs="?", default=sys.executable)
    options = parser.parse_args()
    base = common.scratch(on_disk=True)
    report = Report()
    try:
        reason = bundles.cannot_run(options.binary, os.path.join(base, "trial"))
        if reason:
            common.skip(reason)
        approver = Approver(options.binary, base)

        def of(name):
            return Bundle(options.binary, os.path.join(base, name))

        report.case("walk", walk, of("walk"), approver)
        report.case("hardened", hardened, of("hardened"))
        report.case("api", api, of("api"), options.python)
        report.case("crashes", crashes, of("crashes"), options.binary)
        report.case("load", load, of("load"), options.binary)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    report.end()


if __name__ == "__main__":
    main()
