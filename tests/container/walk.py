"""Everything that the service does, once, in a bundle: every command of the execution host, every
route, every built-in handler, both modes, all three listeners, a kill and a restart.

What it asserts is what a user would miss. tests/container/calls.py takes one system call after the
other away and expects this to fail.
"""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time

import common
from bundle import SETTINGS, USER, Service
from common import expect

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../python"))
from approval import sign  # noqa: E402

TENANT = "acme"
CLAWSHIELD = {
    **SETTINGS,
    "OPENEXEC_MODE": "clawshield",
    "CLAWSHIELD_TENANT_ID": TENANT,
    "OPENEXEC_KEYS_FILE": "/keys/keys.json",
    "OPENEXEC_APPROVALS_DIR": "/approvals",
    "OPENEXEC_LOG_KEY_FILE": "/keys/log.pem",
    "OPENEXEC_LOG_ORIGIN": "example.com/walk",
    "OPENEXEC_CHECKPOINT_FILE": "/log/checkpoint",
    "OPENEXEC_MAX_CONNECTIONS": "8",
}
DEMO = {
    **SETTINGS,
    "OPENEXEC_DB_URL": "file:/data/demo",
    "OPENEXEC_LISTEN": "0.0.0.0:5000",
    "OPENEXEC_ALLOW_EXPOSED_DEMO": "yes",
}
MAIL = {"to": ["a@example.org"], "subject": "s", "text": "t"}
CHARGE = {"amount": 1999, "currency": "USD", "customer": "c-1"}
OLD, NEW = "old content\n", "new content\n"
EXECUTIONS = [
    ("echo", {"msg": "hello world"}, lambda result: result["echo"]["msg"] == "hello world"),
    # Too long for one write into a socket that nobody empties meanwhile.
    ("echo", {"long": "x" * 900_000}, lambda result: len(result["echo"]["long"]) == 900_000),
    ("add", {"a": 2, "b": 3}, lambda result: result == {"sum": 5}),
    ("enqueue", {"queue": "print", "job": {"page": 1}}, lambda result: "queued" in result),
    ("send_email", MAIL, lambda result: "queued" in result),
    ("charge_card", CHARGE, lambda result: "queued" in result),
    ("write_file", {"path": "made.txt", "content": OLD}, lambda result: "written" in result),
    # In place of another, whose mode it keeps.
    ("write_file", {"path": "made.txt", "content": NEW}, lambda result: "written" in result),
    ("write_file", {"path": "gone.txt", "content": OLD}, lambda result: "written" in result),
    ("delete_file", {"path": "gone.txt"}, lambda result: "deleted" in result),
]


class Approver:
    """A person with a key, elsewhere: not confined, and not in the container."""

    def __init__(self, binary, directory):
        self.binary = os.path.abspath(binary)
        self.key, self.log_key = (os.path.join(directory, name) for name in ("alice.pem", "log.pem"))
        for key in (self.key, self.log_key):
            generate = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", key]
            subprocess.run(generate, check=True, capture_output=True)
        public = ["openssl", "pkey", "-in", self.key, "-pubout"]
        self.public = subprocess.run(public, check=True, capture_output=True).stdout.decode()

    def keys(self, bundle):
        """Leaves the keys file, and the log's own key, where the service looks for them."""
        path = bundle.at("keys", "keys.json")
        with open(path, "w", encoding="ascii") as file:
            json.dump({"keys": [{"name": "alice", "public_key": self.public}]}, file)
        os.chmod(path, 0o644)
        log_key = bundle.at("keys", "log.pem")
        shutil.copy(self.log_key, log_key)
        os.chown(log_key, USER, USER)
        os.chmod(log_key, 0o400)

    def approve(self, bundle, action, payload):
        """Leaves an approval of the request where the service looks for it."""
        request = json.dumps({"action": action, "payload": payload})
        signed = sign(self.binary, self.key, TENANT, request)
        path = bundle.at("approvals", json.loads(signed)["action_hash"] + ".json")
        with open(path, "w", encoding="ascii") as file:
            file.write(signed)
        os.chmod(path, 0o644)


