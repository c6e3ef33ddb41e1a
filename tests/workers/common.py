"""What the tests of examples/workers share: a boundary and a worker that can be killed."""

import hashlib
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "python"))
from service import ready  # noqa: E402

WORKERS = ROOT / "examples" / "workers"
PATIENCE_SECONDS = 120


def until(what, happened):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def id_of(request):
    """The exec_id, by the design's formula: ASCII payloads only, where json.dumps is RFC 8785."""
    text = json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Boundary:
    """openexec, in demo mode, with an outbox."""

    def __init__(self, binary, scratch, settings=None):
        self.binary, self.scratch, self.settings = binary, scratch, settings or {}
        self.outbox = scratch / "outbox"
        self.outbox.mkdir()
        self.address = None
        self.lock = threading.Lock()
        self.start()

    def start(self):
        environment = {
            "OPENEXEC_DB_URL": f"file:{self.scratch}/store",
            "OPENEXEC_OUTBOX_DIR": str(self.outbox),
            "OPENEXEC_LISTEN": "127.0.0.1:0",
            **self.settings,
        }
        log = open(self.scratch / "log", "ab")
        self.process = subprocess.Popen(
            [self.binary], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        self.address = ready(self.process, self.scratch / "store" / "LOCK").removeprefix("http://")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection(self.address, timeout=20)
        try:
            headers = {"Content-Type": "application/json"} if body else {}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def execute(self, request):
        """As a client should: asks with the same nonce until there is an answer."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                status, body = self.ask("POST", "/execute", json.dumps(request))
                if status != 503:
                    assert status == 200, body
                    assert body["id"] == id_of(request), body
                    return body
            except (OSError, ValueError, http.client.HTTPException):
                pass
            assert time.monotonic() < deadline, "no answer"
            time.sleep(0.02)


class Worker:
    """Passes of examples/workers/work over one queue, without a pause, until stopped."""

    def __init__(self, queue, environment, command=None):
        self.queue = queue
        self.command = [WORKERS / "work", queue, command or WORKERS / queue.name]
        self.environment = dict(os.environ, **environment)
        self.process = None
        self.stopping = False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stopping:
            self.process = subprocess.Popen(
                self.command, env=self.environment, start_new_session=True
            )
            self.process.wait()
            time.sleep(0.02)

    def kill(self, whole):
        """The pass alone, or with whatever it has started."""
        process = self.process
        try:
            if whole:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def stop(self):
        self.stopping = True
        self.thread.join()


def one_pass(queue, environment):
    """One pass, to its end; its exit status."""
    command = [WORKERS / "work", queue, WORKERS / queue.name]
    return subprocess.run(command, env=dict(os.environ, **environment)).returncode


def places(queue):
    """Names in the queue, taken/ and done/, without the lock, and without the report of a job in done/: a worker that is
    killed as it removes it leaves it."""
    waiting = {path.name for path in queue.iterdir() if path.is_file()} - {".lock"}
    taken, done = set(os.listdir(queue / "taken")), set(os.listdir(queue / "done"))
    left = {name.removesuffix(".json") + ".outcome" for name in done}
    return waiting, taken - left, done


def execute_all(boundary, requests):
    """Four clients ask for all of them; their answers by nonce."""
    answers = {}

    def client(part):
        for request in part:
            answers[request["nonce"]] = boundary.execute(request)
            time.sleep(random.uniform(0, 0.4))

    clients = [threading.Thread(target=client, args=(requests[n::4],)) for n in range(4)]
    for thread in clients:
        thread.start()
    return clients, answers


def with_crashes(boundary, worker, requests, is_done):
    """Asks for everything while both sides are killed at random; the answers, and the kills."""
    clients, answers = execute_all(boundary, requests)
    kills = {"boundary": 0, "worker": 0}
    while any(client.is_alive() for client in clients):
        time.sleep(random.uniform(0, 0.3))
        if random.random() < 0.5:
            boundary.kill()
            boundary.start()
            kills["boundary"] += 1
        else:
            worker.kill(whole=random.random() < 0.5)
            kills["worker"] += 1
    # The boundary has answered all; the worker is killed on, twenty times, then left to finish.
    for _ in range(20):
        time.sleep(random.uniform(0, 0.3))
        worker.kill(whole=random.random() < 0.5)
        kills["worker"] += 1
    until("everything is done", is_done)
    assert len(answers) == len(requests), "a client failed"
    return answers, kills


def scratch_directory():
    return tempfile.TemporaryDirectory(prefix="openexec-workers-")
