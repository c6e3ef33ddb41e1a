#!/usr/bin/env python3
"""Every system call by which the store reaches the disk, gone wrong: a kill, EIO and ENOSPC at the
first, second, third ... call of its kind, until a run ends without meeting the fault.

    syscalls.py BINARY [--workers N] [--only SCENARIO]

BINARY is the example `fault_handlers`. After each fault the service is started again without one,
and held to what it promised before; where a write was not synced yet, once more on a copy of the
store that has lost it, and on one that has kept every second sector of it.
"""

import argparse
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import common
from common import (
    INPUT_OUTPUT, SECTOR, SEGMENT_BYTES, Attempt, Fault, Ledger, Report, Server, check_all,
    check_runs, expect, is_sealed, runs_counted, text_of, together, until,
)

KILL, EIO, ENOSPC = "signal=KILL", "error=EIO", "error=ENOSPC"
BIG = "x" * 900_000
# No chain is longer; one that is would be a fault that is never met and never missed.
CALLS_MAX = 200
# After so many a chain is given up: each may have waited for as long as there is patience.
FAILURES_MAX = 3
TRACED = ("pwrite64", "fdatasync", "fsync", "/^link")


# What a service has been through, to begin from.


class Template:
    def __init__(self, directory):
        self.directory = directory
        self.attempts = []

    def copy(self, to):
        copy_state(self.directory, to)
        return [attempt.copy() for attempt in self.attempts]


def copy_state(source, to):
    """The store's files and the handlers' count; not sockets, not LOCK."""
    store = os.path.join(source, "store")
    for name in os.listdir(store) if os.path.isdir(store) else ():
        path = os.path.join(store, name)
        if os.path.isfile(path) and name != "LOCK":
            os.makedirs(os.path.join(to, "store"), mode=0o700, exist_ok=True)
            shutil.copyfile(path, os.path.join(to, "store", name))
    if os.path.exists(os.path.join(source, "count")):
        shutil.copyfile(os.path.join(source, "count"), os.path.join(to, "count"))


def segment(directory, number):
    return os.path.join(directory, "store", f"{number:08}.jsonl")


def wait_for(path, server):
    until(f"{path} appears", lambda: os.path.exists(path), server)


def in_sectors(length):
    return (length + SECTOR - 1) // SECTOR * SECTOR


def used_bytes(directory, number):
    return in_sectors(len(text_of(segment(directory, number))) + 1)


def ask(server, attempts, action, nonce, payload=None):
    attempt = Attempt(action, payload or {"n": nonce}, nonce)
    attempts.append(attempt)
    return attempt.ask(server)


def templates(binary, base):
    """By name: no store; a short history; a segment nearly full; claims whose handler was killed."""
    made = {}
    deadline = time.monotonic() + common.PATIENCE_S
    for name in ("none", "short", "full", "owed", "owed_once"):
        made[name] = Template(os.path.join(base, f"template-{name}"))
        os.makedirs(made[name].directory)

    short = made["short"]
    server = Server(binary, short.directory).must_be_ready()
    ask(server, short.attempts, "echo", "short-1")
    ask(server, short.attempts, "count", "short-2")
    ask(server, short.attempts, "missing", "short-3")
    wait_for(segment(short.directory, 2), server)
    server.kill()

    full = made["full"]
    full.attempts = short.copy(full.directory)
    server = Server(binary, full.directory).must_be_ready()
    while used_bytes(full.directory, 1) + 2 * len(BIG) + 4096 <= SEGMENT_BYTES:
        ask(server, full.attempts, "echo", f"full-{len(full.attempts)}", {"big": BIG})
    # One that is asked for after each fault is enough; the audit reads them all.
    full.attempts = full.attempts[:3] + full.attempts[-1:]
    server.kill()

    # A machine that stalls may let the first handler end before both of the others have come.
    owed = made["owed"]
    while not owe_two(binary, short, owed):
        shutil.rmtree(owed.directory)
        os.makedirs(owed.directory)
        expect(time.monotonic() < deadline, "never two claims without a receipt")
    with open(segment(owed.directory, 1), "r+b") as file:
        file.seek(used_bytes(owed.directory, 1))
        file.write(b"t" * SECTOR)

    once = made["owed_once"]
    once.attempts = short.copy(once.directory)
    server = Server(binary, once.directory).must_be_ready()
    together(
        lambda: ask(server, once.attempts, "once", "owed-4", {"ms": 600_000}),
        lambda: kill_in_handler(server, 2),
    )
    return made


