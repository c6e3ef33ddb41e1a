"""A server of MCP tools whose calls can be counted, cut short, and told from those without its secret.

usage: mcp_server.py DIRECTORY (with SECRET in the environment)
"""
import os
import pathlib
import sys
import time
from typing import Annotated

from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations
from pydantic import Field

directory = pathlib.Path(sys.argv[1])
server = MCPServer("counting")


def note(text):
    """One line a call; then, while somebody wants it to, it hangs."""
    assert os.environ.get("SECRET") == "s3cret", "no secret"
    with open(directory / "calls", "a") as file:
        file.write(text + "\n")
    while (directory / "hang").exists():
        time.sleep(0.02)
    return {"noted": text}


@server.tool()
def once(text: str, optional: str | None = None) -> dict:
    """Notes a text.

    What was cut short is not repeated."""
    return note(f"once {text} {optional}")


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
def again(text: str) -> dict:
    """Notes a text, and may be repeated."""
    return note(f"again {text}")


@server.tool()
def large(kilobytes: int) -> str:
    """Says more than a completion holds."""
    return "x\ud800" * (kilobytes * 1024) if kilobytes < 0 else "x" * (kilobytes * 1024)


@server.tool()
def rows(number: int) -> dict[str, list[dict]]:
    """Says more values than a completion holds, in fewer bytes."""
    return {"rows": [{}] * number}


@server.tool()
def patterned(code: Annotated[str, Field(pattern="^[A-Z]+$")]) -> str:
    """Takes what a declared action cannot say."""
    return code


@server.tool()
def fails(text: str) -> str:
    """Fails."""
    raise ValueError(text)


server.run()
