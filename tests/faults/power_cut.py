#!/usr/bin/env python3
"""Power cuts under load: a store on an ext4 of its own, which the kernel's shutdown ioctl stops at a
random moment, dropping what the journal and the page cache hold; then it is mounted again, its
journal replayed, and the service held to what it promised.

    power_cut.py BINARY [--cuts N] [--seed S]

BINARY is the example `fault_handlers`. Half of the moments are counted from the start of the process,
so that they fall into making and opening a store too, and half from when it is ready, so that they
fall into executions however slow the machine. The handlers count outside that file system.
"""

import argparse
import fcntl
import os
import random
import shutil
import struct
import threading
import time

import common
from common import (
    INPUT_OUTPUT, Attempt, Ledger, Mounted, Report, Server, check_kept, check_asked_again,
    check_runs, expect, runs_counted, verify,
)

EXT4_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
# Write the file system out first; write the journal out first; neither.
DEFAULT, LOGFLUSH, NOLOGFLUSH = 0, 1, 2
CLIENTS = 3
IMAGE_MIB = 192
# A new file system after so many cuts, so that making a store is among what they hit; or when it is
# half full: a fast machine must not come to its end.
LIFE_CUTS = 25
MOMENT_S_MAX = 0.5
SAMPLE = 60


def shut_down(directory, flag):
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(handle, EXT4_IOC_SHUTDOWN, struct.pack("=I", flag))
    finally:
        os.close(handle)


class Load:
    """Clients that ask without a pause, each request under its own nonce, until the end."""

    def __init__(self, server, random_, name):
        self.attempts = []
        self.problems = []
        self.over = threading.Event()
        self.threads = [
            threading.Thread(target=self.client, args=(server, random.Random(random_.random()), f"{name}-{n}"))
            for n in range(CLIENTS)
        ]
        for thread in self.threads:
            thread.start()

    def client(self, server, random_, name):
        number = 0
        try:
            while not self.over.is_set():
                number += 1
                kind = random_.random()
                action = "count" if kind < 0.5 else "echo" if kind < 0.8 else "once" if kind < 0.95 else "missing"
                size = random_.choice((10, 10, 1000, 20_000, 200_000))
                attempt = Attempt(action, {"x": "x" * size}, f"{name}-{number}")
                self.attempts.append(attempt)
                if attempt.ask(server) is None:
                    time.sleep(0.002)
                    # One that found nobody listening was never asked.
        except Exception as error:  # noqa: BLE001
            self.problems.append(f"{type(error).__name__}: {error}")

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
        expect(not self.problems, "; ".join(self.problems))


class Life:
    """One file system and the store on it, over several cuts."""

    def __init__(self, binary, base, number, random_):
        self.binary, self.random = binary, random_
        self.directory = os.path.join(base, f"life-{number}")
        os.makedirs(self.directory)
        self.disk = Mounted(self.directory, IMAGE_MIB)
        self.store = os.path.join(self.disk.at, "store")
        self.count = os.path.join(self.directory, "count")
        self.attempts = []
        self.number = 0

    def start(self):
        return Server(self.binary, self.directory, store=self.store)

    def cut(self):
        """Load, a cut, and the first promise: it opens."""
        self.number += 1
        flag = self.random.choices((NOLOGFLUSH, LOGFLUSH, DEFAULT), (6, 2, 1))[0]
        is_from_ready = self.random.random() < 0.5
        server = self.start()
        began = time.monotonic()
        load = Load(server, self.random, f"cut-{self.number}")
        try:
            moment = self.random.random() * MOMENT_S_MAX
            if is_from_ready:
                server.must_be_ready()
                began = time.monotonic()
            time.sleep(max(0, began + moment - time.monotonic()))
            shut_down(self.disk.at, flag)
            # What was on its way fails now, and is answered as that; then the process ends or
            # waits for more.
            time.sleep(0.02)
            code = server.process.poll()
            expect(code in (None, INPUT_OUTPUT), f"it ended with {code}: {server.tail()}")
        finally:
            server.kill()
            load.end()
            self.disk.unmount()
        self.disk.mount()
        if not load.attempts:
            return 0
        server = self.start().must_be_ready()
        try:
            self.attempts += load.attempts
            older = self.random.sample(self.attempts, min(SAMPLE, len(self.attempts)))
            self.hold(server, load.attempts[-SAMPLE:] + older)
        finally:
            server.kill()
        return sum(attempt.stored is not None for attempt in load.attempts)

    def hold(self, server, asked):
        ledger = Ledger(self.store)
        counts = runs_counted(self.count)
        check_runs(self.attempts, ledger, counts)
        known = {attempt.id for attempt in self.attempts}
        expect(set(counts) <= known, "something ran that was never asked for")
        # Of all, what the file says; of some, what the service says.
        for attempt in self.attempts:
            if attempt.stored:
                receipt = ledger.receipts.get(attempt.id)
                expect(receipt, f"{attempt.nonce}: acknowledged, and its receipt is gone")
                same = receipt["receipt"] == attempt.stored.value()["receipt"]
                expect(same, f"{attempt.nonce}: another receipt than the acknowledged one")
        check_kept(server, asked, ledger)
        for attempt in asked:
            attempt.unknown = 0
        check_asked_again(server, asked)
        check_runs(self.attempts, Ledger(self.store), runs_counted(self.count))

    def end(self):
        """Everything once more, and the audit."""
        server = self.start().must_be_ready()
        try:
            check_kept(server, self.attempts, Ledger(self.store))
        finally:
            server.kill()
        verify(self.binary, self.store)

    def is_half_full(self):
        room = os.statvfs(self.disk.at)
        return room.f_bavail < room.f_blocks / 2

    def remove(self):
        self.disk.unmount()
        shutil.rmtree(self.directory, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    common.need("mkfs.ext4", "mount", "umount", "unshare")
    common.own_mounts()
    base = common.scratch()
    reason = common.can_mount(base)
    if reason:
        shutil.rmtree(base)
        common.skip(f"no ext4 can be mounted here: {reason}")
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    random_ = random.Random(seed)
    report = Report()
    cuts = acknowledged = lives = 0
    try:
        while cuts < options.cuts:
            lives += 1
            life = Life(options.binary, base, lives, random_)
            answers = 0
            try:
                for _ in range(min(LIFE_CUTS, options.cuts - cuts)):
                    if life.is_half_full():
                        break
                    cuts += 1
                    name = f"cut {cuts} (seed {seed})"
                    answers = report.case(name, life.cut)
                    if answers is None:
                        break
                    acknowledged += answers
                # What a cut that failed has left says nothing about another.
                if answers is not None:
                    report.case(f"file system {lives} (seed {seed})", life.end)
            finally:
                life.remove()
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print(f"{cuts} cuts, {acknowledged} answers acknowledged before one")
    report.case("acknowledged", expect, acknowledged > 0, "no cut came after an answer")
    report.end()


if __name__ == "__main__":
    main()
