"""A real service (its binary is in OPENEXEC, the approver's tool in OPENEXEC_APPROVE), and a hostile one."""

import os
import pathlib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/python"))

from boundary import Boundary, boundary  # noqa: E402

from openexec import Client  # noqa: E402


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENEXEC_URL", "OPENEXEC_TOKEN", "OPENEXEC_TOKEN_FILE", "OPENEXEC_CA_FILE"):
        monkeypatch.delenv(name, raising=False)


class Service:
    """The real one, with an approver `alice` whose tool is the real one too."""

    def __init__(self, one: Boundary) -> None:
        self.one = one
        self.at: pathlib.Path = one.at
        self.url: str = one.url

    def client(self, caller: str = "agent", **settings: Any) -> Client:
        return Client(self.one.url, token_file=self.at / f"{caller}.token", poll_seconds=0.02, **settings)

    def decide(self, command: str, id: str, *options: str) -> None:
        tool = [os.environ["OPENEXEC_APPROVE"], command, id, "--yes", "--key", str(self.at / "alice.pem"), *options]
        access = ["--url", self.one.url, "--token-file", str(self.at / "alice.token")]
        subprocess.run([*tool, *access], check=True, capture_output=True)

    def approve(self, id: str) -> None:
        self.decide("approve", id)

    def reject(self, id: str, reason: str) -> None:
        self.decide("reject", id, "--justification", reason)

    def report(self, queue: str, id: str, text: str) -> None:
        """What a worker says became of a job."""
        directory = self.at / "outbox" / queue / "outcome"
        (directory / f".{id}").write_text(text)
        (directory / f".{id}").rename(directory / f"{id}.json")

    def jobs(self) -> int:
        return len(list((self.at / "outbox").glob("*/*.json")))

    def refund(self, **changes: Any) -> dict[str, Any]:
        return {"order": "8841", "amount": 4900, "currency": "EUR"} | changes


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    with boundary(os.environ["OPENEXEC"], {"alice": None}, callers=["alice"]) as one:
        yield Service(one)


class Hostile:
    """A server of one's own bytes: each connection gets the next of `answers`, the last one for ever.

    An answer is bytes, or a function of the socket. What was asked is in `heard`, whole.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.context = context
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.answers: list[bytes | Callable[[socket.socket], None]] = []
        self.heard: list[bytes] = []
        # What is answered so whatever comes before and after, and is not kept.
        self.always: dict[bytes, bytes] = {}
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        try:
            with self.context.wrap_socket(connection, server_side=True) if self.context else connection as wire:
                asked = received(wire)
                if not asked:
                    return
                always = next((answer for word, answer in self.always.items() if word in asked), None)
                if always:
                    wire.sendall(always)
                    return
                self.heard.append(asked)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if callable(answer):
                    answer(wire)
                else:
                    wire.sendall(answer)
        except OSError:
            connection.close()

    def bodies(self) -> list[bytes]:
        return [asked.partition(b"\r\n\r\n")[2] for asked in self.heard]


def received(connection: socket.socket) -> bytes:
    """A whole request; nothing where it ends before."""
    asked = b""
    while b"\r\n\r\n" not in asked:
        piece = connection.recv(65536)
        if not piece:
            return b""
        asked += piece
    head = asked.partition(b"\r\n\r\n")[0]
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(asked) < len(head) + 4 + length and (piece := connection.recv(65536)):
        asked += piece
    return asked


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    server = Hostile()
    yield server
    server.listener.close()


def raw(status: int, body: str | bytes, kind: str = "application/json", *headers: str) -> bytes:
    """An answer as it goes over the wire."""
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data
