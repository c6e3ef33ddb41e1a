#!/usr/bin/env python3
"""The tools of an MCP server as actions: approved before they are called, and called with what only this worker has.

usage: worker.py list [OPTIONS] SERVER > actions.json     what OPENEXEC_ACTIONS_FILE is set to
       worker.py work --outbox DIR [OPTIONS] SERVER       one pass over the queues of the tools

SERVER is a URL, or behind `--` the command that starts the server. Needs the official SDK: pip install mcp.

`list` ends with 65 where a tool takes what the schema of a declared action cannot say; it names tool and keyword. Take less
with --only, or say with --drop that the server alone judges a keyword. It narrows: an object without additionalProperties takes
no other field here.

`work` takes each job by renaming it to taken/, calls the tool, leaves what became of it in outcome/ID.json, and renames the job
to done/. It may be killed at any moment. A call that was cut short, or whose answer is none, is repeated where the tool says that
this does no harm (idempotentHint, readOnlyHint) and the job is not a day old; any other is `indeterminate`, since nobody can tell
whether it happened. So is one that the tool answers with an error: it may have begun. `failed` is left where nothing was sent,
and for the error of a tool that changes nothing (readOnlyHint) or that you vouch for (--all-or-nothing). Each call carries the
execution's id as _meta["openexec/id"]. Ends with 75 when something is left to do.
"""
import argparse
import asyncio
import contextlib
import fcntl
import json
import math
import os
import pathlib
import sys
import time

import httpx2
import jsonschema
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

# What a declared action may say (docs/actions.md), and what says nothing of a value.
TAKEN = {"type", "title", "description", "enum", "const", "properties", "required", "additionalProperties", "items", "minItems",
         "maxItems", "minLength", "maxLength", "minimum", "maximum"}
NOTES = {"$schema", "$comment", "default", "examples", "deprecated", "readOnly", "writeOnly"}
SUMMARY_CHARACTERS_MAX = 1024
OUTCOME_BYTES_MAX = 256 * 1024
VALUES_MAX = 128 * 1024
NUMBER_MAGNITUDE_MAX = 2**53 - 1
DEPTH_MAX = 32
A_DAY_SECONDS = 86_400


class Unsaid(Exception):
    """The place and the keyword that a declared action cannot say."""


class Left(Exception):
    """Something is left for the next pass."""


def said(schema, place, dropped, is_optional=False):
    """The schema as a declared action has it: what it takes, the tool takes."""
    if not isinstance(schema, dict):
        raise Unsaid(f"{place}: a schema that is no object")
    schema = {name: rule for name, rule in schema.items() if name not in NOTES and name not in dropped}
    # Absent is what null means for a property that is not required.
    if is_optional and isinstance(schema.get("anyOf"), list):
        others = [one for one in schema["anyOf"] if one != {"type": "null"}]
        if len(others) == 1 and isinstance(others[0], dict):
            schema = others[0] | {name: rule for name, rule in schema.items() if name != "anyOf"}
            return said(schema, place, dropped)
    if is_optional and isinstance(schema.get("type"), list):
        others = [name for name in schema["type"] if name != "null"]
        schema["type"] = others[0] if len(others) == 1 else schema["type"]
    if schema.get("type") == "integer" and type(schema.get("exclusiveMinimum")) in (int, float):
        schema["minimum"] = max(math.floor(schema.pop("exclusiveMinimum")) + 1, schema.get("minimum", -math.inf))
    if schema.get("type") == "integer" and type(schema.get("exclusiveMaximum")) in (int, float):
        schema["maximum"] = min(math.ceil(schema.pop("exclusiveMaximum")) - 1, schema.get("maximum", math.inf))
    for keyword in schema:
        if keyword not in TAKEN:
            raise Unsaid(f"{place}/{keyword}")
    if schema.get("type") == "object":
        if "properties" not in schema or schema.get("additionalProperties", False) is not False:
            raise Unsaid(f"{place}/additionalProperties: an object that takes any field")
        required = schema.get("required", [])
        schema["additionalProperties"] = False
        schema["properties"] = {
            name: said(rules, f"{place}/properties/{name}", dropped, name not in required)
            for name, rules in schema["properties"].items()
        }
    if "items" in schema:
        schema["items"] = said(schema["items"], f"{place}/items", dropped)
    return schema


def listed(tools, options):
    actions, unsaid = [], []
    for tool in tools:
        schema = dict(tool.input_schema)
        schema.setdefault("properties", {})
        # A declared action says in one line what it does.
        summary = " ".join((tool.description or tool.title or tool.name).split())
        summary = "".join(c for c in summary if c.isprintable())[:SUMMARY_CHARACTERS_MAX]
        try:
            schema = said(schema, "/inputSchema", options.drop)
        except Unsaid as error:
            unsaid.append(f"{tool.name}: {error}")
            continue
        actions.append({"action": options.prefix + tool.name, "summary": summary or tool.name, "payload_schema": schema})
    for line in unsaid:
        print(f"worker.py: a declared action cannot say what this tool takes: {ascii(line)[1:-1]}", file=sys.stderr)
    if unsaid:
        return 65
    json.dump({"actions": actions}, sys.stdout, indent=2)
    print()
    return 0


