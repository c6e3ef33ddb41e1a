"""Clients that send a body of which they do not know the length: each is answered as one that does.

usage: run.py OPENEXEC PYTHON_WITH_REQUESTS. Between client and service stands a relay that keeps what the client
said, so that a client that buffers and counts after all is found out."""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "python"))
from service import ready  # noqa: E402

BINARY, PYTHON = os.path.abspath(sys.argv[1]), sys.argv[2]
SCRATCH = pathlib.Path(tempfile.mkdtemp())


def start():
    store = SCRATCH / "store"
    environment = {"OPENEXEC_LISTEN": "127.0.0.1:0", "OPENEXEC_LOG": "error", "OPENEXEC_DB_URL": f"file:{store}"}
    service = subprocess.Popen([BINARY], env=environment)
    host, port = ready(service, store / "LOCK").removeprefix("http://").rsplit(":", 1)
    return service, (host, int(port))


class Relay:
    """Carries bytes both ways, and keeps those of the client."""

    def __init__(self, service):
        self.service = service
        self.said = b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client = self.listener.accept()[0]
            server = socket.create_connection(self.service)
            threading.Thread(target=self.carry, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self.carry, args=(server, client, False), daemon=True).start()

    def carry(self, source, target, keep):
        while piece := source.recv(65536):
            if keep:
                self.said += piece
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


def said(relay):
    """Head and body of the one request that the client sent."""
    head, _, body = relay.said.partition(b"\r\n\r\n")
    relay.said = b""
    return head.lower(), body


def main():
    go = SCRATCH / "go"
    go_environment = {**os.environ, "GO111MODULE": "off", "GOCACHE": str(SCRATCH / "go-cache")}
    subprocess.run(["go", "build", "-o", go, HERE / "main.go"], env=go_environment, check=True)
    clients = {
        "curl -T -": ["curl", "-sS", "-X", "POST", "-T", "-", "-H", "Content-Type: application/json",
                      "-w", "\n%{http_code}"],
        "requests, a generator": [PYTHON, HERE / "requests_generator.py"],
        "Node, fetch of a stream": ["node", HERE / "node.mjs"],
        "Java, ofInputStream": ["java", HERE / "Chunked.java"],
        "Go, an io.Reader": [go],
        ".NET as it would write": [PYTHON, HERE / "dotnet.py"],
    }
    service, address = start()
    try:
        relay = Relay(address)
        for name, command in clients.items():
            for nonce, filler in (("small", ""), ("large", "\u00fc" * 300_000)):
                payload = {"filler": filler, "client": name}
                nonce = f"{name}: {nonce}"
                request = json.dumps({"action": "echo", "nonce": nonce, "payload": payload}, ensure_ascii=False)
                ended = subprocess.run([*map(str, command), f"http://{relay.address}/execute"],
                                       input=request.encode(), capture_output=True, timeout=120)
                output = ended.stdout.decode().strip()
                assert ended.returncode == 0, f"{nonce}: {ended.stderr.decode()}"
                first, _, rest = output.partition("\n")
                status, body = (output.rsplit("\n", 1)[::-1]) if name.startswith("curl") else (first, rest)
                assert status == "200", f"{nonce}: {status}: {body[:300]} {ended.stderr.decode()}"
                assert json.loads(body)["result"] == {"echo": payload}, nonce
                head, sent = said(relay)
                assert b"transfer-encoding: chunked" in head and b"content-length" not in head, head
                assert sent.endswith(b"0\r\n\r\n"), nonce
            print(f"ok: {name}")
    finally:
        service.kill()
        service.wait()
        shutil.rmtree(SCRATCH)


main()
