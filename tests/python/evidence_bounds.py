"""Evidence that is made to use up memory: docs/verify_evidence.py refuses it as `openexec verify --evidence` does, before it makes
values of it; and takes the largest that is genuine.

usage: evidence_bounds.py OPENEXEC_BINARY
"""

import base64
import hashlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "workers"))
from common import Boundary, scratch_directory  # noqa: E402

SCRIPT = ROOT / "docs" / "verify_evidence.py"
# The text three times or so; as values it is more than twice that.
MEMORY_KIB_MAX = 400 * 1024
STORE = '{"at":"2026-01-01T00:00:00.000000Z","kind":"store","mode":"demo","store":"' + "a" * 32 + '"}'
# In a process of its own: one is said to have had what the process that started it had.
MEASURE = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
print(process.returncode, usage.ru_maxrss)
"""


def module():
    spec = importlib.util.spec_from_file_location("verify_evidence", SCRIPT)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def ended(command):
    """The exit status, and the most memory it had, in KiB."""
    return tuple(map(int, subprocess.run([sys.executable, "-c", MEASURE, *command], capture_output=True, check=True).stdout.split()))


def bundle(record):
    """Of a log with the store's record and this one."""
    leaves = [hashlib.sha256(b"\0" + line.encode()).digest() for line in (STORE, record)]
    root = hashlib.sha256(b"\1" + leaves[0] + leaves[1]).digest()
    text = lambda data: base64.b64encode(data).decode()
    records = [{"index": n, "path": [text(leaves[1 - n])], "record": line} for n, line in enumerate((STORE, record))]
    value = {"checkpoint": f"openexec/{'a' * 32}\n2\n{text(root)}\n", "records": records, "version": 1}
    return json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n"


def of_bombs(binary, scratch):
    many = 10_000_000
    lists, objects = "[" + ",".join(["[]"] * many) + "]", "[" + ",".join(["{}"] * many) + "]"
    claim = '{"action":"a","at":"2026-01-01T00:00:00.000000Z","payload":%s}'
    # Short names: more than any field has; and as many as a field may have, in each of as many fields as a record may have.
    names = lambda first, last: "{" + ",".join(f'"{n:x}":0' for n in range(first, last)) + "}"
    fields = ",".join(f'"{chr(97 + n)}":' + names(n * 131_000, (n + 1) * 131_000) for n in range(15))
    bombs = [
        lists, objects, claim % lists, "[" * 200_000 + "]" * 200_000, claim % ("[" * 200_000 + "]" * 200_000), claim % names(0, 4_000_000),
        "{" + fields + "}",
    ]
    del lists, objects, fields
    path = scratch / "bomb.json"
    for number, bomb in enumerate(bombs + bombs[:1]):
        path.write_text(bundle(bomb) if number < len(bombs) else f'{{"checkpoint":"","records":{bomb},"version":1}}\n')
        status, memory = ended([sys.executable, SCRIPT, path])
        assert status == 65 and memory <= MEMORY_KIB_MAX, (number, status, memory)
        assert ended([binary, "verify", "--evidence", path])[0] == 65, number


def of_the_bound():
    """Each field has its own, an object counts as 16, and what stands in a text is none."""
    checker = module()
    field, full = checker.VALUES, "[" + ",".join(["0"] * (checker.VALUES - 1)) + "]"
    deep = lambda depth: "[" * depth + "]" * depth
    for text in (
        f'{{"a":{full},"b":{full}}}', "{" + ",".join(f'"{name}":{full}' for name in "abcd") + "}", '{"a":[' + ",".join(["{}"] * (field // 16 - 1)) + "]}", '{"a":"' + "[{,\\\"" * field + '"}', '{"a":' + deep(checker.DEPTH) + "}",
    ):
        assert checker.sized(text, checker.DEPTH + 1, checker.FIELDS) == text
    for text in (
        '{"a":[' + "0," * (field + 32) + "0]}", '{"a":[' + ",".join(["{}"] * (field // 16 + 2)) + "]}", '{"a":' + deep(checker.DEPTH + 1) + "}",
        "[" + ",".join(["0"] * 17) + "]", "{" + ",".join(f'"{name}":{full}' for name in "abcde") + "}",
    ):
        try:
            checker.sized(text, checker.DEPTH + 1, checker.FIELDS)
        except checker.Bad:
            continue
        raise AssertionError(text[:40])


def of_what_is_genuine(binary, scratch):
    boundary = Boundary(binary, scratch)
    try:
        # Of the values that a payload may have, as many as go.
        for number, payload in enumerate(({}, {"msg": [0] * 131_000}, {"msg": "[{,\"\\" * 10_000}, {"msg": [{}] * 8_000})):
            id = boundary.execute({"action": "echo", "nonce": f"n{number}", "payload": payload})["id"]
            environment = os.environ | {"OPENEXEC_DB_URL": f"file:{scratch}/store"}
            made = subprocess.run([binary, "evidence", id], env=environment, capture_output=True, check=True).stdout
            path = scratch / "evidence.json"
            path.write_bytes(made)
            assert ended([sys.executable, SCRIPT, path])[0] == ended([binary, "verify", "--evidence", path])[0] == 0, number
    finally:
        boundary.kill()


def main():
    binary = pathlib.Path(sys.argv[1]).absolute()
    with scratch_directory() as scratch:
        scratch = pathlib.Path(scratch)
        of_the_bound()
        of_bombs(binary, scratch)
        of_what_is_genuine(binary, scratch)
    print("ok: evidence that is too much is refused by both, and the largest genuine one taken")


if __name__ == "__main__":
    main()