def walk(bundle, approver):
    approver.keys(bundle)
    for command in ("init", "check"):
        code, said = bundle.run(command, environment=CLAWSHIELD, seconds=common.PATIENCE_S)
        expect(code == 0, f"{command}: {code}: {said}")
    service = Service(bundle, CLAWSHIELD).must_be_ready()
    try:
        with open(os.path.join(service.store, "LOCK"), encoding="ascii") as lock:
            expect(lock.read().split()[0] == "1", "LOCK does not name process 1")
        for name in ("executor", "front", "gate"):
            service.thread(name)
        answers = execute_all(bundle, approver, service)
        read_all(service, answers)
        commands(service)
        expect(service.get("/ready").value() == {"ready": True}, "it is ready after all that")
    finally:
        service.kill()
    service = Service(bundle, CLAWSHIELD).must_be_ready()
    try:
        for nonce, (action, payload, body) in answers.items():
            again = service.execute(action, payload, nonce)
            expect(again is not None and again.body == body, f"{nonce} after a restart: {again}")
    finally:
        service.kill()
    for address in ("0.0.0.0:5000", "[::]:5000"):
        over_tcp(bundle, address)
    over_standard_input(bundle)
    refusals(bundle)


def execute_all(bundle, approver, service):
    """What each was answered, by nonce."""
    answers = {}
    for number, (action, payload, is_right) in enumerate(EXECUTIONS):
        nonce = f"walk-{number}"
        refused = service.execute(action, payload, nonce)
        expect(refused is not None and refused.code() == "approval_missing", f"{action}: {refused}")
        approver.approve(bundle, action, payload)
        answer = service.execute(action, payload, nonce)
        expect(answer is not None and answer.status == 200, f"{action}: {answer}")
        expect(is_right(answer.value()["result"]), f"{action}: {answer}")
        answers[nonce] = (action, payload, answer.body)
    for queue in ("print", "send_email", "charge_card"):
        jobs = [name for name in os.listdir(bundle.at("outbox", queue)) if name.endswith(".json")]
        expect(len(jobs) == 1, f"{queue} has the jobs {jobs}")
    with open(bundle.at("files", "made.txt"), encoding="utf-8") as file:
        expect(file.read() == NEW, "made.txt has another content")
    expect(sorted(os.listdir(bundle.at("files"))) == [".openexec-place", "made.txt"], "files were left over")
    return answers


def read_all(service, answers):
    body = json.loads(answers["walk-0"][2])
    for path in (
        "/", "/health", "/ready", "/version", "/metrics", "/actions", "/actions?format=openai",
        "/openapi.json", "/log/checkpoint", f"/receipts/{body['id']}/proof",
        "/log/consistency?from=1",
    ):
        answer = service.get(path)
        expect(answer.status == 200, f"{path}: {answer}")
    kept = service.get(f"/receipts/{body['id']}")
    expect(kept.body == answers["walk-0"][2], f"the receipt: {kept}")
    question = {"exec_id": body["id"], "result": body["result"], "receipt": body["receipt"]}
    verdict = service.ask("POST", "/receipts/verify", json.dumps(question))
    expect(verdict.value().get("recorded") is True, f"/receipts/verify: {verdict}")
    client = {"name": "walk", "version": "1"}
    hello = service.ask("POST", "/mcp", json.dumps({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client},
    }))
    expect(hello.status == 200 and "result" in hello.value(), f"/mcp: {hello}")
    expect(service.get("/nothing").status == 404, "there is something at /nothing")
    bounds(service)
    memory_is_given_back(service)


