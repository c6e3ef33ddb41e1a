"""An approver for the scripts: the hash from `openexec hash`, the signature from `openssl`.

The program itself can sign nothing; `openexec-approve` is what people use.
"""

import base64
import datetime
import json
import os
import subprocess
import tempfile
import uuid


def sign(binary, key, tenant, request, bind_nonce=False):
    """Canonical JSON of an approval of a request's text, by the PEM key in that file, for a quarter of an hour."""
    hashed = subprocess.run(
        [os.path.abspath(binary), "hash"], input=request.encode(), check=True, capture_output=True, env={}
    ).stdout
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    times = [time.isoformat(timespec="seconds") + "Z" for time in (now, now + datetime.timedelta(minutes=15))]
    names = ("approval_id", "tenant_id", "action_hash", "issued_at", "expires_at")
    action_hash = json.loads(hashed)["exec_id" if bind_nonce else "action_hash"]
    fields = dict(zip(names, (str(uuid.uuid4()), tenant, action_hash, *times), strict=True))
    # One-shot algorithms take a file whose size is known.
    with tempfile.NamedTemporaryFile() as message:
        message.write("".join(fields.values()).encode())
        message.flush()
        command = ["openssl", "pkeyutl", "-sign", "-inkey", os.fspath(key), "-rawin", "-in", message.name]
        signature = subprocess.run(command, check=True, capture_output=True).stdout
    fields["signature"] = base64.b64encode(signature).decode()
    return json.dumps(fields, sort_keys=True, separators=(",", ":")) + "\n"
