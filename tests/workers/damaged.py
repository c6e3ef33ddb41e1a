"""Calls that ran, and whose answer is damaged on the way: examples/workers/mcp says `failed` of none of them.

A server of our own over HTTP has a tool for each kind of damage. It counts each call before it answers.
"""

import collections
import contextlib
import http.server
import json
import subprocess
import threading

from common import WORKERS

WORKER = WORKERS / "mcp" / "worker.py"
JSON, SSE = "application/json", "text/event-stream"
PAID = {"content": [{"type": "text", "text": "paid"}]}
RPC_CODES = {"parse_error": -32700, "invalid_request": -32600, "no_method": -32601, "invalid_params": -32602, "internal": -32603}


def damaged(name, whole):
    """Status, body, type and what else the answer to a tool's first call has. None closes the connection without one."""
    event = b"event: message\ndata: "
    error = {"jsonrpc": "2.0", "id": json.loads(whole)["id"], "error": {"code": RPC_CODES.get(name, 0), "message": "no"}}
    if name in RPC_CODES:
        return 200, json.dumps(error).encode(), JSON, {}
    return {
        "bad_json": (200, whole[:40], JSON, {}),
        "cut_json": (200, whole[:40], JSON, {"Content-Length": str(len(whole))}),
        "bad_event": (200, event + whole[:40] + b"\n\n", SSE, {}),
        "cut_event": (200, event + whole[:40], SSE, {"Content-Length": "999"}),
        "large_event": (200, event + whole.replace(b"paid", b"p" * 1_200_000) + b"\n\n", SSE, {}),
        "no_result": (200, whole.replace(b'"content"', b'"contents"'), JSON, {}),
        "of_another": (200, whole.replace(b'"id": ', b'"id": 9'), JSON, {}),
        "html": (200, b"<html>a proxy's page</html>", "text/html", {}),
        "accepted": (202, b"", JSON, {}),
        "redirect": (302, b"", "text/html", {"Location": "http://127.0.0.1:9/login"}),
        "unauthorized": (401, b"", "text/plain", {}),
        "no_session": (404, b"", "text/plain", {}),
        "too_many": (429, b"", "text/plain", {}),
        "server_error": (500, b"", "text/plain", {}),
        "bad_gateway": (502, b"<html>", "text/html", {}),
        "closed": None,
    }[name]


KINDS = [
    *RPC_CODES, "bad_json", "cut_json", "bad_event", "cut_event", "large_event", "no_result", "html", "accepted", "redirect",
    "unauthorized", "no_session", "too_many", "server_error", "bad_gateway", "closed",
]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}, "required": ["n"]}


@contextlib.contextmanager
def server(tools, answer):
    """Its URL, and how often each tool was called. `answer` gives what `damaged` does, for a tool and the number of its call."""
    calls = collections.Counter()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def give(self, status, body=b"", kind=JSON, more=None):
            self.send_response(status)
            for name, value in ({"Content-Type": kind, "Content-Length": str(len(body))} | (more or {})).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = "Content-Length" in (more or {})

        def do_GET(self):
            self.give(405)

        def do_DELETE(self):
            self.give(200)

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if "id" not in asked:
                return self.give(202)
            method, more = asked["method"], {}
            if method == "initialize":
                about = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "bank", "version": "1"}}
                return self.give(200, self.said(asked, "result", about), JSON, {"Mcp-Session-Id": "s1"})
            if method == "tools/list":
                return self.give(200, self.said(asked, "result", {"tools": tools}))
            if method == "tools/call":
                name = asked["params"]["name"]
                # The money is gone.
                calls[name] += 1
                answered = answer(name, calls[name], self.said(asked, "result", PAID))
                if answered is None:
                    self.close_connection = True
                    return None
                return self.give(*answered)
            return self.give(200, self.said(asked, "error", {"code": -32601, "message": "no"}))

        @staticmethod
        def said(asked, name, value):
            return json.dumps({"jsonrpc": "2.0", "id": asked["id"], name: value}).encode()

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.server_port}/mcp", calls
    finally:
        listener.shutdown()
        listener.server_close()


def tool(name, **hints):
    return {"name": name, "inputSchema": SCHEMA, "annotations": hints}


def queued(outbox, name, payload, place="", job="a"):
    queue = outbox / name
    for directory in ("taken", "done", "outcome"):
        (queue / directory).mkdir(parents=True, exist_ok=True)
    (queue / place / f"{job * 64}.json").write_text(json.dumps({"id": job * 64, "action": name, "payload": payload}))


def passed(python, outbox, url, *options, status=0):
    command = [python, WORKER, "work", "--outbox", outbox, *options, url]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status, (done.returncode, done.stderr)
    return done.stderr


def outcome(outbox, name, job="a"):
    path = outbox / name / "outcome" / f"{job * 64}.json"
    return json.loads(path.read_text())["outcome"] if path.exists() else None


def of_a_damaged_answer(python, scratch):
    """Whatever the answer, nothing that ran is `failed`; what may be repeated is; and no tool keeps another from its turn."""
    outbox = scratch / "damaged"
    tools = [tool(f"{kind}.{may}", idempotentHint=may == "again") for kind in KINDS for may in ("once", "again")] + [tool("zz_last")]
    for one in tools:
        queued(outbox, one["name"], {"n": 1})

    def answer(name, number, whole):
        kind = name.partition(".")[0]
        return damaged(kind, whole) if number == 1 and kind in KINDS else (200, whole, JSON, {})

    with server(tools, answer) as (url, calls):
        passed(python, outbox, url, "--timeout", "20", status=75)
        assert set(calls.values()) == {1} and len(calls) == len(tools), calls
        assert outcome(outbox, "zz_last") == "executed"
        assert [name for name in calls if outcome(outbox, name)] == ["zz_last"], "more was known than can be"
        passed(python, outbox, url, "--timeout", "20")
        for kind in KINDS:
            assert (calls[f"{kind}.once"], outcome(outbox, f"{kind}.once")) == (1, "indeterminate"), kind
            assert (calls[f"{kind}.again"], outcome(outbox, f"{kind}.again")) == (2, "executed"), kind


