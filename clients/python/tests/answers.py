"""What the service answers to one call, and a client whose clock is moved by its own pauses."""

import json
from typing import Any

from conftest import raw

import openexec
from openexec import Client, exec_id, receipt

CALL: dict[str, Any] = {"action": "echo", "payload": {"msg": "hi"}, "nonce": "n-1"}
ID = exec_id(CALL["action"], CALL["payload"], CALL["nonce"])
RESULT = {"echo": {"msg": "hi"}}
EXECUTED: dict[str, Any] = {
    "action": "echo", "approved": True, "id": ID, "outcome": "executed", "receipt": receipt(ID, RESULT), "result": RESULT
}
PENDING = {"id": ID, "state": "pending"}
VIEW: dict[str, Any] = {**CALL, "id": ID, "state": "pending", "approvals": {"have": [], "missing": {"count": 1, "groups": {}}}}


def ok(**changes: Any) -> bytes:
    return raw(200, json.dumps({name: value for name, value in (EXECUTED | changes).items() if value is not None}))


def view(**changes: Any) -> bytes:
    return raw(200, json.dumps({name: value for name, value in (VIEW | changes).items() if value is not None}))


def problem(status: int, code: str, *headers: str, **more: Any) -> bytes:
    body = {"type": "about:blank", "title": "X", "status": status, "detail": "d", "code": code, **more}
    return raw(status, json.dumps(body), "application/problem+json", *headers)


def client(url: str, **settings: Any) -> Client:
    """One whose pauses take no time, and whose clock they move on."""
    made = Client(url, **settings)
    now = [0.0]
    made._clock = lambda: now[0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        slept.append(seconds)

    slept: list[float] = []
    made._sleep = sleep
    vars(made)["slept"] = slept
    return made


def propose(of: Client) -> openexec.Proposal:
    return of.propose("echo", {"msg": "hi"}, nonce="n-1")