def kill_in_handler(server, runs):
    """Once so many runs have begun, of which the last does not end."""
    count = os.path.join(server.directory, "count")
    try:
        until(f"{runs} runs", lambda: len(runs_counted(count)) == runs, server)
    finally:
        server.kill()


def owe_two(binary, short, owed):
    """While one handler works, two requests come, whose claims make one batch; the kill comes in the
    first one's handler. Whether it went like that."""
    owed.attempts = short.copy(owed.directory)
    server = Server(binary, owed.directory).must_be_ready()
    count = os.path.join(owed.directory, "count")

    def meanwhile(nonce):
        until("the first runs", lambda: len(runs_counted(count)) >= 2, server)
        ask(server, owed.attempts, "count", nonce, {"ms": 600_000})

    together(
        lambda: ask(server, owed.attempts, "count", "owed-1", {"ms": 1_500}),
        lambda: meanwhile("owed-2"),
        lambda: meanwhile("owed-3"),
        lambda: kill_in_handler(server, 3),
    )
    ledger = Ledger(server.store)
    return len(ledger.claims) - len(ledger.receipts) == 2


# What the service is asked while the fault waits for it.


def work(server, attempts, _fault):
    ask(server, attempts, "echo", "work-1")
    ask(server, attempts, "count", "work-2")
    together(*(
        lambda action=action, nonce=nonce: ask(server, attempts, action, nonce)
        for action, nonce in (
            ("count", "work-3"), ("count", "work-4"), ("echo", "work-5"), ("missing", "work-6"),
        )
    ))
    ask(server, attempts, "once", "work-7")
    ask(server, attempts, "missing", "work-8")
    attempts[-1].ask(server)
    by_nonce = {attempt.nonce: attempt for attempt in attempts}
    by_nonce["work-2"].ask(server)
    ask(server, attempts, "count", "work-9")


def rest(server, attempts, fault):
    """After a second of it a seal is written, and synced: unless that is where the fault was."""
    ask(server, attempts, "echo", "rest-1")

    def is_over():
        if server.process.poll() is not None:
            return True
        if not is_sealed(segment(server.directory, 1)):
            return False
        end = used_bytes(server.directory, 1)
        calls = [line for line in fault.lines() if line.startswith(("pwrite64(", "fdatasync("))]
        written = WRITE.search(calls[-2]) if len(calls) > 1 else None
        is_seals = written and in_sectors(int(written[3]) + int(written[2])) == end
        return bool(is_seals and SYNC.search(calls[-1]))

    until("the seal", is_over)


def change(server, attempts, _fault=None):
    """Into the next segment."""
    ask(server, attempts, "count", "change-1")
    ask(server, attempts, "echo", "change-2", {"big": BIG})
    ask(server, attempts, "count", "change-3")


def change_and_see(server, attempts, fault):
    """And on until the segment after it is there for good, or the fault has ended the service."""
    change(server, attempts)
    third = segment(server.directory, 3)

    def is_over():
        if server.process.poll() is not None:
            return True
        # The last of what making a segment does is to sync the directory.
        return os.path.exists(third) and any(DIRECTORY_SYNC.match(line) for line in fault.lines())

    until("the next segment", is_over)
    ask(server, attempts, "count", "change-4")


def little(server, attempts, _fault):
    ask(server, attempts, "echo", "little-1")
    ask(server, attempts, "count", "little-2")


# After an error in this call the service ...
ENDS, MAY_END, GOES_ON = "ends", "may end", "goes on"


class Scenario:
    """`thread`: the one that is traced, of a service that is ready; None: traced from its start,
    on the paths of the store."""

    def __init__(self, name, template, thread, workload, calls):
        self.name, self.template, self.thread = name, template, thread
        self.workload, self.calls = workload, calls


