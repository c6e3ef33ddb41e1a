"""That something has not happened is said only where it is known: neither a refusal of a second try, nor a proxy's page, nor a
token file that is gone by then says anything of the first try."""

import json
import pathlib
import socket
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from answers import ID, PENDING, RESULT, client, ok, problem, propose, view
from conftest import Hostile, raw
from mcp import Client as McpClient

import openexec
from openexec import Tools, bridge, exec_id, receipt

Broken = bytes | Callable[[socket.socket], None]
LOST: list[Broken] = [lambda _: None, lambda wire: wire.sendall(ok()[:50]), problem(503, "outcome_unknown"), problem(408, "timeout"), raw(502, "<html>", "text/html")]
NO: list[Broken] = [
    problem(401, "unauthenticated"), problem(403, "caller_not_allowed"), problem(403, "browser_origin"), problem(404, "not_found"), problem(409, "nonce_conflict"),
    problem(413, "body_too_large"), problem(421, "host_not_allowed"), problem(422, "invalid_payload"), problem(429, "pending_full"), problem(500, "internal"),
    problem(503, "frozen", approved=False), problem(507, "store_full", approved=False), raw(403, "<html>", "text/html"), raw(404, "", "text/plain"), raw(429, "<html>", "text/html"),
    raw(302, "", "text/html", "Location: http://localhost/login"), raw(200, "<html>", "text/html"), raw(400, "{}"), ok(id="0" * 64),
]
# Of these not even one that comes first says that nothing was started.
PROXYS: list[Broken] = [
    raw(500, "<html>", "text/html"), raw(501, "", "text/plain"), raw(520, "<html>", "text/html"), raw(524, "<html>", "text/html"), raw(500, "{}"), raw(500, "{"),
    raw(429, "<html>", "text/html"), raw(429, "[]"), raw(408, "", "text/plain"), problem(500, "internal"), problem(501, "x"), problem(502, "x"), problem(504, "x"), problem(524, "x"),
]
CASES = [pytest.param([lost, no], id=f"{i}-{j}") for i, lost in enumerate(LOST) for j, no in enumerate([*NO, *PROXYS])]
CASES += [pytest.param([no], id=f"first-{j}") for j, no in enumerate(PROXYS)]


def is_honest(text: str) -> bool:
    return "obody knows" in text and "has not happened" not in text and "othing was" not in text


@pytest.mark.parametrize("answers", CASES)
def test_of_an_earlier_try_nothing_is_denied(hostile: Hostile, answers: list[Broken]) -> None:
    hostile.answers = list(answers)
    with pytest.raises(openexec.OpenExecError) as raised:
        propose(client(hostile.url, retry_seconds=5))
    assert raised.value.may_have_executed and not isinstance(raised.value, openexec.ConfigurationError)
    hostile.answers = list(answers)
    try:
        told = Tools(client(hostile.url, retry_seconds=5), "c").run("echo", {}, "1")
    except openexec.OpenExecError as error:
        assert error.may_have_executed and (isinstance(error, openexec.WrongAnswer) or is_honest(str(error)))
    else:
        assert told.state == "unknown" and told.is_error and told.id == exec_id("echo", {}, "c:1") and is_honest(told.text)
    assert len(set(hostile.bodies())) == 2, "each try of one call is the same"


def refused(**changes: Any) -> bytes:
    """What the service's MCP server says to a call."""
    body = {"type": "t", "title": "t", "status": 403, "detail": "d", "code": "caller_not_allowed", "id": None}
    result = {"content": [{"type": "text", "text": "{}"}], "structuredContent": body | changes, "isError": True}
    return raw(200, json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}))


PROTOCOLS_NO = raw(200, json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "no such tool"}}))


def bridged(hostile: Hostile, name: str = "echo", **settings: Any) -> str:
    """What the model reads of one call."""

    async def run() -> str:
        async with McpClient(bridge.server(url=hostile.url, retry_seconds=1, **settings)) as through:
            meta: Any = {"openexec/nonce": "n-1"}
            called = await through.call_tool(name, {}, meta=meta)
            assert called.is_error and (called.meta or {}).get("openexec/nonce", "n-1") == "n-1"
            return "\n".join(part.text for part in called.content if part.type == "text")

    return anyio.run(run)


