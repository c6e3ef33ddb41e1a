"""Somebody who answers as the service: scripted, so that it can say anything, and change its mind."""

import hashlib
import http.server
import json
import threading


def canonical(value):
    """RFC 8785, of texts and whole numbers: names sorted by UTF-16 code units."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{text(name)}:{canonical(value[name])}" for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    return text(value) if isinstance(value, str) else json.dumps(value)


def text(value):
    short = json.dumps(value, ensure_ascii=False)
    return short.replace("\x7f", "\x7f")


class Peer:
    """`proposals` by id, in the order in which they are listed."""

    schema = {"properties": {"amount": {"x-display": "money", "x-currency": "currency", "x-exponents": {"EUR": 2, "JPY": 0}},
                             "note": {"x-display": "text"}}}

    def __init__(self):
        self.proposals, self.posted = {}, []
        self.refusals = {}
        peer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                self.answer(*peer.got(self.path))

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.answer(*peer.took(self.path, body))

            def answer(self, status, body):
                body = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, payload, nonce, action="refund", **more):
        hashed = canonical({"action": action, "nonce": nonce, "payload": payload})
        proposal = hashlib.sha256(hashed.encode()).hexdigest()
        self.proposals[proposal] = {
            "id": proposal, "action": action, "nonce": nonce, "payload": payload, "state": "pending", "tenant_id": "acme", "ttl_max": None,
            "caller": "agent-7", "justification": None, "asynchronous": True, "asked_at": "2026-01-01T00:00:00.000000Z",
            "expires_at": "2999-01-01T00:00:00.000000Z", "approvals": {"have": [], "missing": {"count": 1, "groups": {}}}, **more,
        }
        return proposal

    def got(self, path):
        if path in self.refusals:
            return self.refusals[path]
        if path.startswith("/proposals?"):
            listed = [{"id": one["id"]} for one in self.proposals.values() if one["state"] == "pending"]
            return 200, {"next": None, "proposals": listed}
        if path == "/actions":
            return 200, {"actions": [{"action": "refund", "payload_schema": self.schema}]}
        found = self.proposals.get(path.rpartition("/")[2])
        return (200, found) if found else (404, {"code": "not_found", "detail": "there is none"})

    def took(self, path, body):
        if path in self.refusals:
            return self.refusals[path]
        self.posted.append((path, body))
        proposal = body.get("exec_id") or body["action_hash"]
        state = "rejected" if path == "/rejections" else "executed"
        self.proposals[proposal]["state"] = state
        return 200, {"id": proposal, "state": state}

    def end(self):
        self.server.shutdown()
        self.server.server_close()
