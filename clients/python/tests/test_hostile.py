"""The client against a service that is broken, and against one that is hostile."""

import json
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from answers import CALL, EXECUTED, ID, PENDING, RESULT, client, ok, problem, propose, view
from conftest import Hostile, raw

import openexec
from openexec import receipt
from openexec.transport import ANSWER_BYTES_MAX


def cut(at: int) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(ok()[:at])


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


@pytest.mark.parametrize("broken", [
    cut(0), cut(5), cut(30), cut(100), cut(len(ok()) - 1), reset,
    problem(503, "outcome_unknown"), problem(503, "frozen"), problem(503, "standby"), problem(507, "store_full"), problem(408, "timeout"),
    raw(502, "<html>", "text/html"), raw(503, "<html>", "text/html"), raw(504, "", "text/plain"), raw(503, "{}"), raw(502, '{"code":1}'),
    b"garbage\r\n\r\n", b"HTTP/1.1 99999 X\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
], ids=range(19))
def test_repeated_with_the_same_bytes(hostile: Hostile, broken: Any) -> None:
    hostile.answers = [broken, broken, ok()]
    assert propose(client(hostile.url)).result == RESULT
    assert len(hostile.heard) == 3 and len(set(hostile.heard)) == 1
    assert json.loads(hostile.bodies()[0]) == CALL


@pytest.mark.parametrize(("broken", "error", "may"), [
    (cut(0), openexec.NoAnswer, True), (cut(50), openexec.NoAnswer, True), (raw(502, "", "text/html"), openexec.NoAnswer, True),
    (problem(503, "outcome_unknown", id=ID), openexec.Unavailable, True), (problem(503, "frozen", approved=False), openexec.Unavailable, False),
    (problem(507, "store_full", approved=False), openexec.Unavailable, False), (problem(503, "busy"), openexec.Unavailable, False),
    (problem(503, "standby"), openexec.Unavailable, False), (problem(502, "busy", approved=False), openexec.Unavailable, True),
    # What a crash cut short waits, and is no refusal.
    (problem(503, "frozen"), openexec.Unavailable, True), (problem(503, "clock_jumped"), openexec.Unavailable, True),
    (problem(503, "store_unavailable", id=ID), openexec.Unavailable, True),
])
def test_bounded_and_honest(hostile: Hostile, broken: Any, error: type[openexec.NoAnswer], may: bool) -> None:
    hostile.answers = [broken]
    one = client(hostile.url, retry_seconds=20)
    with pytest.raises(error) as gave_up:
        propose(one)
    assert gave_up.value.may_have_executed is may
    slept = vars(one)["slept"]
    assert 3 < len(hostile.heard) < 40 and sum(slept) < 20 and len(set(hostile.heard)) == 1
    assert max(slept) <= 10


def test_a_refusal_after_a_lost_answer_says_so(hostile: Hostile) -> None:
    """Frozen now, but the first try may have been executed before."""
    hostile.answers = [cut(20), problem(503, "frozen", approved=False)]
    with pytest.raises(openexec.Unavailable) as gave_up:
        propose(client(hostile.url))
    assert gave_up.value.code == "frozen" and gave_up.value.may_have_executed


def test_a_service_that_is_gone_after_a_lost_answer(hostile: Hostile) -> None:
    """No try arrives any more, but the first may have."""
    def last(connection: socket.socket) -> None:
        hostile.listener.shutdown(socket.SHUT_RDWR)
        hostile.listener.close()

    hostile.answers = [last]
    with pytest.raises(openexec.NoAnswer, match="no connection") as gave_up:
        propose(client(hostile.url))
    assert gave_up.value.may_have_executed


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(openexec.NoAnswer) as gave_up:
        propose(client(f"http://127.0.0.1:{port}"))
    assert not gave_up.value.may_have_executed
    with pytest.raises(openexec.NoAnswer):
        propose(client("unix:/nonexistent/socket"))


@pytest.mark.parametrize("said", ["1", "7", "999999999", "9" * 400, "-1", "nan", "1e9", "", "soon", "Wed, 21 Oct 2099 07:28:00 GMT", "\u0663"])
def test_retry_after(hostile: Hostile, said: str) -> None:
    hostile.answers = [problem(503, "frozen").replace(b"\r\n\r\n", b"\r\nRetry-After: " + said.encode() + b"\r\n\r\n", 1), ok()]
    one = client(hostile.url, retry_seconds=100)
    assert propose(one).state == "executed"
    (slept,) = vars(one)["slept"]
    assert slept == {"1": 1, "7": 7, "999999999": 60, "9" * 400: 60}.get(said, slept) and slept <= 60


