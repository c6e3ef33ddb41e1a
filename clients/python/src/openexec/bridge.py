"""openexec-mcp: a server for MCP clients that start a program and speak to it over stdin and stdout.

It is a pipe to the service's own MCP server: the tools, results, refusals and what is pending come from there as they are. What it
adds is the nonce: one for each call (the client's own, where it sends one), kept while an answer is asked for again.
"""

import argparse
import importlib.metadata
import sys
import threading
import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

try:
    import anyio
    import anyio.to_thread
    import mcp_types as types
    from mcp.server.lowlevel import Server
    from mcp.server.stdio import stdio_server
    from mcp.shared.exceptions import MCPError
except ModuleNotFoundError as missing:
    raise SystemExit(f"openexec-mcp lacks {missing.name}: install the package as openexec[mcp]") from None

from openexec import errors, exact
from openexec.client import Client
from openexec.tools import UNKNOWN, failure, unknown

INSTRUCTIONS = (
    "Each tool call is one proposal: it is executed if it is allowed and approved, exactly as proposed, at most once. "
    "A refusal says why in `code` and `detail`. A call that lacks approvals is pending: it executes by itself once people have "
    "approved it. Do not repeat it; the tool openexec_proposal says by its id what became of it."
)
PROPOSAL = "openexec_proposal"
EX_UNAVAILABLE, EX_CONFIG = 69, 78


_Result = TypeVar("_Result", types.ListToolsResult, types.CallToolResult)


class _Cancelled(Exception):
    """The client wants no answer any more."""


