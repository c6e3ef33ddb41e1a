"""What the fault tests share: the service as a process, requests to it, an oracle that remembers
what was promised, a reader of the store that is not ours, and file systems that can be broken.

Standard library only; Linux. What needs root or a tool that is not there is skipped, and said.
"""

import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

PATIENCE_S = 120
SECTOR = 512
SEGMENT_BYTES = 16 * 1024 * 1024
INPUT_OUTPUT = 74
CONFIGURATION = 78
BLANK_PIECE = b"\n" * 65_536
# What a test ends with that could not run: no success, and no failure.
SKIPPED = 77


def skip(reason):
    print(f"skipped: {reason}", flush=True)
    sys.exit(SKIPPED)


def need(*tools):
    """Ends the test, skipped, where it cannot run."""
    if sys.platform != "linux":
        skip("this needs Linux")
    if os.geteuid() != 0:
        skip("this needs root")
    for tool in tools:
        if shutil.which(tool) is None:
            skip(f"there is no {tool}")


def scratch(on_disk=False):
    """A directory for short-lived files; in memory where there is room, since what is tested is
    the order of system calls and not the speed of this machine's disk."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # So that `finally` cleans up.
    memory = "/dev/shm"
    in_memory = not on_disk and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 << 30
    return tempfile.mkdtemp(prefix="openexec-faults-", dir=memory if in_memory else None)


class Report:
    """Counts what passed and what failed, from several threads."""

    def __init__(self):
        self.passed = 0
        self.failures = []
        self.lock = threading.Lock()

    def case(self, name, run, *arguments):
        """Runs one case; whatever it raises is its failure. Returns what it returned."""
        try:
            value = run(*arguments)
        except Exception as error:  # noqa: BLE001
            place = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{name}: {type(error).__name__}: {error} (line {place.lineno} of {place.name})"
            with self.lock:
                self.failures.append(text)
                print(f"FAILED {text}", flush=True)
            return None
        with self.lock:
            self.passed += 1
        return value

    def end(self):
        for failure in self.failures:
            print(f"FAILED {failure}")
        print(f"{self.passed} passed, {len(self.failures)} failed")
        sys.exit(1 if self.failures else 0)


def expect(condition, sentence):
    if not condition:
        raise AssertionError(sentence)


def until(what, happened, server=None):
    """Waits for what another process does, however slow the machine; not for one that has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        if server is not None and server.process.poll() is not None:
            raise AssertionError(f"{what}: it ended with {server.process.poll()}: {server.tail()}")
        expect(time.monotonic() < deadline, f"waited in vain: {what}")
        time.sleep(0.005)


# The service and requests to it.


class Over(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path, timeout=PATIENCE_S):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.body = response.read()
        self.replayed = response.headers.get("Idempotent-Replayed") == "true"

    def value(self):
        return json.loads(self.body)

    def code(self):
        return self.value().get("code")

    def is_stored_outcome(self):
        """Whether this answer was promised for ever."""
        return self.status == 200 or (
            self.status == 500 and self.code() in ("handler_failed", "indeterminate")
        )

    def __repr__(self):
        return f"{self.status} {self.body[:300]!r}"


