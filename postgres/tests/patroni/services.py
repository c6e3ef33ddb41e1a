"""Nodes of OpenExec over the cluster, restarted as a supervisor does; callers that ask them without pause and remember what
they were told; and the log, read from the database and held to that."""

import base64
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter

from world import Host, expect, until

CALLERS = 4
PAUSE_S = 0.02
# What a supervisor starts again: another took over, input/output, and what this test has killed.
STARTED_AGAIN = (75, 74, -signal.SIGKILL)
QUEUE = "queue"
WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../examples/workers/postgres/worker.py")
# Nothing was recorded under that nonce: the answer says so.
NOTHING_DONE = ("standby", "store_unavailable", "frozen", "busy")


class Over(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Node:
    def __init__(self, binary, place, number, databases, log_key, clock):
        self.host = Host(f"node{number}", 20 + number)
        self.name, self.binary = self.host.name, binary
        self.place = os.path.join(place, self.name)
        os.makedirs(os.path.join(self.place, "run"), mode=0o700)
        self.socket, self.log = (os.path.join(self.place, name) for name in ("socket", "log"))
        self.checkpoint_file = os.path.join(self.place, "checkpoint")
        self.environment = {
            "PATH": "/usr/bin:/bin", "OPENEXEC_DB_URL": databases.url("serve"),
            "OPENEXEC_DB_PASSWORD_FILE": f"{databases.place}/serve.password", "OPENEXEC_LISTEN": f"unix:{self.socket}",
            "OPENEXEC_LOG_KEY_FILE": log_key, "OPENEXEC_LOG_ORIGIN": "example.com/cluster",
            "OPENEXEC_CHECKPOINT_FILE": self.checkpoint_file, "RUNTIME_DIRECTORY": f"{self.place}/run",
        }
        self.offset = os.path.join(self.place, "offset")
        self.set_clock(0)
        if clock:
            self.environment |= {
                "LD_PRELOAD": clock, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_NO_CACHE": "1",
                "FAKETIME_TIMESTAMP_FILE": self.offset,
            }
        self.process, self.started_again = None, STARTED_AGAIN
        # Each exit code that it ended with by itself or by this test.
        self.ends = []

    def set_clock(self, seconds):
        with open(self.offset + ".new", "w", encoding="ascii") as file:
            file.write(f"{seconds:+}s")
        os.replace(self.offset + ".new", self.offset)

    def start(self):
        if os.path.exists(self.socket):
            os.unlink(self.socket)
        self.process = self.host.start([self.binary, "serve"], self.log, self.environment)

    def tend(self):
        """What a supervisor does; whether it goes on."""
        code = self.process.poll() if self.process else None
        if code is None:
            return
        self.ends.append(code)
        self.process = None
        if code in self.started_again:
            self.start()

    def command(self, *words, **variables):
        """One of its commands to its end: exit code and what was said."""
        command = ["ip", "netns", "exec", self.name, self.binary, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120,
                              env={**self.environment, **variables})
        return done.returncode, done.stdout + done.stderr

    def ask(self, method, path, value=None):
        """Status and value; raises OSError or HTTPException where no answer came."""
        connection = Over(self.socket)
        try:
            body = json.dumps(value) if value is not None else None
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            text = answer.read()
            is_json = "json" in answer.headers.get("Content-Type", "")
            return answer.status, json.loads(text) if is_json else text.decode()
        finally:
            connection.close()

    def is_ready(self):
        try:
            return self.ask("GET", "/ready")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def tail(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return "".join([line for line in log if '"message":"executed"' not in line][-12:])


class Nodes:
    """Both, and their supervisor."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.is_over = False
        for node in nodes:
            node.start()
        self.thread = threading.Thread(target=self.tend, daemon=True)
        self.thread.start()

    def tend(self):
        while not self.is_over:
            for node in self.nodes:
                node.tend()
            time.sleep(0.5)

    def end(self):
        self.is_over = True
        self.thread.join()

    def ready(self):
        """The one that serves; None where none does."""
        return next((node for node in self.nodes if node.is_ready()), None)

    def active(self):
        """The one that is ready alone: who was overtaken says that it is until it has looked."""
        def alone():
            ready = [node for node in self.nodes if node.is_ready()]
            return ready[0] if len(ready) == 1 else None

        return until("one node is ready", alone)

    def other(self, one):
        return next(node for node in self.nodes if node is not one)

    def takes_over_from(self, one):
        """Waits until the other one is ready."""
        other = self.other(one)
        until(f"{other.name} takes over from {one.name}", other.is_ready)
        return other


class Told:
    """What callers were told of one nonce, if anything."""

    def __init__(self, leaves_job):
        self.leaves_job = leaves_job
        self.executed = None
        self.is_unknown = False


class Load:
    """Callers, each of which asks one thing after the other under nonces of its own."""

    def __init__(self, nodes, leaves_jobs=False):
        self.nodes = nodes
        # Every second thing that each caller asks for.
        self.leaves_jobs = leaves_jobs
        self.lock = threading.Lock()
        self.told = {}
        self.answered_at = []
        self.faults = []
        self.round = 0
        self.checkpoints = {}
        self.is_over = False
        # Set while they may ask.
        self.may_ask = threading.Event()
        self.idle = threading.Semaphore(0)
        self.threads = [threading.Thread(target=self.call, args=(n,), daemon=True) for n in range(CALLERS)]
        self.threads.append(threading.Thread(target=self.watch, daemon=True))
        for thread in self.threads:
            thread.start()
        self.await_idle()

    def begin(self, number):
        with self.lock:
            self.round, self.told, self.answered_at = number, {}, []
        self.may_ask.set()

    def pause(self):
        """Nobody asks any more, and nothing is on its way."""
        self.may_ask.clear()
        self.await_idle()

    def await_idle(self):
        for _ in range(CALLERS):
            expect(self.idle.acquire(timeout=120), "a caller has no answer yet")

    def has(self, count, since):
        """Waits for so many executions that were asked for and acknowledged after that moment."""
        until(f"{count} are acknowledged", lambda: sum(at > since for at in self.answered_at) >= count)

    def has_unknown(self):
        """Waits until a caller was told that the outcome is unknown."""
        until("an outcome is unknown", lambda: any(told.is_unknown for told in list(self.told.values())))

    def call(self, caller):
        number, turn = 0, caller
        while not self.is_over:
            if not self.may_ask.is_set():
                self.idle.release()
                self.may_ask.wait()
                continue
            number += 1
            nonce = f"r{self.round}-c{caller}-{number}"
            with self.lock:
                told = self.told[nonce] = Told(number % 2 == 0 and self.leaves_jobs)
            is_done = self.once(self.nodes.nodes[turn % 2], nonce, told)
            turn += 0 if is_done else 1
            time.sleep(PAUSE_S if is_done else 10 * PAUSE_S)

    def once(self, node, nonce, told):
        """Asks once; whether it was executed."""
        try:
            request = {"action": "echo", "payload": {"of": nonce}}
            if told.leaves_job:
                request = {"action": "enqueue", "payload": {"queue": QUEUE, "job": {"of": nonce}}}
            status, value = node.ask("POST", "/execute", {"nonce": nonce, **request})
        except (ConnectionRefusedError, FileNotFoundError):
            return False  # Nobody was there.
        except (OSError, http.client.HTTPException):
            told.is_unknown = True
            return False
        if status == 200:
            with self.lock:
                told.executed = value["id"]
                self.answered_at.append(time.monotonic())
            return True
        if status == 503 and value["code"] == "outcome_unknown":
            told.is_unknown = True
        elif status != 503 or value["code"] not in NOTHING_DONE:
            with self.lock:
                self.faults.append(f"{nonce}: {status} {value}")
        return False

    def watch(self):
        """Keeps each checkpoint that any node signs."""
        while not self.is_over:
            for node in self.nodes.nodes:
                try:
                    status, note = node.ask("GET", "/log/checkpoint")
                except (OSError, http.client.HTTPException):
                    continue
                if status == 200:
                    _, size, root = note.split("\n")[:3]
                    known = self.checkpoints.setdefault(int(size), root)
                    if known != root:
                        self.faults.append(f"two roots of {size} records: {known} and {root}")
                    with open(os.path.join(node.place, "newest"), "w", encoding="utf-8") as file:
                        file.write(note)
            time.sleep(0.5)

    def settle(self):
        """Asks again, with the same nonces, for all whose outcome is unknown; how many those were."""
        unknown = [nonce for nonce, told in self.told.items() if told.is_unknown and told.executed is None]

        def is_known(nonce):
            told = self.told[nonce]
            return any(self.once(node, nonce, told) for node in self.nodes.nodes)

        for nonce in unknown:
            until(f"{nonce} is known", lambda nonce=nonce: is_known(nonce))
        return len(unknown)


def leaf(line):
    return hashlib.sha256(b"\x00" + line.encode()).digest()


class Log:
    """The records, as the database has them: each once, and each checkpoint a root over its first ones."""

    def __init__(self, databases):
        self.databases = databases
        self.size, self.frontier = 0, []
        self.claims, self.receipts, self.completions = Counter(), Counter(), Counter()
        self.ids = {}

    def root(self):
        root = None
        for _, hash_ in reversed(self.frontier):
            root = hash_ if root is None else hashlib.sha256(b"\x01" + hash_ + root).digest()
        return base64.b64encode(root).decode()

    def add(self, line):
        record = json.loads(line)
        if record["kind"] == "claim":
            self.claims[record["nonce"]] += 1
            self.ids[record["nonce"]] = record["id"]
        elif record["kind"] == "receipt":
            self.receipts[record["id"]] += 1
        elif record["kind"] == "completion":
            self.completions[record["id"]] += 1
        height, hash_ = 0, leaf(line)
        while self.frontier and self.frontier[-1][0] == height:
            hash_ = hashlib.sha256(b"\x01" + self.frontier.pop()[1] + hash_).digest()
            height += 1
        self.frontier.append((height, hash_))
        self.size += 1

    def read(self, checkpoints):
        """Reads what is new; every checkpoint on the way must be a root of it."""
        leader = until("there is a leader", self.databases.leader)
        lines = leader.sql(f"SELECT line FROM openexec.rec WHERE n >= {self.size} ORDER BY n")
        expect(lines is not None, "the log cannot be read")
        seen = 0
        for line in lines.splitlines():
            self.add(line)
            if self.size in checkpoints:
                expect(checkpoints[self.size] == self.root(), f"the log is not under its checkpoint of {self.size}")
                seen += 1
        beyond = [size for size in checkpoints if size > self.size]
        expect(not beyond, f"the log has {self.size} records, and checkpoints of {beyond} were seen")
        return seen

    def holds(self, told):
        """What was acknowledged is there once; what is there was executed once; what was refused is not there."""
        for nonce, count in self.claims.items():
            expect(count == 1 and self.receipts[self.ids[nonce]] == 1, f"{nonce}: {count} claims, "
                   f"{self.receipts[self.ids[nonce]]} receipts")
        for nonce, of in told.items():
            if of.executed is not None:
                expect(self.ids.get(nonce) == of.executed, f"{nonce} was acknowledged as {of.executed}, and the log has "
                       f"{self.ids.get(nonce)}")
            elif not of.is_unknown:
                expect(nonce not in self.ids, f"{nonce} was refused, and is in the log")


class Worker:
    """The worker that is shipped, started again whenever it ends; what its command was given is in a file."""

    def __init__(self, place, databases):
        self.databases = databases
        self.performed = os.path.join(place, "performed")
        with open(self.performed, "wb"):
            pass
        self.environment = {"PATH": "/usr/bin:/bin", "PGSERVICEFILE": databases.service(), "PGSERVICE": "queue"}
        self.log = os.path.join(place, "worker.log")
        self.is_over = False
        # Held while it runs.
        self.running = threading.Lock()
        self.ends = Counter()
        threading.Thread(target=self.work, daemon=True).start()

    def work(self):
        # Debian's psycopg is of Debian's Python.
        command = ["/usr/bin/python3", WORKER, QUEUE, "sh", "-c", 'cat >>"$0"; echo >>"$0"', self.performed]
        while not self.is_over:
            with self.running, open(self.log, "ab") as log:
                self.ends[subprocess.run(command, env=self.environment, stdout=log, stderr=log, check=False).returncode] += 1
            time.sleep(0.2)

    def given(self):
        """How often each job was given to the command."""
        with open(self.performed, encoding="utf-8") as file:
            return Counter(json.loads(line)["id"] for line in file)

    def settle(self):
        """Waits until of every job is recorded what became of it. Of one whose taking was not confirmed the worker knows
        nothing: an operator gives it back."""
        def is_settled():
            leader = self.databases.leader()
            if leader is None:
                return False
            with self.running:
                given = self.given()
                taken = leader.sql("SELECT j.id FROM openexec.job j JOIN openexec.open_job USING (n) WHERE taken_at IS NOT NULL")
                for id_ in filter(None, (taken or "").splitlines()):
                    if id_ not in given:
                        leader.sql(f"SELECT openexec.release('{id_}')", user="op")
            return leader.sql("SELECT count(*) FROM openexec.open_job") == "0"

        until("every job has its end", is_settled, every=0.2)

    def holds(self, told, log):
        """Each job that was acknowledged was taken once, and its completion is recorded once."""
        leader = until("there is a leader", self.databases.leader)
        # The row of a job goes with the record of its end.
        until("no job has a row any more", lambda: leader.sql("SELECT count(*) FROM openexec.job") == "0", every=0.2)
        given = self.given()
        expect(sorted(given) == sorted(log.completions), f"{len(given)} taken, {len(log.completions)} with an end")
        for counted, what in ((given, "taken"), (log.completions, "ended")):
            more = [id_ for id_, count in counted.items() if count != 1]
            expect(not more, f"{what} more than once: {more[:3]}")
        for nonce, of in told.items():
            if of.leaves_job and of.executed is not None:
                expect(of.executed in given, f"{nonce} was acknowledged, and its job {of.executed} is not there")
        return len(given)

    def tail(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return f"{dict(self.ends)}\n" + "".join(log.readlines()[-12:])


def share_checkpoint(made, nodes):
    """The file that `init` made, for each node a copy: none of them signs against it."""
    for node in nodes:
        shutil.copy(made, node.checkpoint_file)
