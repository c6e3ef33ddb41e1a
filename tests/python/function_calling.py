"""Function calling with the official packages: the types of `openai` and `anthropic` accept the tools
arrays, their schemas keep to what providers and databases take, and a tool loop drives three calls
through the boundary, with the code that README and docs/agents.md print.

usage: function_calling.py BINARY

The model is a stand-in on loopback that speaks the chat-completions format and follows a script.
"""

import ast
import http.server
import json
import pathlib
import re
import sys
import tempfile
import threading

import anthropic.types
import jsonschema
import openai
import pydantic
import requests
from openai.types.chat import ChatCompletionToolParam
from openai.types.responses import FunctionToolParam
from service import approve, service

BINARY = sys.argv[1]


def shown(page):
    """The code by which a page hands a tool call on."""
    text = (pathlib.Path(__file__).resolve().parents[2] / page).read_text()
    return re.search(r"^(call = completion.*?)^```$", text, re.S | re.M)[1]


SNIPPET = shown("README.md")
assert ast.dump(ast.parse(SNIPPET)) == ast.dump(ast.parse(shown("docs/agents.md"))), "two pages, two ways"
SCRIPT = [
    ("echo", {"msg": "hello world"}),
    ("add", {"a": 2, "b": 40}),
    ("enqueue", {"queue": "reports", "job": {"month": "2026-01"}}),
]


class Model(http.server.BaseHTTPRequestHandler):
    """Calls the script's functions one by one, then says what came of the last."""

    seen = []

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/chat/completions", self.path
        Model.seen.append(request)
        answers = [message for message in request["messages"] if message["role"] == "tool"]
        if len(answers) < len(SCRIPT):
            name, arguments = SCRIPT[len(answers)]
            assert name in [tool["function"]["name"] for tool in request["tools"]]
            # As models write it: JSON in a string, spaced as they like.
            call = {"name": name, "arguments": json.dumps(arguments, indent=1)}
            message = {"content": None, "tool_calls": [{"id": f"call_{len(answers)}", "type": "function", "function": call}]}
            reason = "tool_calls"
        else:
            message, reason = {"content": f"Done: {answers[-1]['content']}"}, "stop"
        body = json.dumps({
            "id": "c", "object": "chat.completion", "created": 0, "model": request["model"],
            "choices": [{"index": 0, "finish_reason": reason, "message": {"role": "assistant"} | message}],
        }).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def schemas(value):
    """A schema and all in it that may be one."""
    if isinstance(value, dict):
        yield value
    for inside in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
        yield from schemas(inside)


def readers(url):
    """Every list of the actions, held to the rules of those who read it: providers, clients, databases."""
    forms = {
        "openai": (ChatCompletionToolParam, lambda tool: (tool["function"], "parameters")),
        "openai-responses": (FunctionToolParam, lambda tool: (tool, "parameters")),
        "anthropic": (anthropic.types.ToolParam, lambda tool: (tool, "input_schema")),
    }
    names = [action["action"] for action in requests.get(f"{url}/actions").json()["actions"] if action["allowed"]]
    assert len(names) == 7, names
    for form, (kind, parts) in forms.items():
        answer = requests.get(f"{url}/actions?format={form}", timeout=10)
        pydantic.TypeAdapter(list[kind]).validate_python(answer.json(), strict=True)
        tools = [parts(tool) for tool in answer.json()]
        assert [tool["name"] for tool, _ in tools] == names
        for tool, member in tools:
            assert set(tool) <= {"type", "name", "description", "strict", member}, tool
            assert tool.get("strict", False) is False and ("strict" in tool) == (form != "anthropic")
            assert re.fullmatch("[a-zA-Z0-9_-]{1,64}", tool["name"]) and 0 < len(tool["description"]) <= 1024
            schema = tool[member]
            jsonschema.Draft202012Validator.check_schema(schema)
            assert schema["type"] == "object" and not {"oneOf", "anyOf", "allOf", "enum", "not"} & set(schema), schema
            for part in schemas(schema):
                # OpenAI: "array schema missing items", "object schema missing properties".
                assert part.get("type") != "array" or "items" in part, part
                assert part.get("type") != "object" or "properties" in part, part
                if isinstance(part.get("properties"), dict):
                    assert all(re.fullmatch("[a-zA-Z0-9_.-]{1,64}", name) for name in part["properties"]), part
                if isinstance(pattern := part.get("pattern"), str):
                    # What RE2, ECMAScript and Python read alike.
                    assert re.compile(pattern) and "(?" not in pattern and "\\u" not in pattern, pattern
    # A text in jsonb has no U+0000; and nobody need see what cannot be seen.
    mcp = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    for text in [
        *(requests.get(f"{url}/actions{query}").text for query in ("", *(f"?format={form}" for form in forms))),
        requests.get(f"{url}/openapi.json").text,
        requests.post(f"{url}/mcp", json=mcp).text,
    ]:
        seen = json.dumps(json.loads(text), ensure_ascii=False)
        assert "\\u0" not in text.replace("\\\\", "") and seen.replace("\\n", "").isprintable(), text


