"""The worked examples as a Python client sees them: printed code of the first service, unchanged.

usage: api.py URL       (of a service in demo mode, whose store may be new or old)
"""

import hashlib
import json
import sys
import uuid

import requests

URL = sys.argv[1].rstrip("/")


def canonical(value):
    """RFC 8785 for what is used here: ASCII, no floats."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def refused(response, status, code):
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    body = response.json()
    assert body["code"] == code, body
    assert {"type", "title", "status", "detail", "code"} <= set(body), body
    return body


health = requests.get(f"{URL}/health", timeout=10).json()
assert health["status"] == "healthy" and health["exec_mode"] == "demo", health
assert requests.get(f"{URL}/", timeout=10).json()["service"] == "OpenExec"
assert requests.get(f"{URL}/ready", timeout=10).json()["ready"] is True
assert "version" in requests.get(f"{URL}/version", timeout=10).json()

# Execute, then the same nonce again: a retry after a lost answer.
nonce = f"python-{uuid.uuid4()}"
request = {"action": "echo", "payload": {"msg": "hello world"}, "nonce": nonce}
first = requests.post(f"{URL}/execute", json=request, timeout=10)
assert first.status_code == 200, first.text
assert first.headers["OpenExec-Mode"] == "demo" and first.headers["Server"] == "openexec"
assert "Idempotent-Replayed" not in first.headers
result = first.json()
assert result["approved"] is True and result["outcome"] == "executed"
assert result["result"] == {"echo": {"msg": "hello world"}}
assert result["id"] == sha256(canonical({k: request[k] for k in ("action", "nonce", "payload")}))
assert result["receipt"] == sha256(result["id"] + ":" + canonical(result["result"]))

again = requests.post(f"{URL}/execute", json=request, timeout=10)
assert again.status_code == 200 and again.content == first.content
assert again.headers["Idempotent-Replayed"] == "true"

# As OpenAI's function calling gives it: the arguments are a string.
tool_call = {"name": "echo", "arguments": '{\n  "msg": "hello world"\n}'}
call = {"action": tool_call["name"], "payload": tool_call["arguments"], "nonce": nonce}
called = requests.post(f"{URL}/execute", json=call, timeout=10)
assert called.content == first.content, called.text

# A receipt: the result as json.dumps writes it, and as the object it is.
for shown in (json.dumps(result["result"]), json.dumps(result["result"], indent=4), result["result"]):
    question = {"exec_id": result["id"], "result": shown, "receipt": result["receipt"]}
    answer = requests.post(f"{URL}/receipts/verify", json=question, timeout=10).json()
    assert answer == {"valid": True, "recorded": True, "outcome": "executed"}, answer
question["result"] = {"echo": {"msg": "goodbye"}}
answer = requests.post(f"{URL}/receipts/verify", json=question, timeout=10).json()
assert answer == {"valid": False, "recorded": False}, answer
stored = requests.get(f"{URL}/receipts/{result['id']}", timeout=10)
assert stored.content == first.content

# One session, kept alive, as an agent would have it.
with requests.Session() as session:
    for n in range(20):
        request = {"action": "add", "payload": {"a": n, "b": 1}, "nonce": f"{nonce}-{n}"}
        answer = session.post(f"{URL}/execute", json=request, timeout=10).json()
        assert answer["result"] == {"sum": n + 1}, answer

# A client of the first service tests `approved`.
body = refused(
    requests.post(f"{URL}/execute", json={"action": "nope", "nonce": "n"}, timeout=10),
    400, "unknown_action",
)
assert not body.get("approved") and body["detail"] == "Unknown action: nope"
assert body["receipt"] == sha256(body["id"] + ":" + canonical(body["result"]))
changed = {"action": "echo", "payload": {"msg": "other"}, "nonce": nonce}
refused(requests.post(f"{URL}/execute", json=changed, timeout=10), 409, "nonce_conflict")
# json.dumps writes NaN, which is not JSON.
not_json = '{"action":"echo","nonce":"n","payload":{"x":' + json.dumps(float("nan")) + "}}"
as_json = {"Content-Type": "application/json"}
answer = requests.post(f"{URL}/execute", data=not_json, headers=as_json, timeout=10)
assert refused(answer, 400, "malformed_json")["offset"] == not_json.index("NaN")
for data in (request, json.dumps(request)):
    answer = requests.post(f"{URL}/execute", data=data, timeout=10)
    refused(answer, 415, "unsupported_media_type")
# A generator is sent in chunks.
chunked = dict(request, nonce=f"{nonce}-chunked")
data = (byte.encode() for byte in json.dumps(chunked))
answer = requests.post(f"{URL}/execute", data=data, headers=as_json, timeout=10)
assert answer.status_code == 200 and answer.json()["outcome"] == "executed", answer.text
answer = requests.get(f"{URL}/execute", timeout=10)
refused(answer, 405, "method_not_allowed")
assert answer.headers["Allow"] == "POST"
refused(requests.get(f"{URL}/health", headers={"Origin": "null"}, timeout=10), 403, "browser_origin")
refused(requests.get(f"{URL}/health", headers={"Host": "evil"}, timeout=10), 421, "host_not_allowed")

print("api.py: all as documented")