def without_nulls(value, schema):
    """The arguments as they are meant: null for a property that is not required is no property."""
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return [without_nulls(item, schema["items"]) for item in value]
    if isinstance(value, dict) and isinstance(schema.get("properties"), dict):
        required = schema.get("required", [])
        return {
            name: without_nulls(item, schema["properties"].get(name, {}))
            for name, item in value.items()
            if item is not None or name in required
        }
    return value


def misfit(arguments, schema):
    """Why the tool does not take the arguments; None where it does, and where the server alone can judge that."""
    try:
        # A pattern may take for ever, and a reference lead elsewhere: neither can be said.
        said(schema, "", ())
        return next((error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(arguments)), None)
    except Exception:
        return None


def is_strict(value, depth=DEPTH_MAX):
    """Whether every reader of JSON takes it for the same."""
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, (int, float)):
        return abs(value) <= NUMBER_MAGNITUDE_MAX
    if isinstance(value, dict):
        return depth > 0 and all(is_strict(name) and is_strict(item, depth - 1) for name, item in value.items())
    if isinstance(value, list):
        return depth > 0 and all(is_strict(item, depth - 1) for item in value)
    return value is None


def values_in(value):
    """As the service counts: an object as 16."""
    if isinstance(value, dict):
        return 16 + sum(map(values_in, value.values()))
    return 1 + sum(map(values_in, value)) if isinstance(value, list) else 1


def outcome_text(outcome, result):
    """Within the bounds, or a text that says what was there."""
    for result in (result, {"text": json.dumps(result)}, {"too_large": True, "text": json.dumps(result)[:10_000]}):
        report = {"outcome": outcome, "result": result}
        text = json.dumps(report, ensure_ascii=False).encode(errors="surrogatepass")
        # 1e-05 and 1e-06 are longer in canonical form.
        length = len(text) + 3 * text.count(b"e-0")
        if is_strict(result) and values_in(report) <= VALUES_MAX and length <= OUTCOME_BYTES_MAX:
            return text
    raise AssertionError("the last one always fits")


class Queue:
    """The directory of one tool's jobs."""

    def __init__(self, path, tool, options):
        self.path, self.tool, self.options = path, tool, options
        hints = tool.annotations
        self.is_read_only = bool(hints and hints.read_only_hint)
        self.may_repeat = bool(hints and hints.idempotent_hint) or self.is_read_only
        self.is_all_or_nothing = tool.name in options.all_or_nothing

    def names(self, place):
        return sorted(path.name for path in (self.path / place).glob("*.json") if path.is_file() and not path.is_symlink())

    def leave(self, name, outcome, result):
        """What became of a job is settled in taken/ before anybody is told: a crash behind this makes no other end of it."""
        put(outcome_text(outcome, result), self.path / "taken", self.settled(name).name)
        self.end(name)

    def settled(self, name):
        return (self.path / "taken" / name).with_suffix(".outcome")

    def end(self, name):
        """Leaves what was settled, and moves the job to done/. A reason stands beside it there just where it was not executed."""
        settled, failed = self.settled(name), (self.path / "done" / name).with_suffix(".failed")
        text = settled.read_bytes()
        directory = self.path / "outcome"
        directory.mkdir(mode=0o770, exist_ok=True)
        put(text, directory, name)
        said = json.loads(text)
        if said["outcome"] == "executed":
            failed.unlink(missing_ok=True)
        else:
            failed.write_text(f"{said['outcome']}: {ascii(json.dumps(said['result']))[:2_000]}\n")
        os.rename(self.path / "taken" / name, self.path / "done" / name)
        settled.unlink()

    async def work(self, client, tried):
        """Each job that was not `tried` in this pass. It notes there what it tries."""
        # OpenExec makes the queue when it has the first job.
        if not (self.path / "done").is_dir():
            return
        with open(self.path / ".lock", "a") as lock:
            # One at a time, and `work` in the shell is another.
            fcntl.flock(lock, fcntl.LOCK_EX)
            cut_short = [name for name in self.names("taken") if self.path / name not in tried]
            # New ones first: one that fails again and again holds nobody up.
            for name in self.names("."):
                if self.path in tried:
                    # One of them failed: the others are not risked in this pass.
                    break
                tried |= {self.path, self.path / name}
                # Of a job that an operator moved back.
                self.settled(name).unlink(missing_ok=True)
                os.rename(self.path / name, self.path / "taken" / name)
                # One that an operator moved back was tried before.
                await self.perform(client, name, is_first=not (self.path / "done" / name).with_suffix(".failed").exists())
                tried.discard(self.path)
            for name in cut_short:
                tried.add(self.path / name)
                await self.cut_short(client, name)

    async def cut_short(self, client, name):
        if self.settled(name).exists():
            self.end(name)
        elif self.may_repeat and time.time() - (self.path / "taken" / name).stat().st_mtime < A_DAY_SECONDS:
            await self.perform(client, name, is_first=False)
        else:
            self.leave(name, "indeterminate", {"error": "the call was cut short, and is not repeated"})

    async def perform(self, client, name, is_first):
        # What a second try comes to says nothing of the first.
        unhappened = "failed" if is_first or self.is_read_only else "indeterminate"
        job = json.loads((self.path / "taken" / name).read_text())
        if job.get("action") != self.path.name:
            return self.leave(name, unhappened, {"error": "the job is of another action"})
        arguments = without_nulls(job["payload"], self.tool.input_schema)
        why = misfit(arguments, self.tool.input_schema)
        if why is not None:
            return self.leave(name, unhappened, {"error": f"the tool does not take it: {why[:1_000]}"})
        # That it is tried is on the disk first: after a power cut it would be a first try again.
        sync(self.path / "taken")
        sync(self.path)
        try:
            called = await client.call_tool(self.tool.name, arguments, self.options.timeout, meta={"openexec/id": job["id"]})
        except MCPError as error:
            # Whatever its code: the SDK makes the same ones of an answer that was damaged, after the tool has run. The next pass
            # judges it as cut short.
            raise Left(f"{self.tool.name}, {job['id']}: {error}") from error
        result = {"content": [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in called.content]}
        if called.structured_content is not None:
            result["structuredContent"] = called.structured_content
        # The tool may have begun before its error.
        of_error = unhappened if self.is_read_only or self.is_all_or_nothing else "indeterminate"
        self.leave(name, of_error if called.is_error else "executed", result)


