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


def module():
    spec = importlib.util.spec_from_file_location("verify_evidence", SCRIPT)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def ended(command):
    """The exit status, and the most memory it had, in KiB."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss


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
    bombs = [lists, objects, claim % lists, "[" * 200_000 + "]" * 200_000, claim % ("[" * 200_000 + "]" * 200_000)]
    files = [bundle(bomb) for bomb in bombs]
    files.append(f'{{"checkpoint":"","records":{lists},"version":1}}\n')
    path = scratch / "bomb.json"
    for number, file in enumerate(files):
        path.write_text(file)
        status, memory = ended([sys.executable, SCRIPT, path])
        assert status == 65 and memory <= MEMORY_KIB_MAX, (number, status, memory)
        assert ended([binary, "verify", "--evidence", path])[0] == 65, number


def of_the_bound():
    """Each field has its own, an object counts as 16, and what stands in a text is none."""
    checker = module()
    field, full = checker.VALUES, "[" + ",".join(["0"] * (checker.VALUES - 1)) + "]"
    deep = lambda depth: "[" * depth + "]" * depth
    for text in (
        f'{{"a":{full},"b":{full}}}', '{"a":[' + ",".join(["{}"] * (field // 16 - 1)) + "]}", '{"a":"' + "[{,\\\"" * field + '"}', '{"a":' + deep(checker.DEPTH) + "}",
    ):
        assert checker.sized(text, checker.DEPTH + 1, checker.FIELDS) == text
    for text in (
        '{"a":[' + "0," * (field + 32) + "0]}", '{"a":[' + ",".join(["{}"] * (field // 16 + 2)) + "]}", '{"a":' + deep(checker.DEPTH + 1) + "}",
        "[" + ",".join(["0"] * 17) + "]",
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
