"""Approvals as ClawShield mints them, with Python's cryptography, and what becomes of them.

usage: mint.py BINARY       (starts it in clawshield mode with a store of its own)
"""

import base64
import datetime
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import uuid

import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from service import TENANT, ready

BINARY = os.path.abspath(sys.argv[1])
SIGNED = ("approval_id", "tenant_id", "action_hash", "issued_at", "expires_at")
key = Ed25519PrivateKey.generate()
pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def mint(action, payload, **changed):
    """The first service's own hash: json.dumps with sorted keys and no spaces."""
    text = json.dumps({"action": action, "payload": payload}, sort_keys=True, separators=(",", ":"))
    now = datetime.datetime.now(datetime.timezone.utc)
    artifact = {
        "approval_id": str(uuid.uuid4()),
        "tenant_id": TENANT,
        "action_hash": hashlib.sha256(text.encode()).hexdigest(),
        "issued_at": now.isoformat(),
        "expires_at": (now + datetime.timedelta(minutes=5)).isoformat(),
    } | changed
    message = "".join(artifact[name] for name in SIGNED).encode()
    artifact["signature"] = base64.b64encode(key.sign(message)).decode()
    return artifact


def serve(environment):
    command = subprocess.Popen([BINARY], env=environment, stderr=subprocess.DEVNULL)
    return command, ready(command, pathlib.Path(environment["OPENEXEC_DB_URL"].removeprefix("file:"), "LOCK"))


def execute(url, nonce, payload, artifact):
    body = {"action": "echo", "payload": payload, "nonce": nonce, "approval_artifact": artifact}
    return requests.post(f"{url}/execute", json=body, timeout=10)


def refused(response, code):
    body = response.json()
    assert response.status_code == 403 and body["code"] == code, response.text
    assert body["approved"] is False
    return body["detail"]


with tempfile.TemporaryDirectory() as scratch:
    environment = {
        "OPENEXEC_MODE": "clawshield",
        "OPENEXEC_DB_URL": f"file:{scratch}/store",
        "OPENEXEC_LISTEN": "127.0.0.1:0",
        "CLAWSHIELD_TENANT_ID": TENANT,
        "CLAWSHIELD_PUBLIC_KEY": pem.replace("\n", "\\n"),
    }
    subprocess.run([BINARY, "init"], env=environment, check=True, stdout=subprocess.DEVNULL)
    service, url = serve(environment)
    try:
        # Payloads on which the canonical and the old encoding differ, and where they agree.
        payloads = [
            {"msg": "hello world"},
            {},
            {"price": 1.0, "rate": 1e-07, "n": -0.0, "ø": "Åse \U0001f600\x7f", "z": [None, True]},
            {"\ufb33": 1, "\U0001f600": 2},
        ]
        for n, payload in enumerate(payloads):
            artifact = mint("echo", payload)
            first = execute(url, f"n{n}", payload, artifact)
            assert first.status_code == 200 and first.json()["approved"] is True, first.text
            replay = execute(url, f"n{n}", payload, artifact)
            assert replay.content == first.content
            assert replay.headers["Idempotent-Replayed"] == "true"
            refused(execute(url, f"n{n}-again", payload, artifact), "approval_already_used")

        hello = payloads[0]
        detail = refused(execute(url, "x", hello, None), "approval_missing")
        assert detail == "ClawShield mode requires an approval artifact"
        naive = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
        late = (naive - datetime.timedelta(seconds=1)).isoformat(timespec="seconds")
        for changed, code, phrase in [
            ({"tenant_id": "tenant-2"}, "tenant_mismatch", "Tenant mismatch: "),
            ({"action_hash": "0" * 64}, "approval_hash_mismatch", "Action hash mismatch: "),
            ({"expires_at": late}, "approval_expired", "Approval artifact expired "),
            ({"issued_at": "2026-01-01T00:00:00"}, "approval_before_store", ""),
        ]:
            detail = refused(execute(url, "x", hello, mint("echo", hello, **changed)), code)
            assert detail.startswith(phrase), detail
        for name in SIGNED[:3]:
            artifact = mint("echo", hello)
            artifact[name] = mint("add", {}, tenant_id="tenant-3")[name]
            detail = refused(execute(url, "x", hello, artifact), "approval_signature_invalid")
            assert detail.startswith("Invalid signature: "), detail
        # A time without an offset is UTC; seconds may have a fraction.
        for timespec, offset in (("seconds", ""), ("milliseconds", "Z"), ("microseconds", "Z")):
            form = naive.isoformat(timespec=timespec) + offset
            artifact = mint("echo", hello, issued_at=form)
            assert execute(url, f"x{form}", hello, artifact).status_code == 200
    finally:
        service.kill()
        service.wait()

print("mint.py: approvals minted by Python execute once each")