def put(text, directory, name):
    """A file with this text: whole, or not at all."""
    unfinished = directory / f".{name}"
    with open(unfinished, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(unfinished, directory / name)
    sync(directory)


def sync(directory):
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.asynccontextmanager
async def connected(options):
    if len(options.server) == 1 and options.server[0].startswith(("http://", "https://")):
        headers = {}
        if options.bearer_file:
            headers["Authorization"] = f"Bearer {pathlib.Path(options.bearer_file).read_text().strip()}"
        async with httpx2.AsyncClient(headers=headers, timeout=options.timeout) as http:
            async with Client(streamable_http_client(options.server[0], http_client=http)) as client:
                yield client
        return
    # The server has no more of this environment than the SDK gives, and what is named.
    environment = {name: os.environ[name] for name in options.env}
    server = StdioServerParameters(command=options.server[0], args=options.server[1:], env=environment)
    async with Client(stdio_client(server)) as client:
        yield client


async def tools(client, only):
    found, cursor = [], None
    while True:
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if not cursor:
            break
    missing = set(only) - {tool.name for tool in found}
    if missing:
        sys.exit(f"worker.py: the server has no tool {', '.join(sorted(missing))}")
    return [tool for tool in found if not only or tool.name in only]


async def work(options):
    """Pass after pass. After each failure over a new connection: nobody knows what is left of the old one."""
    tried, status = set(), 0
    while True:
        tried_before = len(tried)
        try:
            async with connected(options) as client:
                chosen = await tools(client, options.only)
                queues = [Queue(pathlib.Path(options.outbox) / (options.prefix + tool.name), tool, options) for tool in chosen]
                while True:
                    for queue in queues:
                        await queue.work(client, tried)
                    if not options.every:
                        return status
                    await asyncio.sleep(options.every)
                    tried, status = set(), 0
                    tried_before = 0
        except Exception as error:
            status = failed(error)
            # Nothing could be tried: the server is not there.
            if len(tried) == tried_before:
                return status


async def run(options):
    if options.command == "work":
        return await work(options)
    async with connected(options) as client:
        return listed(await tools(client, options.only), options)


def failed(error):
    """Says so. Gives the status to end with, or raises what ends this program."""
    # The SDK's task groups wrap what happened in them.
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        raise error
    print(f"worker.py: {type(error).__name__}: {ascii(str(error))[1:-1]}", file=sys.stderr)
    return 75


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("list", "work"):
        command = commands.add_parser(name)
        command.add_argument("--prefix", default="", help="before the name of each tool: the action's name")
        command.add_argument("--only", action="append", default=[], metavar="TOOL", help="this tool (again for others)")
        command.add_argument("--env", action="append", default=[], metavar="NAME", help="a variable that the server gets")
        command.add_argument("--bearer-file", help="the token for a URL")
        command.add_argument("--timeout", type=float, default=60, help="seconds for one call")
        if name == "list":
            command.add_argument("--drop", action="append", default=[], metavar="KEYWORD", help="the server alone judges it")
        else:
            command.add_argument("--outbox", required=True, help="OPENEXEC_OUTBOX_DIR of the service")
            command.add_argument("--all-or-nothing", action="append", default=[], metavar="TOOL", help="its errors mean that nothing happened")
            command.add_argument("--every", type=float, help="do not end: a pass each so many seconds")
        command.add_argument("server", nargs="+")
    return parser.parse_args()


def main():
    os.umask(0o007)
    options = parsed()
    while True:
        try:
            status = asyncio.run(run(options))
        except BaseException as error:
            status = failed(error)
        if not getattr(options, "every", None) or status == 65:
            sys.exit(status)
        time.sleep(options.every)


if __name__ == "__main__":
    main()