SCENARIOS = [
    Scenario("making", "none", None, little, {
        "/^mkdir": ENDS, "openat": MAY_END, "pwrite64": ENDS, "fdatasync": ENDS, "fsync": ENDS,
        "/^link": MAY_END, "/^unlink": MAY_END,
    }),
    Scenario("opening", "owed", None, little, {
        "pwrite64": ENDS, "fdatasync": ENDS, "fsync": ENDS, "write": KILL,
    }),
    Scenario("opening_once", "owed_once", None, little, {
        "pwrite64": ENDS, "fdatasync": ENDS, "fsync": ENDS,
    }),
    Scenario("working", "short", "executor", work, {
        "pwrite64": ENDS, "fdatasync": ENDS, "write": KILL,
    }),
    Scenario("resting", "short", "executor", rest, {"pwrite64": ENDS, "fdatasync": ENDS}),
    Scenario("changing", "full", "executor", change, {"pwrite64": ENDS, "fdatasync": ENDS}),
    # Until the link nothing has a name; a link for which the directory had no room gave none. Whether
    # the temporary name is gone makes no difference.
    Scenario("preparing", "full", "segments", change_and_see, {
        "openat": GOES_ON, "pwrite64": GOES_ON, "fdatasync": GOES_ON,
        "/^link": {EIO: ENDS, ENOSPC: GOES_ON}, "fsync": ENDS, "/^unlink": GOES_ON,
    }),
]


def one(binary, base, made, scenario, call, action, count):
    """One run with one fault; whether it was met, and how many were told `outcome_unknown`."""
    directory = tempfile.mkdtemp(dir=base)
    server = None
    try:
        attempts = made[scenario.template].copy(directory)
        log = os.path.join(directory, "trace")
        fault = Fault(log, call, action, count, TRACED)
        if scenario.thread:
            server = Server(binary, directory).must_be_ready()
            if scenario.thread == "segments":
                wait_for(segment(directory, 2), server)
            fault.attach(server, scenario.thread)
            is_ready = True
        else:
            store = os.path.join(directory, "store")
            first = segment(directory, 1)
            paths = [store, first, f"{first}.tmp", os.path.join(directory, "count")]
            # Names are looked up under the directory's handle, the first that is opened.
            paths += [f"/proc/self/fd/3/{os.path.basename(path)}" for path in (first, f"{first}.tmp")]
            server = Server(binary, directory, prefix=fault.prefix(paths))
            is_ready = server.wait_ready()
        if is_ready:
            scenario.workload(server, attempts, fault)
        met = end_of(server, scenario, call, action, fault)
        unknown = sum(attempt.unknown for attempt in attempts if attempt.stored is None)
        states = [directory]
        if scenario.thread == "executor" and met:
            states += weakened(directory, fault, action)
        for state in states:
            check(binary, state, attempts, audit=state == directory and action == KILL)
        return met, unknown
    finally:
        if server:
            server.kill()
        shutil.rmtree(directory, ignore_errors=True)


def end_of(server, scenario, call, action, fault):
    """Sees the service end, by the fault or as an error demands it, else by our kill. Whether the
    fault was met."""
    if action == KILL:
        # What was asked for is over: a service that still answers was not killed on the way.
        if server.answers():
            server.kill()
            return False
        code = server.wait()
        expect(code == -signal.SIGKILL, f"it ended with {code}: {server.tail()}")
        return True
    met = fault.was_injected()
    then = scenario.calls[call]
    if isinstance(then, dict):
        then = then[action]
    if not met:
        # Before our kill a seal may still meet it, if the machine stalls for a second here.
        code = server.kill()
        met = fault.was_injected()
        expect(met or code == -signal.SIGKILL, f"it ended with {code}: {server.tail()}")
        return met
    if then == ENDS:
        code = server.wait()
        expect(code == INPUT_OUTPUT, f"it ended with {code}: {server.tail()}")
        lines = fault.lines()
        at = next(n for n, line in enumerate(lines) if "(INJECTED)" in line)
        wrote = [line for line in lines[at + 1:] if "pwrite64" in line]
        expect(scenario.thread != "executor" or not wrote, f"it wrote on after the error: {wrote}")
        return met
    if then == GOES_ON:
        wait_for(segment(server.directory, 3), server)
    # Where it may end, it may be about to.
    code = server.kill()
    allowed = (-signal.SIGKILL, INPUT_OUTPUT) if then == MAY_END else (-signal.SIGKILL,)
    expect(code in allowed, f"it ended with {code}: {server.tail()}")
    return met