def of_an_error(python, scratch):
    """The tool's own error comes after it has begun. It is `failed` where that is known to change nothing, and no try was before."""
    outbox = scratch / "error"
    tools = [tool("plain"), tool("again", idempotentHint=True), tool("reads", readOnlyHint=True), tool("whole"), tool("unsent")]
    for one in tools:
        name = one["name"]
        payload = {"n": 10} if name == "unsent" else {"n": 1}
        queued(outbox, name, payload)
        # One that an operator moved back, since nobody knew.
        queued(outbox, name, payload, job="b")
        (outbox / name / "done" / f"{'b' * 64}.failed").write_text("indeterminate\n")
    # One that was cut short before.
    for name in ("again", "reads"):
        queued(outbox, name, {"n": 1}, "taken", "c")
        queued(outbox, name, {"n": 10}, "taken", "d")

    def answer(name, number, whole):
        return 200, whole.replace(b'"content"', b'"isError": true, "content"'), JSON, {}

    with server(tools, answer) as (url, calls):
        passed(python, outbox, url, "--all-or-nothing", "whole")
        assert calls == {"plain": 2, "again": 3, "reads": 3, "whole": 2}, calls
    unknown, nothing = "indeterminate", "failed"
    expected = {
        "plain": (unknown, unknown, None, None), "again": (unknown, unknown, unknown, unknown), "reads": (nothing,) * 4,
        "whole": (nothing, unknown, None, None), "unsent": (nothing, unknown, None, None),
    }
    for name, outcomes in expected.items():
        assert tuple(outcome(outbox, name, job) for job in "abcd") == outcomes, name


def of_starving(python, scratch):
    """A tool that fails again and again, a job that is none: the others have their turn in each pass, and new jobs of it are not risked."""
    outbox = scratch / "starving"
    tools = [tool("a", idempotentHint=True), tool("b", idempotentHint=True), tool("c")]
    for job in "12":
        queued(outbox, "a", {"n": 1}, "taken", job)
        queued(outbox, "a", {"n": 1}, job=chr(ord(job) + 2))
    queued(outbox, "b", {"n": 1}, "taken", "5")
    (outbox / "b" / "taken" / f"{'0' * 64}.json").write_text("no job")
    for job in "678":
        queued(outbox, "c", {"n": 1}, job=job)
    answer = lambda name, number, whole: damaged("server_error", whole) if name == "a" else (200, whole, JSON, {})
    with server(tools, answer) as (url, calls):
        said = passed(python, outbox, url, status=75)
        assert calls == {"a": 3, "b": 1, "c": 3} and said.count("worker.py: ") == 4, (calls, said)
        assert len(list((outbox / "a").glob("*.json"))) == 1, "a new one was risked"
        assert outcome(outbox, "b", "5") == "executed" and {outcome(outbox, "c", job) for job in "678"} == {"executed"}


def of_a_power_cut(python, scratch):
    """That a job is tried is on the disk before the tool is called: the rename is not asked of the next start."""
    outbox, trace = scratch / "cut", scratch / "trace"
    queued(outbox, "once", {"n": 1})
    seen = []

    def answer(name, number, whole):
        seen.extend(trace.read_text().splitlines())
        return 200, whole, JSON, {}

    with server([tool("once")], answer) as (url, _):
        strace = ["strace", "-f", "-qq", "-y", "-o", trace, "-e", "trace=fsync,rename,renameat,renameat2"]
        done = subprocess.run([*strace, python, WORKER, "work", "--outbox", outbox, url], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    taken = next(n for n, line in enumerate(seen) if "/taken/" in line)
    synced = {line.partition("<")[2].partition(">")[0] for line in seen[taken:] if " fsync(" in line}
    assert synced == {str(outbox / "once"), str(outbox / "once" / "taken")}, seen


def of_a_large_result(python, scratch):
    """What the service counts and measures otherwise than its text is: more values, an object counted as 16; in canonical form longer."""
    outbox = scratch / "large"
    results = {"fits": "1", "values": ", ".join(["{}"] * 8_200), "longer": ", ".join(["1e-06"] * 37_000)}
    for name in results:
        queued(outbox, name, {"n": 1})

    def answer(name, number, whole):
        return 200, whole.replace(b'"content"', b'"structuredContent": {"n": [%s]}, "content"' % results[name].encode()), JSON, {}

    with server([tool(name) for name in results], answer) as (url, _):
        passed(python, outbox, url)
    for name in results:
        said = json.loads((outbox / name / "outcome" / f"{'a' * 64}.json").read_text())
        assert said["outcome"] == "executed" and ("text" in said["result"]) == (name != "fits"), (name, said["result"].keys())


def all_of_it(python, scratch):
    of_a_large_result(python, scratch)
    of_a_power_cut(python, scratch)
    of_a_damaged_answer(python, scratch)
    of_an_error(python, scratch)
    of_starving(python, scratch)