TOOLS = raw(200, json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("echo", bridge.PROPOSAL)]}}))


@pytest.mark.parametrize("answers", [
    *([LOST[0], no] for no in (NO[0], NO[1], NO[8], NO[9], NO[10], NO[12], NO[14], NO[15], refused(), refused(code="nonce_conflict"), PROTOCOLS_NO)),
    *([LOST[2], no] for no in (NO[0], refused())), *([no] for no in (PROXYS[0], PROXYS[3], PROXYS[6], PROXYS[9], NO[12], NO[15], NO[16])),
], ids=range(20))
def test_a_model_gets_the_id_and_the_tool_to_ask(hostile: Hostile, answers: list[Broken]) -> None:
    hostile.always = {b'"tools/list"': TOOLS}
    hostile.answers = list(answers)
    said = bridged(hostile)
    assert is_honest(said) and f"The tool openexec_proposal says by this id what became of it: {exec_id('echo', {}, 'n-1')}" in said
    if PROTOCOLS_NO in answers:
        return
    hostile.answers = list(answers)
    said = bridged(hostile, bridge.PROPOSAL)
    # The question is no call, and an answer to it that is lost is nobody's execution.
    assert "has not happened" not in said and "could happen twice" not in said


def test_what_is_known_is_not_called_unknown(hostile: Hostile) -> None:
    """A first try's refusal; and of a second the outcome, which is that of both."""
    hostile.always = {b'"tools/list"': TOOLS}
    hostile.answers = [refused()]
    assert "Nobody knows" not in bridged(hostile)
    hostile.answers = [LOST[0], refused(code="handler_failed", status=500, outcome="failed", id=ID)]
    assert "Nobody knows" not in bridged(hostile)
    for no in NO[:9]:
        hostile.answers = [no]
        with pytest.raises(openexec.Problem) as raised:
            propose(client(hostile.url))
        assert not raised.value.may_have_executed
    result = {"failed": {"code": "handler_failed", "detail": "d"}}
    hostile.answers = [LOST[0], problem(500, "handler_failed", id=ID, outcome="failed", result=result, receipt=receipt(ID, result))]
    with pytest.raises(openexec.Failed) as failed:
        propose(client(hostile.url))
    assert not failed.value.may_have_executed
    hostile.answers = [LOST[0], problem(403, "expired", id=ID), view(state="expired")]
    with pytest.raises(openexec.Expired):
        propose(client(hostile.url))
    # That it is over is heard; only how is not.
    hostile.answers = [problem(403, "expired", id=ID), problem(403, "caller_not_allowed")]
    with pytest.raises(openexec.Problem, match="expired") as over:
        propose(client(hostile.url))
    assert not over.value.may_have_executed


def taking_away(token: pathlib.Path, answer: bytes = b"") -> Callable[[socket.socket], None]:
    def taken(wire: socket.socket) -> None:
        token.unlink()
        wire.sendall(answer)

    return taken


def test_a_token_file_that_is_gone_after_the_first_try(hostile: Hostile, tmp_path: pathlib.Path) -> None:
    token = tmp_path / "token"
    for first, may in ((b"", True), (problem(503, "outcome_unknown"), True), (problem(503, "frozen", approved=False), False)):
        token.write_text("openexec_a")
        hostile.answers = [taking_away(token, first)]
        with pytest.raises(openexec.NoAnswer, match="token file") as raised:
            propose(client(hostile.url, token_file=token, retry_seconds=5))
        assert raised.value.may_have_executed is may
    token.write_text("openexec_a")
    hostile.answers = [taking_away(token)]
    one = client(hostile.url, token_file=token)
    pause = one._sleep

    def replaced(seconds: float) -> None:
        pause(seconds)
        token.write_text("openexec_b")

    one._sleep = replaced
    hostile.answers += [ok()]
    assert propose(one).result == RESULT and b"openexec_b" in hostile.heard[-1]
    # Before anything is sent, it is what it was.
    token.write_text("two words")
    asked = len(hostile.heard)
    with pytest.raises(openexec.ConfigurationError):
        propose(one)
    assert len(hostile.heard) == asked


