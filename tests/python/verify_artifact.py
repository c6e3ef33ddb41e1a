"""Verifies an artifact with a public key: neither a line of ours nor a byte of our parsing.

usage: verify_artifact.py PUBLIC_KEY.pem < ARTIFACT.json
"""

import base64
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

SIGNED = ("approval_id", "tenant_id", "action_hash", "issued_at", "expires_at")

with open(sys.argv[1], "rb") as file:
    key = load_pem_public_key(file.read())
artifact = json.load(sys.stdin)
assert set(artifact) == {*SIGNED, "signature"}, sorted(artifact)
message = "".join(artifact[name] for name in SIGNED).encode()
signature = base64.b64decode(artifact["signature"], validate=True)
key.verify(signature, message)
# A verifier that takes anything would pass the line above.
try:
    key.verify(signature, message + b" ")
except InvalidSignature:
    print("verified")
else:
    sys.exit("it verifies whatever the message is")
