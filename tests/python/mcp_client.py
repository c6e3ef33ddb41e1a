"""The official MCP client against the service, in both revisions.

usage: mcp_client.py BINARY
"""

import asyncio
import hashlib
import json
import os
import re
import sys
import uuid

import requests
from mcp import Client
from mcp.shared.exceptions import MCPError
from service import approve, service

BINARY = os.path.abspath(sys.argv[1])
MODERN, LEGACY = "2026-07-28", "legacy"
CLIENTS = 50


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def named(nonce, approval=None):
    return {"openexec/nonce": nonce} | ({"openexec/approval": approval} if approval else {})


def executed(answer, action, nonce, payload, result):
    """The result is the body that /execute answers with, and its receipt holds."""
    assert answer.is_error is False, answer
    body = answer.structured_content
    assert body["approved"] is True and body["outcome"] == "executed" and body["result"] == result, body
    assert body["id"] == sha256(canonical({"action": action, "nonce": nonce, "payload": payload}))
    assert body["receipt"] == sha256(body["id"] + ":" + canonical(result))
    assert [part.type for part in answer.content] == ["text"]
    assert json.loads(answer.content[0].text) == body
    assert answer.meta["openexec/nonce"] == nonce
    return body


def refused(answer, code):
    assert answer.is_error is True, answer
    body = answer.structured_content
    assert body["code"] == code and body["approved"] is False, body
    assert json.loads(answer.content[0].text) == body
    return body


async def rejected(call, code):
    try:
        answer = await call
    except MCPError as error:
        assert error.error.code == code, error.error
        return error.error
    raise AssertionError(f"no error but {answer}")


async def demo(url, mode):
    async with Client(f"{url}/mcp", mode=mode) as client:
        assert client.protocol_version == (MODERN if mode != LEGACY else "2025-11-25")
        if mode != MODERN:
            # Told by server/discover, or initialize; a client that knows the version asks neither.
            assert client.server_info.name == "openexec", client.server_info
            assert "openexec/nonce" in client.instructions
            offers = client.server_capabilities
            assert offers.tools is not None and offers.prompts is None and offers.resources is None

        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        offered = [a for a in requests.get(f"{url}/actions").json()["actions"] if a["allowed"]]
        assert list(tools) == [*(action["action"] for action in offered), "openexec_proposal"], tools.keys()
        for action in offered:
            tool = tools[action["action"]]
            schema = {name: part for name, part in action["payload_schema"].items() if name != "$schema"}
            assert tool.input_schema == schema and tool.description == action["summary"]
            pure = action["effect"] == "pure"
            hints = tool.annotations
            assert (hints.read_only_hint, hints.idempotent_hint, hints.destructive_hint) == (pure, pure, not pure)
            assert tool.output_schema["type"] == "object"

        # A nonce of one's own: what comes again is the first answer, and nothing runs.
        nonce, payload = f"{mode}-{uuid.uuid4()}", {"a": 2, "b": 3.5}
        first = await client.call_tool("add", payload, meta=named(nonce))
        body = executed(first, "add", nonce, payload, {"sum": 5.5})
        again = await client.call_tool("add", payload, meta=named(nonce))
        assert again.content == first.content and again.structured_content == body
        # Through the other door it is the same execution.
        there = requests.post(f"{url}/execute", json={"action": "add", "payload": payload, "nonce": nonce})
        assert there.headers["Idempotent-Replayed"] == "true" and there.text == first.content[0].text
        refused(await client.call_tool("add", {"a": 1}, meta=named(nonce)), "nonce_conflict")

        # It can be followed by its id.
        shown = await client.call_tool("openexec_proposal", {"id": body["id"]})
        assert not shown.is_error and shown.structured_content["result"] == {"sum": 5.5}, shown
        assert requests.get(f"{url}/proposals/{body['id']}").text == shown.content[0].text
        unknown = await client.call_tool("openexec_proposal", {"id": "0" * 64})
        assert unknown.is_error and unknown.structured_content["code"] == "not_found", unknown

        # Without one, each call is a new one; the nonce that was made is told.
        fresh = [(await client.call_tool("add", payload)) for _ in range(2)]
        nonces = {answer.meta["openexec/nonce"] for answer in fresh}
        assert len(nonces) == 2 and all(re.fullmatch("[0-9a-f]{32}", n) for n in nonces), nonces
        for answer in fresh:
            executed(answer, "add", answer.meta["openexec/nonce"], payload, {"sum": 5.5})

        # An effect, once for a nonce.
        nonce, job = f"{mode}-{uuid.uuid4()}", {"queue": "print", "job": {"mode": mode}}
        for _ in range(2):
            answer = await client.call_tool("enqueue", job, meta=named(nonce))
        assert answer.structured_content["result"]["queued"]["job"].startswith("print/")

        detail = refused(await client.call_tool("add", {"a": "x"}), "invalid_payload")["detail"]
        assert detail.startswith("a does not keep to "), detail
        error = await rejected(client.call_tool("launch", {}), -32602)
        assert error.message == "Unknown tool: launch" and error.data["code"] == "unknown_action"
        assert error.data["receipt"] == sha256(error.data["id"] + ":" + canonical(error.data["result"]))
        for meta in ({"openexec/nonce": 7}, {"openexec/nonce": ""}, {"openexec/nonce": "n" * 257}):
            await rejected(client.call_tool("add", payload, meta=meta), -32602)
        await rejected(client.list_prompts(), -32601)