class Server:
    """One process of the service. `prefix` is a command that starts it, as a tracer does."""

    def __init__(self, binary, directory, environment=None, prefix=(), store=None):
        self.directory = directory
        self.store = store or os.path.join(directory, "store")
        self.socket = os.path.join(directory, "socket")
        self.log = os.path.join(directory, "log")
        for stale in (self.socket, os.path.join(self.store, "LOCK")):
            if os.path.exists(stale):
                os.unlink(stale)
        variables = {
            "OPENEXEC_DB_URL": f"file:{self.store}",
            "OPENEXEC_LISTEN": f"unix:{self.socket}",
            "OPENEXEC_MAX_CONNECTIONS": "8",
            "COUNT_FILE": os.path.join(directory, "count"),
        }
        variables.update(environment or {})
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*prefix, os.path.abspath(binary)],
                env=variables, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        self.is_traced = bool(prefix)

    def wait_ready(self, ready=lambda answer: answer.status == 200):
        """True once `/ready` is as wanted, False if the process ended before."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                return False
            try:
                if ready(self.get("/ready")):
                    return True
            except OSError:
                pass
            except http.client.HTTPException:
                pass
            time.sleep(0.005)
        raise AssertionError(f"not ready after {PATIENCE_S} s: {self.tail()}")

    def must_be_ready(self):
        expect(self.wait_ready(), f"it ended with {self.process.poll()}: {self.tail()}")
        return self

    def get(self, path):
        return self.ask("GET", path)

    def ask(self, method, path, body=None):
        connection = Over(self.socket)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, body, headers)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def execute(self, action, payload, nonce):
        """The answer; None where the connection ended without one."""
        body = json.dumps({"action": action, "payload": payload, "nonce": nonce})
        try:
            return self.ask("POST", "/execute", body)
        except (OSError, http.client.HTTPException):
            return None

    def pid(self):
        """Of the service itself, not of a tracer; from its LOCK."""
        with open(os.path.join(self.store, "LOCK"), encoding="ascii") as lock:
            return int(lock.read().split()[0])

    def thread(self, name):
        """The kernel's id of the service's thread of that name, which it takes as it starts."""
        tasks = f"/proc/{self.pid()}/task"
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for task in os.listdir(tasks):
                try:
                    with open(f"{tasks}/{task}/comm", encoding="ascii") as comm:
                        if comm.read().strip() == name:
                            return int(task)
                except (FileNotFoundError, ProcessLookupError):
                    continue  # It has ended meanwhile: before the file was opened, or before it was read.
            time.sleep(0.002)
        raise AssertionError(f"there is no thread {name}")

    def wait(self, seconds=PATIENCE_S):
        return self.process.wait(seconds)

    def kill(self):
        if self.process.poll() is None:
            try:
                os.kill(self.pid() if self.is_traced else self.process.pid, signal.SIGKILL)
            except (OSError, ValueError, IndexError):
                self.process.kill()
        return self.process.wait(PATIENCE_S)

    def answers(self):
        """Whether anybody is there."""
        try:
            return self.get("/health").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def tail(self):
        with open(self.log, "rb") as log:
            return log.read()[-600:].decode(errors="replace")


def verify(binary, store):
    """`openexec verify` must find nothing wrong."""
    done = subprocess.run(
        [os.path.abspath(binary), "verify", store], env={}, capture_output=True, timeout=PATIENCE_S,
    )
    expect(done.returncode == 0, f"verify: {done.returncode}: {done.stderr.decode()}")


def together(*calls):
    """Runs the calls in threads of their own; waits for all."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# Faults in single system calls.