def bounds(service):
    """What does not end by itself is ended: a request that makes no sense is answered and its
    connection closed, and idle ones make room for new ones."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(common.PATIENCE_S)
        client.connect(service.socket)
        client.sendall(b"GET / HTTP/1.1\nHost: localhost\n\n")
        answer = http.client.HTTPResponse(client)
        answer.begin()
        expect(answer.status == 400 and answer.read(), "a bare line feed is understood")
        expect(client.recv(1) == b"", "a connection that makes no sense goes on")
    idle = []
    try:
        for _ in range(12):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            client.settimeout(common.PATIENCE_S)
            client.connect(service.socket)
            idle.append(client)
        expect(service.get("/health").status == 200, "idle connections keep others out")
        expect(idle[0].recv(1) == b"", "the first idle connection is still open")
    finally:
        for client in idle:
            client.close()


def memory_is_given_back(service):
    """A connection's threads and their stacks are gone with it."""
    def mapped():
        with open(f"/proc/{service.pid()}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[0]) * 4096

    before = mapped()
    for _ in range(300):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(service.socket)
    expect(service.get("/health").status == 200, "not healthy after 300 connections")
    grown = mapped() - before
    expect(grown < 16 << 20, f"300 connections left {grown} bytes mapped")


def commands(service):
    """Beside the running service, as `docker exec` runs them."""
    for command in (
        ["healthcheck"], ["pending"], ["actions"], ["checkpoint"],
        ["checkpoint", "--vkey"], ["verify", "--keys", "/keys/keys.json"],
        ["freeze", "--reason", "a walk"],
    ):
        code, said = service.container.execute(*command, seconds=common.PATIENCE_S)
        expect(code == 0, f"{command}: {code}: {said}")
    frozen = service.execute("echo", {}, "frozen")
    expect(frozen is not None and frozen.code() == "frozen", f"frozen: {frozen}")
    code, said = service.container.execute("unfreeze", seconds=common.PATIENCE_S)
    expect(code == 0, f"unfreeze: {code}: {said}")
    going_on = service.execute("echo", {}, "going on")
    expect(going_on.code() == "approval_missing", f"after unfreeze: {going_on}")


def over_tcp(bundle, address):
    container = bundle.container(["/openexec", "serve", "--listen", address], DEMO)
    try:
        deadline = time.monotonic() + common.PATIENCE_S
        while True:
            code, said = container.execute("healthcheck", seconds=common.PATIENCE_S)
            is_over = container.process.poll() is not None or time.monotonic() > deadline
            if code == 0 or is_over:
                break
            time.sleep(0.05)
        expect(code == 0, f"healthcheck at {address}: {code}: {said}{container.said()}")
    finally:
        container.kill()


def on_standard_input(bundle, given):
    return bundle.container(["/openexec"], {**DEMO, "OPENEXEC_LISTEN": "stdin"}, stdin=given)


def over_standard_input(bundle):
    """The socket is made in this network; the service has none, and answers all the same."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        container = on_standard_input(bundle, listener)
        try:
            client = http.client.HTTPConnection(*listener.getsockname(), timeout=common.PATIENCE_S)
            client.request("GET", "/health")
            answer = common.Answer(client.getresponse())
            expect(answer.status == 200, f"over standard input: {answer} {container.said()}")
            client.close()
        finally:
            container.kill()


def refusals(bundle):
    """What must not start does not, and what cannot go on ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener, \
            socket.create_connection(listener.getsockname()), listener.accept()[0] as connection:
        container = on_standard_input(bundle, connection)
        try:
            deadline = time.monotonic() + common.PATIENCE_S
            while "is no listening socket" not in container.said():
                expect(time.monotonic() < deadline, f"a connection served: {container.said()}")
                time.sleep(0.02)
        finally:
            container.kill()

    os.symlink("/data/store", bundle.at("run", "link"))
    within = {**CLAWSHIELD, "OPENEXEC_FILES_DIR": "/run/link"}
    code, said = bundle.run("check", environment=within, seconds=common.PATIENCE_S)
    expect(code == 78 and "keep them apart" in said, f"files in the store: {code}: {said}")

    # Found by the executor, when all the other threads are there.
    with open(bundle.at("data", "store", "00000001.jsonl"), "r+b") as segment:
        segment.seek(20)
        segment.write(b"?")
    code, said = bundle.run("serve", environment=CLAWSHIELD, seconds=common.PATIENCE_S)
    expect(code == 65 and "is damaged" in said, f"a damaged store: {code}: {said}")