async def concurrent(url, mode, directory):
    """50 clients: a replay of one nonce each, and one effect for a nonce that all of them share."""
    shared = f"shared-{mode}"
    job = {"queue": shared, "job": {"n": 1}}

    async def one(number):
        async with Client(f"{url}/mcp", mode=mode) as client:
            own = f"{mode}-{number}"
            answers = [await client.call_tool("add", {"a": number, "b": 1}, meta=named(own)) for _ in range(3)]
            executed(answers[0], "add", own, {"a": number, "b": 1}, {"sum": number + 1})
            assert answers[0].content == answers[1].content == answers[2].content
            return (await client.call_tool("enqueue", job, meta=named(shared))).content[0].text

    answers = await asyncio.gather(*(one(number) for number in range(CLIENTS)))
    assert len(set(answers)) == 1, set(answers)
    assert len(list((directory / "outbox" / shared).glob("*.json"))) == 1


async def approvals(url, directory, mode):
    """A call that lacks approvals is pending, and can be followed; a client that could show a form is asked nothing."""

    async def asked(*_):
        raise AssertionError("nobody is to be asked through the client")

    async with Client(f"{url}/mcp", mode=mode, elicitation_callback=asked) as client:
        nonce, payload = f"{mode}-{uuid.uuid4()}", {"msg": f"hello {mode}"}
        request = canonical({"action": "echo", "payload": payload})
        pending = await client.call_tool("echo", payload, meta=named(nonce))
        id = sha256(canonical({"action": "echo", "nonce": nonce, "payload": payload}))
        assert not pending.is_error and pending.structured_content == {"id": id, "state": "pending"}, pending
        assert "openexec_proposal" in pending.content[1].text, pending
        body = (await client.call_tool("openexec_proposal", {"id": id})).structured_content
        assert (body["action_hash"], body["state"], body["approvals"]["missing"]["count"]) == (sha256(request), "pending", 1), body

        # By hand, in _meta.
        artifact = json.loads(approve(BINARY, directory, request))
        forged = artifact | {"signature": artifact["signature"][::-1]}
        refused(await client.call_tool("echo", payload, meta=named(nonce, forged)), "approval_malformed")
        forged = artifact | {"tenant_id": "tenant-2"}
        refused(await client.call_tool("echo", payload, meta=named(nonce, forged)), "approval_signature_invalid")
        other = {"msg": "something else"}
        refused(await client.call_tool("echo", other, meta=named(nonce, artifact)), "nonce_conflict")
        refused(await client.call_tool("echo", other, meta=named(nonce + "1", artifact)), "approval_hash_mismatch")
        answer = await client.call_tool("echo", payload, meta=named(nonce, artifact))
        body = executed(answer, "echo", nonce, payload, {"echo": payload})
        # The answer was lost: the call comes again, and needs no approval.
        again = await client.call_tool("echo", payload, meta=named(nonce))
        assert again.structured_content == body
        refused(await client.call_tool("echo", payload, meta=named(nonce + "2", artifact)), "approval_already_used")

        # By the approvals directory, without the agent.
        payload = {"msg": f"left there for {mode}"}
        id = (await client.call_tool("echo", payload, meta=named(nonce + "3"))).structured_content["id"]
        request = canonical({"action": "echo", "payload": payload})
        (directory / "approvals" / f"{sha256(request)}.json").write_text(approve(BINARY, directory, request))
        # It executes by itself.
        while (await client.call_tool("openexec_proposal", {"id": id})).structured_content["state"] != "executed":
            await asyncio.sleep(0.05)
        answer = await client.call_tool("echo", payload, meta=named(nonce + "3"))
        executed(answer, "echo", nonce + "3", payload, {"echo": payload})


async def main():
    with service(BINARY) as (url, directory):
        for mode in ("auto", MODERN, LEGACY):
            await demo(url, mode)
            await concurrent(url, mode, directory)
    with service(BINARY, clawshield=True) as (url, directory):
        for mode in (MODERN, LEGACY):
            await approvals(url, directory, mode)
    with service(BINARY, OPENEXEC_ALLOWED_ACTIONS="add") as (url, _):
        async with Client(f"{url}/mcp") as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["add", "openexec_proposal"]
            refused(await client.call_tool("echo", {}), "action_not_allowed")


asyncio.run(main())
print("mcp_client.py: the official client, both revisions, approvals, 50 at once")