class Fault:
    """strace, making one system call of one thread go wrong. `action` is `signal=KILL`, which it
    delivers on entering, so that the call does not happen, or `error=EIO` and the like."""

    def __init__(self, log, syscall, action, count, also=()):
        self.log = log
        self.options = [
            "strace", "-o", log, "-s", "1", "-y", "-e", f"trace={','.join([syscall, *also])}",
            "-e", "signal=none", "-e", f"inject={syscall}:{action}:when={count}",
        ]

    def prefix(self, paths):
        """For starting the service under it; only calls on these paths count, those of each
        thread for themselves."""
        only = [option for path in paths for option in ("-P", path)]
        return [*self.options, "-f", "-qqq", *only]

    def attach(self, server, thread):
        """Traces one thread of a running service."""
        task = server.thread(thread)
        command = [*self.options, "-qqq", "-p", str(task)]
        self.tracer = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with open(f"/proc/{server.pid()}/task/{task}/status", encoding="ascii") as status:
                if not re.search(r"^TracerPid:\s+0$", status.read(), re.MULTILINE):
                    return self
            expect(time.monotonic() < deadline, "strace does not attach")
            time.sleep(0.002)

    def detach(self):
        self.tracer.terminate()
        self.tracer.wait(PATIENCE_S)

    def lines(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read().splitlines()

    def was_injected(self):
        """Whether the error happened."""
        return any("(INJECTED)" in line for line in self.lines())


# The store, read without our own code.


def text_of(segment):
    """A segment without the blank space at its end; no batch has that much of it inside."""
    pieces = []
    with open(segment, "rb") as file:
        while (piece := file.read(len(BLANK_PIECE))) and piece != BLANK_PIECE:
            pieces.append(piece)
    return b"".join(pieces).rstrip(b"\n\0")


def is_sealed(segment):
    """Whether the last batch is one without records."""
    lines = re.findall(rb"[^\n]+", text_of(segment))[-2:]
    return len(lines) == 2 and all(line.startswith(b'{"batch":') for line in lines)


class Ledger:
    """The records of the store in `directory`, as JSON Lines."""

    def __init__(self, directory):
        self.claims = {}
        self.receipts = {}
        self.retries = {}
        self.refusals = set()
        for name in sorted(os.listdir(directory)):
            if re.fullmatch(r"\d{8,}\.jsonl", name):
                self.read(text_of(os.path.join(directory, name)))

    def read(self, text):
        pending = []
        for line in re.findall(rb"[^\n]+", text):
            try:
                record = json.loads(line)
            except ValueError:
                return  # A torn tail.
            if record["kind"] != "commit":
                pending.append(record)
                continue
            for committed in pending:
                self.take(committed)
            pending = []

    def take(self, record):
        kind, identity = record["kind"], record.get("id")
        if kind == "claim":
            expect(identity not in self.claims, f"two claims of {identity}")
            self.claims[identity] = record
        elif kind == "receipt":
            expect(identity not in self.receipts, f"two receipts of {identity}")
            self.receipts[identity] = record
        elif kind == "retry":
            self.retries[identity] = self.retries.get(identity, 0) + 1
        elif kind == "refusal":
            self.refusals.add((identity, record["receipt"]))


def exec_id(action, payload, nonce):
    canonical = json.dumps(
        {"action": action, "nonce": nonce, "payload": payload}, sort_keys=True,
        separators=(",", ":"), ensure_ascii=False,
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def runs_counted(path):
    """How often each id was run, by the handlers' own count."""
    counts = {}
    if os.path.exists(path):
        with open(path, encoding="ascii") as lines:
            for line in lines:
                identity = line.split()[0]
                counts[identity] = counts.get(identity, 0) + 1
    return counts


# What was promised.


class Attempt:
    """One request under its own nonce, and what was answered to it so far."""

    def __init__(self, action, payload, nonce):
        self.action, self.payload, self.nonce = action, payload, nonce
        self.id = exec_id(action, payload, nonce)
        self.stored = None
        self.refusals = []
        self.unknown = 0

    def ask(self, server):
        answer = server.execute(self.action, self.payload, self.nonce)
        self.remember(answer)
        return answer

    def remember(self, answer):
        if answer is None or (answer.status == 503 and answer.code() == "outcome_unknown"):
            self.unknown += 1
        elif answer.status == 503 and answer.code() == "store_unavailable":
            # The store is being opened: nothing was decided, and nothing may be said of it.
            expect("approved" not in answer.value(), f"{self.nonce}: {answer}")
        elif answer.is_stored_outcome():
            if self.stored is None:
                self.stored = answer
            same = (answer.status, answer.body) == (self.stored.status, self.stored.body)
            expect(same, f"{self.nonce}: {answer} after {self.stored}")
        elif answer.value().get("approved") is False:
            self.refusals.append(answer)
        else:
            raise AssertionError(f"{self.nonce}: unexpected {answer}")

    def copy(self):
        twin = Attempt(self.action, self.payload, self.nonce)
        twin.stored, twin.refusals = self.stored, list(self.refusals)
        return twin


EFFECTFUL = ("count", "once")


def check_runs(attempts, ledger, counts):
    """Nothing ran twice but after a `retry` record, nothing ran that was not claimed before."""
    for attempt in attempts:
        runs = counts.get(attempt.id, 0)
        retries = ledger.retries.get(attempt.id, 0)
        expect(retries <= 1, f"{attempt.nonce}: {retries} retry records")
        expect(not retries or attempt.action != "once", f"{attempt.nonce}: once, and retried")
        expect(runs <= 1 + retries, f"{attempt.nonce}: ran {runs} times, {retries} retry records")
        expect(not runs or attempt.id in ledger.claims, f"{attempt.nonce}: ran without a claim")
        receipt = ledger.receipts.get(attempt.id)
        if receipt and receipt["outcome"] == "executed" and attempt.action in EFFECTFUL:
            expect(runs >= 1, f"{attempt.nonce}: executed, and never ran")


def check_kept(server, attempts, ledger):
    """Every answer given is there, byte for byte; what was not answered is absent or whole."""
    for attempt in attempts:
        known = server.get(f"/receipts/{attempt.id}")
        if attempt.stored:
            same = (known.status, known.body) == (attempt.stored.status, attempt.stored.body)
            expect(same, f"{attempt.nonce}: acknowledged {attempt.stored}, now {known}")
            replay = attempt.ask(server)
            expect(replay.replayed, f"{attempt.nonce}: answered anew, not a replay")
            continue
        is_whole = known.status == 404 or known.is_stored_outcome()
        expect(is_whole, f"{attempt.nonce}: neither absent nor complete: {known}")
        for refusal in attempt.refusals:
            value = refusal.value()
            expect(known.status == 404, f"{attempt.nonce}: refused, and executed: {known}")
            kept = (attempt.id, value["receipt"]) in ledger.refusals
            expect(kept or not value["recorded"], f"{attempt.nonce}: the refusal was not kept")


def check_asked_again(server, attempts):
    """Whoever had no answer asks again under the same nonce and gets one."""
    for attempt in attempts:
        if not attempt.stored and not attempt.refusals:
            known = server.get(f"/receipts/{attempt.id}")
            answer = attempt.ask(server)
            expect(answer is not None and not attempt.unknown, f"{attempt.nonce}: no answer again")
            if known.status != 404:
                same = (known.status, known.body) == (answer.status, answer.body)
                expect(same and answer.replayed, f"{attempt.nonce}: {known}, then {answer}")


def check_all(binary, server, attempts):
    """The whole of it, on a service just opened; ends with the service killed. `attempts` are
    copies, which it goes on asking. Without `binary` the audit is left out."""
    counts = os.path.join(server.directory, "count")
    ledger = Ledger(server.store)
    check_runs(attempts, ledger, runs_counted(counts))
    check_kept(server, attempts, ledger)
    check_asked_again(server, attempts)
    server.kill()
    if binary:
        verify(binary, server.store)
    check_runs(attempts, Ledger(server.store), runs_counted(counts))


# File systems that can be broken.


def run(*command):
    done = subprocess.run(command, capture_output=True, check=False)
    text = (done.stderr or done.stdout).decode(errors="replace").strip()
    expect(done.returncode == 0, f"{' '.join(command)}: {text}")
    return done.stdout.decode()


class Mounted:
    """A file system of its own at `directory`: ext4 in a file, or `tmpfs`."""

    def __init__(self, directory, mebibytes, kind="ext4"):
        self.at = os.path.join(directory, "mounted")
        self.image = os.path.join(directory, "image")
        self.mebibytes, self.kind = mebibytes, kind
        self.is_mounted = False
        os.makedirs(self.at, exist_ok=True)
        self.make()

    def make(self):
        if self.kind == "ext4":
            with open(self.image, "wb") as image:
                image.truncate(self.mebibytes << 20)
            # Plain: no lazy work that goes on behind the test, nothing kept for root.
            run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0",
                self.image)
        self.mount()

    def mount(self):
        if self.kind == "ext4":
            run("mount", "-o", "loop", self.image, self.at)
        else:
            run("mount", "-t", "tmpfs", "-o", f"size={self.mebibytes}m", "tmpfs", self.at)
        self.is_mounted = True

    def unmount(self):
        deadline = time.monotonic() + PATIENCE_S
        while self.is_mounted:
            done = subprocess.run(["umount", self.at], capture_output=True, check=False)
            if done.returncode == 0:
                self.is_mounted = False
            elif time.monotonic() > deadline:
                raise AssertionError(f"umount: {done.stderr.decode()}")
            else:
                time.sleep(0.01)


def own_mounts():
    """Goes on in a mount namespace of its own. A namespace that anybody makes meanwhile (a container, a
    service manager) begins as a copy of its parent's, with every file system mounted there: one that
    was shut down would live on in the copy, and mounting it again would bring back the dead one."""
    if "OWN_MOUNTS" not in os.environ:
        os.environ["OWN_MOUNTS"] = "yes"
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv]
        os.execvp(command[0], command)


def can_mount(directory, kind="ext4"):
    """Why not, or None."""
    trial = os.path.join(directory, "trial")
    try:
        mounted = Mounted(trial, 4, kind)
        mounted.unmount()
    except (AssertionError, OSError) as error:
        return str(error)
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    return None