async def _forward(settings: Mapping[str, Any], method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """One message, in a thread of its own. When it is cancelled, it is asked no second time."""
    cancelled = threading.Event()

    def ask() -> dict[str, Any]:
        client = Client(**settings)

        def pause(seconds: float) -> None:
            if cancelled.wait(seconds):
                raise _Cancelled

        client._sleep = pause
        return client.mcp(method, params)

    try:
        return await anyio.to_thread.run_sync(ask, abandon_on_cancel=True)
    finally:
        cancelled.set()


def server(**settings: Any) -> Server[Any]:
    """The bridge to the service of a `Client` with these settings."""

    async def list_tools(_: Any, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        cursor = {"cursor": params.cursor} if params and params.cursor else {}
        try:
            return _read(types.ListToolsResult, await _forward(settings, "tools/list", cursor))
        except (errors.OpenExecError, exact.Unsendable) as error:
            raise MCPError(types.INTERNAL_ERROR, _words(error)) from None

    async def call_tool(_: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        sent: Mapping[str, Any] = dict(params.meta or {})
        meta = {name: sent[name] for name in ("openexec/nonce", "openexec/approval") if name in sent}
        meta.setdefault("openexec/nonce", str(uuid.uuid4()))
        call = {"name": params.name, "arguments": params.arguments or {}, "_meta": meta}
        may_have_executed = False
        try:
            answer = await _forward(settings, "tools/call", call)
            may_have_executed = "may_have_executed" in answer and params.name != PROPOSAL
            result = _read(types.CallToolResult, answer)
        except (errors.OpenExecError, exact.Unsendable) as error:
            return _failed(call, error)
        except MCPError as error:
            if not may_have_executed:
                raise
            return _not_done(call, [error.error.message, UNKNOWN, *_follow(call)])
        known = result.structured_content or {}
        if may_have_executed and result.is_error and not known.keys() & {"outcome", "state"}:
            # The second try was refused. That says nothing of the first.
            result.content += [types.TextContent(type="text", text=text) for text in (UNKNOWN, *_follow(call))]
        return result

    version = importlib.metadata.version("openexec")
    return Server("openexec", version=version, instructions=INSTRUCTIONS, on_list_tools=list_tools, on_call_tool=call_tool)


def _read(kind: type[_Result], answer: Mapping[str, Any]) -> _Result:
    try:
        return kind.model_validate(_result(answer))
    except ValueError:
        raise errors.WrongAnswer("its result is none that MCP has") from None


def _result(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The result, less what a server says of itself; an error of the protocol stays one."""
    if "error" in answer:
        error = answer["error"]
        code, message = error.get("code"), error.get("message")
        if type(code) is not int or not isinstance(message, str):
            raise errors.WrongAnswer("its error has no code or no message")
        raise MCPError(code, message, error.get("data"))
    result = dict(answer["result"])
    meta = {name: value for name, value in (result.pop("_meta", None) or {}).items() if name.startswith("openexec/")}
    return {**result, "_meta": meta} if meta else result


def _failed(call: Mapping[str, Any], error: errors.OpenExecError | exact.Unsendable) -> types.CallToolResult:
    """No answer came, or nothing was sent. Where nobody knows, the id says what to ask for."""
    if isinstance(error, exact.Unsendable):
        return _not_done(call, [failure(error).text])
    if call["name"] == PROPOSAL:
        # It asks, and does nothing; of what it asks for it has heard nothing.
        return _not_done(call, [_words(error), "This says nothing of the proposal. Ask again later."])
    id = _id(call)
    try:
        told = failure(error, id)
    except errors.OpenExecError:
        more = [unknown(error, id).text, *_follow(call)] if error.may_have_executed else []
        return _not_done(call, [_words(error), *more])
    return _not_done(call, [told.text, *(_follow(call) if told.state == "unknown" else [])])


def _id(call: Mapping[str, Any]) -> str | None:
    """The proposal's; None where the service takes no such call."""
    try:
        return exact.exec_id(call["name"], call["arguments"], call["_meta"]["openexec/nonce"])
    except exact.Unsendable:
        return None


def _follow(call: Mapping[str, Any]) -> list[str]:
    id = _id(call)
    return [f"The tool {PROPOSAL} says by this id what became of it: {id}"] if id else []


def _not_done(call: Mapping[str, Any], said: list[str]) -> types.CallToolResult:
    meta = {"openexec/nonce": call["_meta"]["openexec/nonce"]}
    return types.CallToolResult.model_validate(
        {"content": [{"type": "text", "text": text} for text in said], "isError": True, "_meta": meta}
    )


def _words(error: Exception) -> str:
    hint = ""
    if isinstance(error, errors.Problem) and error.code == "unauthenticated":
        hint = " Ask the operator for a token, and set OPENEXEC_TOKEN_FILE."
    elif isinstance(error, errors.NoAnswer):
        hint = " The OpenExec service is not there."
    return f"{error}{hint}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="openexec-mcp", description="An MCP server over stdin and stdout, for the tools of an OpenExec service.",
        epilog="OPENEXEC_URL (http://127.0.0.1:5000), OPENEXEC_TOKEN_FILE or OPENEXEC_TOKEN, and OPENEXEC_CA_FILE say which service.",
    )
    parser.add_argument("--check", action="store_true", help="ask the service for its tools, name them, and end")
    parser.add_argument("--plain-http", action="store_true", help="http:// to another machine, too, as in a container's own network")
    parser.add_argument("--retry-seconds", type=float, default=20.0, help="how long one call is asked for again (20)")
    options = parser.parse_args()
    settings = {"plain_http": options.plain_http, "retry_seconds": options.retry_seconds}
    try:
        client = Client(**settings)
        if options.check:
            tools = _result(client.mcp("tools/list", {})).get("tools", [])
            print(f"{len(tools)} tools:", *(tool["name"] for tool in tools))
            return
    except errors.ConfigurationError as error:
        sys.exit(_said(error, EX_CONFIG))
    except (errors.OpenExecError, MCPError) as error:
        sys.exit(_said(error, EX_UNAVAILABLE))
    anyio.run(_serve, server(**settings))


def _said(error: Exception, status: int) -> int:
    print(f"openexec-mcp: {_words(error)}", file=sys.stderr)
    return status


async def _serve(bridge: Server[Any]) -> None:
    async with stdio_server() as (reading, writing):
        await bridge.run(reading, writing, bridge.create_initialization_options())