WRITE = re.compile(r"pwrite64\(\d+<([^>]+)>, .*, (\d+), (\d+)\)\s+= (\S+)")
SYNC = re.compile(r"fdatasync\(\d+<([^>]+)>\)\s+= 0")
DIRECTORY_SYNC = re.compile(r"fsync\(\d+<([^>]+)>\)\s+= 0")


def weakened(directory, fault, action):
    """Copies of the state as a power cut could have left it: what was written and not synced is
    lost, or every second sector of it. For ENOSPC, which leaves what EIO does, none."""
    pending = None
    for line in fault.lines():
        write, sync = WRITE.search(line), SYNC.search(line)
        if write and write[4].isdigit():
            pending = (os.path.basename(write[1]), int(write[3]), int(write[2]))
        elif sync:
            pending = None
    if pending is None:
        return []
    name, offset, length = pending
    sectors = (length + SECTOR - 1) // SECTOR
    losses = {
        KILL: [range(0, sectors, 2), range(1, sectors, 2)] if sectors > 1 else [],
        EIO: [range(sectors)],
        ENOSPC: [],
    }[action]
    states = []
    for number, lost in enumerate(losses):
        state = os.path.join(directory, f"weak-{number}")
        copy_state(directory, state)
        with open(os.path.join(state, "store", name), "r+b") as file:
            for sector in lost:
                file.seek(offset + sector * SECTOR)
                file.write(b"\n" * SECTOR)
        states.append(state)
    return states


def check(binary, directory, attempts, audit):
    store = os.path.join(directory, "store")
    if os.path.isdir(store) and any(name.endswith(".jsonl") for name in os.listdir(store)):
        counts = runs_counted(os.path.join(directory, "count"))
        check_runs(attempts, Ledger(store), counts)
    server = Server(binary, directory).must_be_ready()
    try:
        check_all(binary if audit else None, server, [attempt.copy() for attempt in attempts])
    finally:
        server.kill()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--only")
    options = parser.parse_args()
    common.need("strace")
    base = common.scratch()
    report = Report()
    totals, lock = {}, threading.Lock()

    def chain(scenario, call, action):
        count = met = unknown = failed = 0
        while True:
            count += 1
            name = f"{scenario.name}, {call} {count}, {action}"
            done = report.case(name, one, options.binary, base, made, scenario, call, action, count)
            failed += done is None
            if done is None and count < CALLS_MAX and failed < FAILURES_MAX:
                continue
            if done is None or not done[0]:
                break
            met, unknown = met + 1, unknown + done[1]
        report.case(f"{scenario.name}, {call}, {action}: met", expect, met > 0, "never met")
        print(f"{scenario.name}, {call}, {action}: {met} met", flush=True)
        with lock:
            faults, untold = totals.get(scenario.name, (0, 0))
            totals[scenario.name] = (faults + met, untold + unknown)

    try:
        made = templates(options.binary, base)
        chains = [
            (scenario, call, action)
            for scenario in SCENARIOS
            if options.only in (None, scenario.name)
            for call, then in scenario.calls.items()
            for action in ((KILL,) if then == KILL else (KILL, EIO, ENOSPC))
        ]
        with ThreadPoolExecutor(options.workers) as pool:
            for done in [pool.submit(chain, *arguments) for arguments in chains]:
                done.result()
    finally:
        shutil.rmtree(base, ignore_errors=True)
    for name, (faults, unknown) in totals.items():
        print(f"{name}: {faults} faults met, {unknown} requests left without an answer")
    report.end()


if __name__ == "__main__":
    main()
