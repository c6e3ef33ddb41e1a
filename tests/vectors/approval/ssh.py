#!/usr/bin/env python3
"""Makes keys and signatures with OpenSSH's own ssh-keygen, and says of each what must become of it. The keys
are new each time, so this is kept as it came out:

    python3 tests/vectors/approval/ssh.py OPENSSH > tests/vectors/approval/ssh.json

OPENSSH is a checkout of openssh-portable: its published keys and signatures of regress/unittests/sshsig/testdata,
a security key's among them, go along.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

FIELDS = {
    "approval_id": "3f0d6f0a-6d0c-4b7e-9a55-0a1b2c3d4e5f",
    "tenant_id": "t1",
    "action_hash": "aa" * 32,
    "issued_at": "2026-03-01T11:55:00Z",
    "expires_at": "2026-03-01T12:30:00Z",
}
MESSAGE = "".join(FIELDS.values())
KINDS = {
    "alice": ["-t", "ed25519"],
    "bob": ["-t", "ed25519"],
    "rsa": ["-t", "rsa", "-b", "2048"],
    "ecdsa": ["-t", "ecdsa"],
}
APPROVED = "approved"
INVALID = "does not verify under any configured key"
# Who signs what, how, and what must become of it.
CASES = [
    ("as the page says", "alice", MESSAGE, ["-n", "openexec"], APPROVED),
    ("the hash named", "alice", MESSAGE, ["-n", "openexec", "-O", "hashalg=sha512"], APPROVED),
    ("another's", "bob", MESSAGE, ["-n", "openexec"], INVALID),
    ("of another message", "alice", MESSAGE + "Z", ["-n", "openexec"], INVALID),
    ("with a line feed", "alice", MESSAGE + "\n", ["-n", "openexec"], INVALID),
    ("for files", "alice", MESSAGE, ["-n", "file"], "another namespace"),
    ("for another letter", "alice", MESSAGE, ["-n", "Openexec"], "another namespace"),
    ("over another hash", "alice", MESSAGE, ["-n", "openexec", "-O", "hashalg=sha256"], "another hash"),
    ("by RSA", "rsa", MESSAGE, ["-n", "openexec"], "another type"),
    ("by ECDSA", "ecdsa", MESSAGE, ["-n", "openexec"], "another type"),
]


def unarmoured(text):
    lines = text.split("\n")
    return "".join(lines[1 : lines.index("-----END SSH SIGNATURE-----")])


def run(*words, data=None):
    done = subprocess.run(words, input=data, capture_output=True, check=True)
    return done.stdout.decode()


with tempfile.TemporaryDirectory() as scratch:
    directory = pathlib.Path(scratch)
    for name, kind in KINDS.items():
        run("ssh-keygen", "-q", "-N", "", "-C", f"{name} of nowhere", "-f", str(directory / name), *kind)
    public = {name: (directory / f"{name}.pub").read_text() for name in KINDS}
    cases = []
    for name, key, message, options, expect in CASES:
        signed = run("ssh-keygen", "-Y", "sign", "-f", str(directory / key), *options, data=message.encode())
        cases.append({"name": name, "signature": unarmoured(signed), "expect": expect})
published = pathlib.Path(sys.argv[1]) / "regress/unittests/sshsig/testdata"
names = ["ed25519", "ed25519_sk", "ecdsa", "ecdsa_sk", "rsa", "mldsa44-ed25519"]
openssh = {
    "message": (published / "signed-data").read_text(),
    "namespace": (published / "namespace").read_text(),
    "keys": {
        name: {
            "public": (published / f"{name}.pub").read_text(),
            "signature": unarmoured((published / f"{name}.sig").read_text()),
        }
        for name in names
    },
}
about = "Written by ssh.py beside this file: what OpenSSH's ssh-keygen made, and what OpenSSH publishes to test with."
file = {"about": about, "artifact": FIELDS, "keys": public, "cases": cases, "openssh": openssh}
print(json.dumps(file, indent=1))
