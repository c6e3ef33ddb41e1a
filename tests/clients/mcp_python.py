"""One release of the official Python SDK against the service: what a client of its age does.

usage: mcp_python.py DEMO_URL CLAWSHIELD_URL [MODE]

Ends with the SDK's and the protocol's version on standard output. With a MODE it is a client of the
second generation (`mcp.Client`); without one it is a session as the first generation has them.
"""

import asyncio
import contextlib
import importlib.metadata
import json
import sys
import uuid

import mcp

DEMO, CLAWSHIELD, *MODE = sys.argv[1:]


@contextlib.asynccontextmanager
async def first_generation(url):
    from mcp import types
    from mcp.client.streamable_http import streamablehttp_client

    async with streamablehttp_client(url) as streams, mcp.ClientSession(*streams[:2]) as session:
        begun = await session.initialize()

        async def call(name, arguments, **own):
            # `call_tool` of the oldest takes no `_meta`.
            params = types.CallToolRequestParams(**{"name": name, "arguments": arguments, "_meta": own})
            request = types.ClientRequest(types.CallToolRequest(method="tools/call", params=params))
            return await session.send_request(request, types.CallToolResult)

        yield begun.protocolVersion, begun.serverInfo.name, session.list_tools, call


@contextlib.asynccontextmanager
async def second_generation(url):
    async with mcp.Client(url, mode=MODE[0]) as client:

        async def call(name, arguments, **own):
            return await client.call_tool(name, arguments, meta=own)

        yield client.protocol_version, "openexec", client.list_tools, call


def read(answer):
    """Whether it is an error, the body as text and, where the SDK knows it, as an object, and `_meta`."""
    answer = answer.model_dump(by_alias=True)
    body = json.loads(answer["content"][0]["text"])
    assert answer.get("structuredContent", body) == body, answer
    return answer["isError"], body, answer["_meta"]


async def main():
    connected = second_generation if MODE else first_generation
    async with connected(f"{DEMO}/mcp") as (version, server, list_tools, call):
        assert server == "openexec", server
        assert {"echo", "add"} <= {tool.name for tool in (await list_tools()).tools}
        nonce = {"openexec/nonce": str(uuid.uuid4())}
        is_error, first, meta = read(await call("echo", {"msg": "hello"}, **nonce))
        assert not is_error and first["result"] == {"echo": {"msg": "hello"}}, first
        assert "openexec/replayed" not in meta, meta
        is_error, again, meta = read(await call("echo", {"msg": "hello"}, **nonce))
        assert not is_error and again == first and meta["openexec/replayed"] is True, meta
        # One bad value is told to the call that it stands in, and the session goes on.
        bad = {"number_out_of_range": 2**53 + 1, "too_deep": json.loads("[" * 70 + "]" * 70)}
        for code, value in bad.items():
            is_error, refused, _ = read(await call("echo", {"value": value}))
            assert is_error and refused["code"] == code, refused
        with contextlib.suppress(Exception):
            await call("nope", {})
        is_error, done, _ = read(await call("add", {"a": 2, "b": 3}))
        assert not is_error and done["result"] == {"sum": 5}, done
    async with connected(f"{CLAWSHIELD}/mcp") as (_, _, _, call):
        is_error, pending, _ = read(await call("echo", {"msg": "hello"}))
        assert not is_error and pending["state"] == "pending", pending
        is_error, followed, _ = read(await call("openexec_proposal", {"id": pending["id"]}))
        assert not is_error and len(followed["action_hash"]) == 64, followed
    print(f"Python SDK {importlib.metadata.version('mcp')}: {version}")


asyncio.run(asyncio.wait_for(main(), 120))
