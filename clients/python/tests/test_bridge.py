"""openexec-mcp by the official SDK's own stdio client: what comes through is what the service says over HTTP."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
from answers import problem
from conftest import ROOT, Hostile, Service, raw
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ListToolsResult

from openexec import WrongAnswer, exec_id
from openexec.bridge import _read

PROGRAM = str(pathlib.Path(sys.executable).with_name("openexec-mcp"))


@asynccontextmanager
async def bridge(url: str, mode: Any = "auto", retry: str = "20", **environment: str) -> AsyncIterator[Client]:
    """The program, started as a client starts it."""
    started = StdioServerParameters(command=PROGRAM, args=["--retry-seconds", retry], env={"OPENEXEC_URL": url, **environment})
    async with Client(stdio_client(started), mode=mode) as client:
        yield client


def token(service: Service, caller: str = "agent") -> dict[str, str]:
    return {"OPENEXEC_TOKEN_FILE": str(service.at / f"{caller}.token")}


def named(nonce: str) -> Any:
    return {"openexec/nonce": nonce}


def text(answer: Any) -> str:
    return "\n".join(part.text for part in answer.content)


@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])
def test_the_same_as_over_http(service: Service, mode: str) -> None:
    async def run() -> None:
        head = {"Authorization": "Bearer " + (service.at / "agent.token").read_text().strip()}
        async with (
            httpx2.AsyncClient(headers=head) as http,
            Client(streamable_http_client(f"{service.url}/mcp", http_client=http)) as direct,
            bridge(service.url, mode, **token(service)) as client,
        ):
            through, there = (await client.list_tools()).tools, (await direct.list_tools()).tools
            assert [tool.model_dump() for tool in through] == [tool.model_dump() for tool in there]
            assert through[-1].name == "openexec_proposal"
            for name, arguments in [
                ("refund", service.refund()), ("refund", {"order": 1}), ("refund", service.refund(amount=10**6)),
                ("openexec_proposal", {"id": "0" * 64}), ("openexec_proposal", {"id": "x"}), ("openexec_proposal", {}), ("enqueue", {"queue": "refund", "job": {}}),
            ]:
                meta: Any = {"openexec/nonce": str(uuid.uuid4())}
                here, at = [await one.call_tool(name, arguments, meta=meta) for one in (client, direct)]
                assert (here.content, here.structured_content, here.is_error) == (at.content, at.structured_content, at.is_error)
                assert {name: value for name, value in (at.meta or {}).items() if name.startswith("openexec/")} == {
                    name: value for name, value in (here.meta or {}).items() if name.startswith("openexec/")} | (
                    {"openexec/replayed": True} if (at.meta or {}).get("openexec/replayed") else {})
            for name, arguments in [("nope", {}), ("", {}), ("refund", {"x": 2**53})]:
                said = []
                for one in (client, direct):
                    try:
                        said.append(text(await one.call_tool(name, arguments)))
                    except MCPError as error:
                        said.append((error.error.code, error.error.message))  # type: ignore[arg-type]
                assert said[0] == said[1] or ("number_out_of_range" in said[0] and "number_out_of_range" in said[1]), said

    anyio.run(run)


def test_approved_in_between(service: Service) -> None:
    async def run() -> None:
        async with bridge(service.url, **token(service)) as client:
            waits = await client.call_tool("refund", service.refund())
            id = waits.structured_content["id"]
            assert not waits.is_error and waits.structured_content["state"] == "pending" and "Do not call again" in text(waits)
            # A nonce of the bridge's own, for each call.
            assert (await client.call_tool("refund", service.refund())).structured_content["id"] != id
            await anyio.to_thread.run_sync(service.approve, id)
            with anyio.fail_after(60):
                while (seen := (await client.call_tool("openexec_proposal", {"id": id})).structured_content)["state"] != "executed":
                    await anyio.sleep(0.05)
            assert seen["result"]["queued"]["job"] == f"refund/{id}.json"
            other = (await client.call_tool("refund", service.refund())).structured_content["id"]
            await anyio.to_thread.run_sync(service.reject, other, "not twice")
            no = await client.call_tool("openexec_proposal", {"id": other})
            assert no.structured_content["state"] == "rejected" and "not twice" in text(no)

    anyio.run(run)


MCP_RESULT = {"content": [{"type": "text", "text": "{}"}], "structuredContent": {}, "isError": False}


LIST = b'"tools/list"'


def answered(**changes: Any) -> bytes:
    return raw(200, json.dumps({"jsonrpc": "2.0", "id": 1, "result": MCP_RESULT} | changes))


def test_each_wrong_answer_is_told_by_its_own_words() -> None:
    """An error of the protocol stays what it is, code and data too; only what is no result is called that."""
    with pytest.raises(MCPError) as refused:
        _read(ListToolsResult, {"error": {"code": -32602, "message": "no such cursor", "data": {"cursor": "x"}}})
    assert (refused.value.error.code, refused.value.error.message, refused.value.error.data) == (-32602, "no such cursor", {"cursor": "x"})
    for error in ({"code": "1", "message": "m"}, {"code": True, "message": "m"}, {"code": 1}, {}):
        with pytest.raises(WrongAnswer, match="no code or no message"):
            _read(ListToolsResult, {"error": error})
    for result in ({}, {"tools": None}, {"tools": [{"name": 1}]}):
        with pytest.raises(WrongAnswer, match="none that MCP has"):
            _read(ListToolsResult, {"result": result})


def test_a_lost_answer_is_asked_for_with_the_nonce_of_the_call(hostile: Hostile) -> None:
    hostile.always = {LIST: TOOLS}
    hostile.answers = [lambda _: None, problem(503, "outcome_unknown"), answered()]

    async def run() -> None:
        async with bridge(hostile.url) as client:
            assert not (await client.call_tool("echo", {"a": 1}, meta=named("n-1"))).is_error

    anyio.run(run)
    assert len(hostile.heard) == 3 and len(set(hostile.heard)) == 1
    assert json.loads(hostile.bodies()[0])["params"]["_meta"] == {"openexec/nonce": "n-1"}


TOOLS = answered(result={"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]})


@pytest.mark.parametrize(("answer", "word"), [
    (lambda _: None, "Nobody knows"), (problem(503, "outcome_unknown"), "Nobody knows"), (problem(503, "frozen", approved=False), "has not happened"),
    (problem(401, "unauthenticated"), "Ask the operator for a token"), (problem(403, "caller_not_allowed"), "caller_not_allowed"),
    (raw(200, "<html>", "text/html"), "not the service"), (raw(307, "{}", "application/json", "Location: http://localhost/"), "does not follow"),
    (raw(200, "{}"), ""), (answered(id=2), "no answer to this message"), (answered(result=7), "no answer to this message"), (raw(200, "[" * 100_000), "strict"),
    (answered(result=None, error={"code": "x"}), ""), (answered(result={"content": 7}), ""), (answered(result={}), ""),
])
def test_a_service_that_is_away_or_wrong_is_an_error_and_no_crash(hostile: Hostile, answer: Any, word: str) -> None:
    hostile.answers = [answer]

    async def run() -> None:
        async with bridge(hostile.url, retry="0") as client:
            for _ in range(2):
                try:
                    called = await client.call_tool("echo", {}, meta=named("n"))
                    assert called.is_error and word in text(called), called
                    if word == "Nobody knows":
                        assert exec_id("echo", {}, "n") in text(called)
                except MCPError as error:
                    assert word in str(error)
            with pytest.raises(MCPError):
                await client.list_tools()
            # It is there still, and the service is again.
            hostile.always, hostile.answers = {LIST: TOOLS}, [answered()]
            assert not (await client.call_tool("echo", {})).is_error

    anyio.run(run)


def test_nobody_there() -> None:
    async def run() -> None:
        async with bridge("http://127.0.0.1:1", retry="0") as client:
            called = await client.call_tool("echo", {})
            assert called.is_error and "not available" in text(called) and "has not happened" in text(called)
            with pytest.raises(MCPError, match="is not there"):
                await client.list_tools()

    anyio.run(run)


def test_what_is_not_sent(hostile: Hostile) -> None:
    hostile.answers = [answered()]

    async def run() -> None:
        async with bridge(hostile.url) as client:
            cases: list[tuple[dict[str, Any], str]] = [({"a": "x" * 10_000_000}, "body_too_large"), ({"a": 2**60}, "number_out_of_range")]
            for arguments, code in cases:
                called = await client.call_tool("echo", arguments)
                assert called.is_error and code in text(called) and len(text(called)) < 1_000
            assert hostile.heard == []

    anyio.run(run)


def test_a_cancelled_call_is_asked_no_second_time(hostile: Hostile) -> None:
    hostile.always = {LIST: TOOLS}
    hostile.answers = [problem(503, "frozen", "Retry-After: 1")]

    async def run() -> None:
        async with bridge(hostile.url, retry="600") as client:
            with anyio.move_on_after(60) as scope:
                async with anyio.create_task_group() as group:
                    first: dict[str, Any] = {"call": "first"}
                    group.start_soon(client.call_tool, "echo", first)
                    while not hostile.heard:
                        await anyio.sleep(0.02)
                    group.cancel_scope.cancel()
            assert not scope.cancelled_caught
            hostile.answers = [answered()]
            # Another call goes through meanwhile, and the first is not repeated before it.
            assert not (await client.call_tool("echo", {"call": "second"})).is_error

    anyio.run(run)
    calls = [json.loads(body)["params"]["arguments"]["call"] for body in hostile.bodies()]
    assert calls[-1] == "second" and calls.count("second") == 1


def test_the_configurations_of_the_page(service: Service) -> None:
    """Each as docs/agents.md prints it, with where this service is, started by the SDK as those clients start it."""
    section = (ROOT / "docs/agents.md").read_text().partition("## MCP over stdio")[2].partition("\n## ")[0]
    found = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", section, re.S)]
    assert len(found) == 4

    async def run(server: dict[str, Any]) -> None:
        assert server["command"].endswith("openexec-mcp") and set(server) <= {"type", "command", "args", "env"} and server.get("type", "stdio") == "stdio"
        assert server["env"].keys() == {"OPENEXEC_URL", "OPENEXEC_TOKEN_FILE"} and server["env"]["OPENEXEC_TOKEN_FILE"].endswith("/agent.token")
        async with bridge(service.url, **token(service)) as client:
            assert "refund" in [tool.name for tool in (await client.list_tools()).tools]

    for configuration in found:
        ((kind, servers),) = configuration.items()
        assert kind in ("mcpServers", "servers") and list(servers) == ["openexec"]
        anyio.run(run, servers["openexec"])


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    own = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run([PROGRAM, "--check", "--retry-seconds", "0"], env=own, capture_output=True, text=True, check=False)


def test_check(service: Service, tmp_path: pathlib.Path) -> None:
    done = run(OPENEXEC_URL=service.url, **token(service))
    assert done.returncode == 0 and " refund " in done.stdout and done.stdout.rstrip().endswith("openexec_proposal")
    cases: list[tuple[dict[str, str], int, str]] = [
        ({}, 69, "Ask the operator for a token"), ({"OPENEXEC_TOKEN": "a b"}, 78, "not one line"), ({"OPENEXEC_TOKEN_FILE": str(tmp_path / "x")}, 78, "cannot be read"),
        ({"OPENEXEC_URL": "http://127.0.0.1:1"}, 69, "is not there"), ({"OPENEXEC_URL": "http://example.com"}, 78, "plain HTTP"),
    ]
    for environment, status, word in cases:
        done = run(**{"OPENEXEC_URL": service.url, **environment})
        assert done.returncode == status and word in done.stderr and "Traceback" not in done.stderr and done.stdout == "", done


def test_the_client_goes_away(hostile: Hostile) -> None:
    """The end of stdin ends it, whatever it waits for; lines that are no messages do not."""
    def silent(connection: socket.socket) -> None:
        connection.recv(1)

    hostile.answers = [silent]
    asked = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {}}}
    lines = ["", "garbage", "[]", "{}", json.dumps(asked), '{"jsonrpc":"2.0","method":"notifications/initialized"}', json.dumps(call)]
    done = subprocess.run(
        [PROGRAM], input="\n".join(lines) + "\n", env={"PATH": os.environ["PATH"], "OPENEXEC_URL": hostile.url}, capture_output=True, text=True, timeout=120, check=False
    )
    assert '"serverInfo"' in done.stdout and "openexec" in done.stdout and done.returncode == 0, done