def test_a_certificate_that_is_no_longer_trusted(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile.answers = [lambda _: None]
    one = client(hostile.url, retry_seconds=5)
    ask = one._transport.ask

    def untrusted(*asked: Any) -> Any:
        if hostile.heard:
            raise openexec.ConfigurationError("the service's certificate is not trusted")
        return ask(*asked)

    monkeypatch.setattr(one._transport, "ask", untrusted)
    with pytest.raises(openexec.NoAnswer, match="not trusted") as raised:
        propose(one)
    assert raised.value.may_have_executed


def tools_raise(answer: bytes) -> bool:
    """What the agent's operator must see is raised."""
    return b"unauthenticated" in answer or b"<html>" in answer


PENDING_ANSWER = raw(202, json.dumps(PENDING))


@pytest.mark.parametrize("then", [problem(403, "caller_not_allowed"), problem(404, "not_found"), problem(401, "unauthenticated"), problem(429, "x"), raw(200, "<html>", "text/html")], ids=range(5))
def test_a_no_to_the_question_is_none_to_the_call(hostile: Hostile, then: bytes) -> None:
    """It is pending, and may be approved and executed meanwhile."""
    hostile.answers = [PENDING_ANSWER, then]
    with pytest.raises(openexec.OpenExecError) as raised:
        client(hostile.url).execute("echo", {"msg": "hi"}, nonce="n-1", timeout_seconds=5)
    assert raised.value.may_have_executed
    id = exec_id("echo", {}, "c:1")
    hostile.answers = [raw(202, json.dumps({"id": id, "state": "pending"})), then]
    tools = Tools(client(hostile.url), "c", wait_seconds=5)
    try:
        told = tools.run("echo", {}, "1")
        later = tools.answer_of(id)
    except openexec.OpenExecError as error:
        assert error.may_have_executed and tools_raise(then)
    else:
        assert told.state == "pending" and later.state == "unknown" and not tools_raise(then)
        for one in (told, later):
            assert one.id == id and "It has not happened" not in one.text and "will not" not in one.text


def test_a_token_that_is_gone_while_it_waits(hostile: Hostile, tmp_path: pathlib.Path) -> None:
    token = tmp_path / "token"
    token.write_text("openexec_a")
    hostile.answers = [taking_away(token, PENDING_ANSWER)]
    with pytest.raises(openexec.NoAnswer) as raised:
        client(hostile.url, token_file=token).execute("echo", {"msg": "hi"}, nonce="n-1", timeout_seconds=5)
    assert raised.value.may_have_executed
    token.write_text("openexec_a")
    hostile.answers = [taking_away(token, view())]
    with pytest.raises(openexec.NoAnswer):
        client(hostile.url, token_file=token).wait(ID, timeout_seconds=5)
    token.write_text("openexec_a")
    id = exec_id("echo", {}, "c:1")
    hostile.answers = [taking_away(token, raw(202, json.dumps({"id": id, "state": "pending"})))]
    told = Tools(client(hostile.url, token_file=token), "c", wait_seconds=5).run("echo", {}, "1")
    assert told.state == "pending" and told.id == id and "when the service was last heard" in told.text


def test_what_is_being_executed_is_not_told_as_not_happened(hostile: Hostile) -> None:
    id = exec_id("echo", {}, "c:1")
    hostile.answers = [raw(202, json.dumps({"id": id, "state": "executing"})), LOST[0]]
    told = Tools(client(hostile.url, retry_seconds=1), "c").run("echo", {}, "1")
    assert told.state == "executing" and told.is_open and is_honest(told.text)