def loop(url, model, approver=None):
    """The loop of an agent: the tools as they are, the snippet as it is printed."""
    tools = requests.get(f"{url}/actions?format=openai", timeout=10).json()
    pydantic.TypeAdapter(list[ChatCompletionToolParam]).validate_python(tools, strict=True)
    for tool in tools:
        assert re.fullmatch("[a-zA-Z0-9_-]{1,64}", tool["function"]["name"])
        assert tool["function"]["parameters"]["type"] == "object"
    client = openai.OpenAI(base_url=f"{model}/v1", api_key="none", max_retries=0)
    messages, answers = [{"role": "user", "content": "Do the three things."}], []
    for _ in range(10):
        completion = client.chat.completions.create(model="stand-in", messages=messages, tools=tools)
        message = completion.choices[0].message
        if not message.tool_calls:
            return message.content, answers
        scope = {"completion": completion, "requests": requests}
        snippet = SNIPPET.replace("http://127.0.0.1:5000", url)
        exec(snippet, scope)
        if approver and scope["answer"].get("code") == "approval_missing":
            approver(scope["answer"], scope["call"])
            exec(snippet, scope)
        first = scope["answer"]
        # The answer was lost: the same code again is a replay.
        exec(snippet, scope)
        assert scope["answer"] == first and first["approved"] is True, first
        answers.append(first)
        messages.append(message.model_dump(exclude_none=True))
        messages.append({"role": "tool", "tool_call_id": scope["call"].id, "content": json.dumps(first["result"])})
    raise AssertionError("the loop did not end")


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
threading.Thread(target=server.serve_forever, daemon=True).start()
model = f"http://127.0.0.1:{server.server_port}"

with tempfile.TemporaryDirectory() as files, service(BINARY, OPENEXEC_FILES_DIR=files) as (url, _):
    readers(url)
with service(BINARY) as (url, directory):
    content, answers = loop(url, model)
    assert [answer["action"] for answer in answers] == [name for name, _ in SCRIPT]
    assert answers[0]["result"] == {"echo": {"msg": "hello world"}} and answers[1]["result"] == {"sum": 42}
    assert len(list((directory / "outbox/reports").glob("*.json"))) == 1
    assert content.startswith('Done: {"queued"'), content
    assert len(Model.seen) == 4 and Model.seen[0]["tools"] == requests.get(f"{url}/actions?format=openai", timeout=10).json()

# With approvals: a person signs what the refusal names, and leaves it in the approvals directory.
with service(BINARY, clawshield=True) as (url, directory):

    def person(refusal, call):
        request = {"action": call.function.name, "payload": json.loads(call.function.arguments)}
        artifact = approve(BINARY, directory, json.dumps(request))
        assert json.loads(artifact)["action_hash"] == refusal["action_hash"]
        (directory / "approvals" / f"{refusal['action_hash']}.json").write_text(artifact)

    _, answers = loop(url, model, person)
    assert [answer["outcome"] for answer in answers] == ["executed"] * 3
    assert len(list((directory / "outbox/reports").glob("*.json"))) == 1

print("function_calling.py: the lists as their readers take them, three calls by the tool loop, with and without approvals")
