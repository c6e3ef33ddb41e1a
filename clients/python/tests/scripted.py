"""A model on loopback, in the formats of three APIs. It follows a script of its own: the first answer to a task calls the tool
`refund` for the order that the task names, before that once in a wrong way where the task says "badly"; and what a tool or a later
message said, it repeats."""

import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def decide(task: str, told: list[str]) -> dict[str, Any] | str:
    """The arguments of the next call of `refund`, or what the model says."""
    wrong = "badly" in task
    if len(told) < 1 + wrong:
        order = re.findall(r"order (\d+)", task)[0]
        arguments = {"order": order, "amount": 4900, "currency": "EUR"}
        return arguments | {"amount": "all of it"} if wrong and not told else arguments
    return "I was told: " + told[-1]


def chat(request: dict[str, Any]) -> dict[str, Any]:
    task = next(message["content"] for message in request["messages"] if message["role"] == "user")
    told = [message["content"] for message in request["messages"] if message["role"] in ("tool", "user")][1:]
    assert "refund" in [tool["function"]["name"] for tool in request["tools"]]
    next_ = decide(task, told)
    message: dict[str, Any] = {"role": "assistant", "content": next_ if isinstance(next_, str) else None}
    if not isinstance(next_, str):
        # A model that counts its calls from nought in each conversation.
        function = {"name": "refund", "arguments": json.dumps(next_, indent=1)}
        message["tool_calls"] = [{"id": f"call_{len(told)}", "type": "function", "function": function}]
    choice = {"index": 0, "finish_reason": "stop" if isinstance(next_, str) else "tool_calls", "message": message}
    return {"id": "c", "object": "chat.completion", "created": 0, "model": request["model"], "choices": [choice]}


def responses(request: dict[str, Any]) -> dict[str, Any]:
    task = next(item["content"] for item in request["input"] if item.get("role") == "user")
    told = [item.get("output", item.get("content")) for item in request["input"] if item.get("type") == "function_call_output" or item.get("role") == "user"][1:]
    assert "refund" in [tool["name"] for tool in request["tools"]]
    next_ = decide(task, told)
    if isinstance(next_, str):
        said = {"type": "output_text", "text": next_, "annotations": []}
        item: dict[str, Any] = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [said]}
    else:
        item = {"type": "function_call", "id": "f", "call_id": f"call_{len(told)}", "name": "refund", "arguments": json.dumps(next_), "status": "completed"}
    return {
        "id": "r", "object": "response", "created_at": 0, "model": request["model"], "status": "completed", "output": [item],
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    }


def messages(request: dict[str, Any]) -> dict[str, Any]:
    task, *later = [message["content"] for message in request["messages"] if message["role"] == "user"]
    told = [one if isinstance(one, str) else one[0]["content"] for one in later]
    assert "refund" in [tool["name"] for tool in request["tools"]]
    next_ = decide(task, told)
    if isinstance(next_, str):
        block: dict[str, Any] = {"type": "text", "text": next_}
    else:
        block = {"type": "tool_use", "id": f"toolu_{len(told)}", "name": "refund", "input": next_}
    return {
        "id": "m", "type": "message", "role": "assistant", "model": request["model"], "content": [block],
        "stop_reason": "end_turn" if isinstance(next_, str) else "tool_use", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1},
    }


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        speak = {"/v1/chat/completions": chat, "/v1/responses": responses, "/v1/messages": messages}[self.path]
        body = json.dumps(speak(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def model() -> Iterator[str]:
    """Its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