def test_a_pause_past_the_end_is_not_made(hostile: Hostile) -> None:
    hostile.answers = [problem(503, "frozen", "Retry-After: 3600")]
    one = client(hostile.url, retry_seconds=30)
    with pytest.raises(openexec.Unavailable):
        propose(one)
    assert vars(one)["slept"] == [] and len(hostile.heard) == 1


# A service that is hostile.


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_no_redirect_is_followed(hostile: Hostile, status: int) -> None:
    trap = Hostile()
    trap.answers = [ok()]
    hostile.answers = [raw(status, "{}", "application/json", f"Location: {trap.url}/execute")]
    one = client(hostile.url, token="openexec_secret")
    with pytest.raises(openexec.WrongAnswer):
        propose(one)
    with pytest.raises(openexec.WrongAnswer):
        one.proposal(ID)
    assert trap.heard == [] and len(hostile.heard) == 2


def test_no_proxy_of_the_environments(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = Hostile()
    trap.answers = hostile.answers = [ok()]
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, trap.url)
    propose(client(hostile.url, token="openexec_secret"))
    assert trap.heard == [] and b"Authorization: Bearer openexec_secret\r\n" in hostile.heard[0]


def endless(start: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(b"8000\r\n" + b" " * 0x8000 + b"\r\n" if b"chunked" in start else b" " * 0x10000)

    return answer


JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("start", [
    JSON + b"\r\n", JSON + b"Transfer-Encoding: chunked\r\n\r\n", JSON + b"Content-Length: 99999999999\r\n\r\n",
])
def test_an_endless_body(hostile: Hostile, start: bytes) -> None:
    hostile.answers = [endless(start)]
    with pytest.raises(openexec.WrongAnswer, match=str(ANSWER_BYTES_MAX)):
        propose(client(hostile.url))
    assert len(hostile.heard) == 1


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX: ", b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_an_endless_head(hostile: Hostile, start: bytes) -> None:
    line = b"X: y\r\n" if start.endswith(b"\n") and b"200" in start else start if b"100" in start else b"x" * 1000
    def answer(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(line)

    hostile.answers = [answer]
    with pytest.raises(openexec.NoAnswer):
        propose(client(hostile.url, retry_seconds=0, timeout_seconds=2))


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX: ", JSON + b"Content-Length: 1000000\r\n\r\n"])
def test_one_byte_at_a_time_ends_by_the_deadline(hostile: Hostile, start: bytes) -> None:
    """Each byte comes in time, all of them never: only a bound on the whole ends this."""
    ended = threading.Event()
    def answer(connection: socket.socket) -> None:
        connection.sendall(start)
        while not ended.wait(0.02):
            connection.sendall(b" ")

    hostile.answers = [answer]
    with pytest.raises(openexec.NoAnswer):
        propose(client(hostile.url, retry_seconds=0, timeout_seconds=0.5))
    ended.set()


@pytest.mark.parametrize("answer", [
    raw(200, "<html>", "text/html"), raw(200, json.dumps(EXECUTED), "text/html"), raw(200, json.dumps(EXECUTED), ""), raw(404, "", "text/html"),
    raw(200, ""), raw(200, "{"), raw(200, "null"), raw(200, "[]"), raw(200, "{}"), raw(200, b"\xff"), raw(200, "[" * 200_000), raw(204, ""),
    raw(200, '{"id":1e999}'), raw(200, '{"id":NaN}'), raw(200, json.dumps(EXECUTED)[:-1] + ',"approved":true}'),
    ok(id="0" * 64), ok(id=None), ok(id=7), ok(id=ID.upper()), ok(receipt="0" * 64), ok(receipt=None), ok(result={"echo": {}}),
    ok(result=None), ok(result=[]), ok(outcome="done"), ok(outcome="failed"), ok(outcome=None), ok(approved=False), ok(approved=None),
    ok(action="add"), raw(202, json.dumps(EXECUTED)), raw(200, json.dumps(PENDING)), raw(202, json.dumps(PENDING | {"id": "1" * 64})),
    raw(202, json.dumps(PENDING | {"state": "executed"})), raw(202, json.dumps(PENDING | {"state": "approved"})),
    problem(403, "approval_missing", id="1" * 64), problem(403, "approval_missing", id=5), problem(200, "x"), raw(403, "{}"), raw(400, "[]"),
    raw(403, json.dumps({"type": "x", "title": "x", "detail": "x", "code": "x", "status": 401}), "application/problem+json"),
    raw(500, json.dumps(EXECUTED | {"type": "", "title": "", "detail": "", "code": "x", "status": 500}), "application/problem+json"),
], ids=range(42))
def test_what_no_service_answers(hostile: Hostile, answer: bytes) -> None:
    hostile.answers = [answer]
    with pytest.raises(openexec.WrongAnswer):
        propose(client(hostile.url))
    assert len(hostile.heard) == 1, "it is not repeated"


DONE = {"state": "executed", "outcome": "executed", "result": RESULT, "receipt": receipt(ID, RESULT)}


@pytest.mark.parametrize("answer", [
    view(id="0" * 64), view(nonce="n-2"), view(payload={"msg": "ho"}), view(action="add"), view(nonce=None), view(payload="\ud800"),
    view(state="approved"), view(state=None), view(state=["pending"]), view(state="executed"), view(**DONE | {"outcome": "failed"}),
    view(**DONE | {"receipt": "0" * 64}), view(**DONE | {"result": {"echo": 1}}), view(approvals=[1]), view(approvals="x"), view(rejection="no"),
    view(**DONE, completion=1), view(**DONE, completion={"outcome": "paid", "result": {}, "receipt": ""}),
    view(**DONE, completion={"outcome": "executed", "result": {}, "receipt": "0" * 64}), raw(304, ""), raw(200, "[]"), raw(200, "1"),
], ids=range(22))
def test_views_that_contradict_themselves(hostile: Hostile, answer: bytes) -> None:
    hostile.answers = [answer]
    with pytest.raises(openexec.WrongAnswer):
        client(hostile.url).proposal(ID)


@pytest.mark.parametrize(("state", "error"), [
    ("failed", openexec.Failed), ("indeterminate", openexec.Indeterminate), ("refused", openexec.Refused), ("expired", openexec.Expired),
    ("withdrawn", openexec.Withdrawn), ("rejected", openexec.Rejected),
])
def test_each_end_has_its_type(hostile: Hostile, state: str, error: type[openexec.Ended]) -> None:
    outcome = {"outcome": state, "result": {"failed": {}}, "receipt": receipt(ID, {"failed": {}})} if state in ("failed", "indeterminate") else {}
    hostile.answers = [view(), view(state=state, **outcome)]
    with pytest.raises(error) as ended:
        client(hostile.url).wait(ID, timeout_seconds=60)
    assert ended.value.proposal.state == state
    if outcome:
        hostile.answers = [problem(500, "handler_failed", id=ID, **outcome)]
        with pytest.raises(error):
            propose(client(hostile.url))


def test_polls_with_the_etag_and_as_often_as_it_is_told(hostile: Hostile) -> None:
    def tagged(tag: str, answer: bytes) -> bytes:
        return answer.replace(b"\r\n\r\n", f"\r\nETag: {tag}\r\n\r\n".encode(), 1)

    unchanged = b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nRetry-After: 5\r\n\r\n'
    hostile.answers = [tagged('"a"', view()), unchanged, unchanged, tagged('"b"\x7f', view()), tagged('"c"', view(**DONE))]
    one = client(hostile.url)
    assert one.wait(ID, timeout_seconds=600).result == RESULT
    asked = [b'If-None-Match: "a"' in heard for heard in hostile.heard]
    assert asked == [False, True, True, True, False] and vars(one)["slept"] == [1.0, 5.0, 5.0, 1.0]


def test_waits_over_a_service_that_is_away(hostile: Hostile) -> None:
    hostile.answers = [cut(0)] * 30 + [problem(503, "standby")] * 30 + [view(**DONE)]
    assert client(hostile.url, retry_seconds=1).wait(ID, timeout_seconds=10_000).state == "executed"
    hostile.answers = [cut(0)]
    one = client(hostile.url, retry_seconds=1_000)
    with pytest.raises(openexec.NoAnswer):
        one.wait(ID, timeout_seconds=100)
    # No longer than it was told to, however long one call may be repeated.
    assert sum(vars(one)["slept"]) <= 100


def test_text_of_others_is_shown_as_one_line() -> None:
    body = {"type": "t", "title": "t", "status": 403, "code": "c\x1b[2J", "detail": "a\nb\u202e" + "x" * 10_000, "id": None}
    said = str(openexec.Problem(403, body))
    assert said.isprintable() and len(said) < 2_100 and openexec.Problem(403, body).detail == body["detail"]
