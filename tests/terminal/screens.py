"""What a person sees is what is hashed: every command that says something received, under a real
terminal's line discipline, through a terminal emulator (pyte) and the Unicode bidirectional algorithm.

usage: screens.py BINARY

Of every screen, at 40 to 200 columns: only printable ASCII arrives; no line but one of ours alone is
wrapped by the terminal; every line begins with a word of ours; no row is reordered. Requests with
different hashes look different, hashes left out.
"""

import fcntl
import json
import os
import pathlib
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unicodedata
import urllib.error
import urllib.request

import pyte
from bidi.algorithm import get_display

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "python"))
sys.path.insert(0, str(HERE.parents[1] / "docs"))
import read_store  # noqa: E402
from hostile import HOSTILE, SEED  # noqa: E402
from service import private_key, ready, service  # noqa: E402

BINARY = os.path.abspath(sys.argv[1])
WIDTHS = (40, 41, 57, 80, 132, 200)

# Lines of which every byte is ours: they alone may be longer than 39 columns.
OWN = [
    r"(signs   |action_hash|exec_id    |id         |receipt    |root       |            ) +[0-9a-f]{64}",
    r"(?:time   |expires)      [0-9T:.Z-]+", r"time        [0-9T:.Z-]+",
    r"key      [0-9a-f]{16}", r"payload  \(\d+ bytes\)", r"payload", r"index       \d+, of \d+ records",
    r"outcome     executed", r"",
    r"frozen: new executions get 503 until `openexec unfreeze`", r"unfrozen: executions go on",
    r"proposals   \d+, \d+ of them pending; \d+ approvals, \d+ rejections, \d+ closed", r"completions \d+",
    r"records     \d+ in \d+ batches", r"refusals    \d+ stored, \d+ more counted",
    r"executions  \d+ executed, \d+ failed, \d+ indeterminate, \d+ without a receipt yet",
    r"approvals   \d+ claims judged, signatures too",
    r"keys        not checked against keys that you trust: give --keys FILE", r"Type yes: (no)?", r"nothing waits for an approval", r"it was not frozen",
    r"`openexec --help` lists the commands",
    r"  curl -s http://127\.0\.0\.1:\d+/execute -H 'Content-Type: application/json' -d '[ -~]*'",
]
OWN = re.compile("|".join(f"(?:{line})" for line in OWN))


def literals():
    """Every text of the sources into which nothing is put, as it is printed."""
    for source in (HERE.parents[1] / "src").rglob("*.rs"):
        text = re.sub(r"\\\n\s*", "", source.read_text())
        for literal in re.findall(r'"((?:[^"\\]|\\.)*)"', text):
            if not re.search(r"\{\w*(:[^}]*)?\}", literal):
                yield literal.replace('\\"', '"')


LITERALS = frozenset(literals())
# What every other line begins with.
LABELS = (
    "| ", "  ", "{", "2026-03-01T12:00:", "openexec: ", "action   ", "action       ", "nonce    ", "caller       ", "it says      ", "ok          ",
    "log         ", "result      ", "store       ", "checkpoint  ", "configuration: ", "actions: ", "place: ", "key ", "clock: ", "store: ", "warning: ",
    "space: ", "address: ", "made ", "OpenExec listens", "OpenExec serves", "warning", "demo mode", "the ", "this ", "log key: ", "checkpoint file: ",
)

def on_terminal(arguments, width, environment=None, answer=b"", directory=None, until=None):
    """Runs the binary on a terminal of that width, and gives the bytes that reached it."""
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        os.chdir(directory or "/")
        os.execve(BINARY, [b"openexec", *map(os.fsencode, arguments)], {b"PATH": b"/bin"} | (environment or {}))
    said = b""
    while until is None or not until(said):
        try:
            more = os.read(terminal, 65536)
        except OSError:
            break
        if not more:
            break
        said += more
        if answer and said.endswith(b"Type yes: "):
            os.write(terminal, answer)
    if until:
        os.kill(pid, 9)
    os.close(terminal)
    os.waitpid(pid, 0)
    return said


def screen(said, width, what):
    """The rows on the screen, once every promise about them is found kept."""
    where = f"{what!r} at {width} columns, seed {SEED}:\n{said.decode(errors='replace')}"
    assert re.fullmatch(rb"(?:[ -~]|\r\n)*", said), f"unescaped: {where}"
    lines = said.decode().replace("\r", "").split("\n")
    height = sum(max(1, -(-len(line) // width)) for line in lines)
    emulator = pyte.Screen(width, height + 2)
    pyte.Stream(emulator).feed(said.decode())
    rows = [row.rstrip() for row in emulator.display]
    place = 0
    for line in lines:
        if len(line) > 39 or not line.startswith(LABELS):
            ours = OWN.fullmatch(line) or line.removeprefix("openexec: ") in LITERALS
            assert ours, f"neither ours nor folded and labelled: {line!r} in {where}"
        else:
            assert rows[place] == line.rstrip(), f"{rows[place]!r} for {line!r} in {where}"
        place += max(1, -(-len(line) // width))
    for row in rows:
        assert get_display(row) == row, f"reordered: {row!r} in {where}"
    return rows


def without_hashes(rows):
    """What is left to be compared by eye."""
    hidden = ("signs ", "expires ", "action_hash ", "exec_id ", "time ")
    kept, skip = [], False
    for row in rows:
        skip = row.startswith(hidden) or (skip and re.fullmatch(r"[0-9a-f.:TZ()a-z -]+", row) and not row.startswith(LABELS))
        if not skip:
            kept.append(row)
    return "\n".join(kept)


class Screens:
    """Which request each screen stands for."""

    def __init__(self):
        self.seen = {}

    def take(self, width, shown, request):
        text = json.dumps(request, sort_keys=True)
        other = self.seen.setdefault((width, shown), text)
        assert other == text, f"at {width} columns, seed {SEED}, these look alike:\n{other}\n{text}\n{shown}"


def post(url, request):
    made = urllib.request.Request(f"{url}/execute", json.dumps(request).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(made, timeout=20) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refusal:
        return json.load(refusal)


def pending():
    requests = [
        {"action": "echo", "nonce": f"n{number}\u05ea", "payload": {"x": text}}
        for number, text in enumerate(HOSTILE[:40] + ["z" * 5000])
    ]
    with service(BINARY, clawshield=True) as (url, scratch):
        environment = {b"OPENEXEC_DB_URL": f"file:{scratch}/store".encode()}
        for request in requests:
            while not post(url, request)["recorded"]:
                pass
        for width in WIDTHS:
            rows = screen(on_terminal(["pending"], width, environment), width, "pending")
            entries = re.split(r"\n(?=time  )", "\n".join(rows).strip())
            assert len(entries) == len(requests), entries
            screens = Screens()
            for entry, request in zip(entries, requests, strict=True):
                screens.take(width, without_hashes(entry.split("\n")), request)
        piped = subprocess.run([BINARY, "pending"], env=environment, check=True, capture_output=True).stdout
        assert piped.isascii(), "unescaped on a pipe"
        read = [json.loads(line) for line in piped.splitlines()]
        assert [line["nonce"] for line in read] == [request["nonce"] for request in requests]
        asked = [request["payload"] for request in requests[:40]]
        assert [line["payload"] for line in read[:40]] == asked


def proofs():
    with service(BINARY, evidence=True) as (url, scratch):
        environment = {
            b"OPENEXEC_DB_URL": f"file:{scratch}/store".encode(),
            b"OPENEXEC_LOG_KEY_FILE": str(scratch / "log.pem").encode(),
            b"OPENEXEC_LOG_ORIGIN": b"example.com/log",
            b"OPENEXEC_CHECKPOINT_FILE": str(scratch / "elsewhere/checkpoint").encode(),
        }
        vkey = subprocess.run([BINARY, "checkpoint", "--vkey"], env=environment, check=True, capture_output=True, text=True).stdout.strip()
        screens = Screens()
        for number, text in enumerate(HOSTILE[:40]):
            payload = {"x": text}
            executed = post(url, {"action": "echo", "nonce": f"n{number}", "payload": payload})
            with urllib.request.urlopen(f"{url}/receipts/{executed['id']}/proof", timeout=20) as answer:
                proof = answer.read()
            file = scratch / "zz\u202e\n\x1b[2Jproof"
            file.write_bytes(proof)
            for width in (40, 80):
                rows = screen(on_terminal(["verify", "--proof", file, "--log-key", vkey], width), width, payload)
                assert rows[0].startswith("ok "), rows
                shown = "\n".join(rows)
                screens.take(width, shown[shown.index("\nresult "):shown.index("\nroot ")], payload)
        # A note that somebody has added to; whole on a pipe, whatever it holds.
        note = (scratch / "elsewhere/checkpoint").read_text()
        name = "z\u05ea" * 20
        note += "\u2014 " + name + " AAAAAAAAAAA=\n"
        (scratch / "elsewhere/checkpoint").write_text(note)
        for width in WIDTHS:
            rows = screen(on_terminal(["checkpoint"], width, environment), width, "checkpoint")
            assert "\\u05ea" in "".join(rows), rows
        piped = subprocess.run([BINARY, "checkpoint"], env=environment, check=True, capture_output=True).stdout
        assert piped == note.encode(), piped


def forged(directory, records):
    """A store of one batch, as its roots go."""
    identity = {"store": "0f" * 16, "mode": "clawshield"}
    at = "2026-03-01T12:00:00.000000Z"
    records = [{"kind": "store", "at": at, **identity}, *records]
    lines = [read_store.canonical(record) for record in records]
    tree = []
    for line in lines:
        read_store.push(tree, read_store.sha(b"\0", line).digest())
    first = {"kind": "segment", "format": 2, "created": at, "first": 0, "batch": 0, "root": read_store.root([]), **identity}
    commit = {"kind": "commit", "batch": 1, "size": len(lines), "root": read_store.root(tree)}
    text = "\n".join([read_store.canonical(first), *lines, read_store.canonical(commit)])
    directory.mkdir()
    (directory / "00000001.jsonl").write_bytes(text.encode().ljust(read_store.SEGMENT, b"\n"))


def history(scratch):
    """Rows whose callers, keys and reasons are anything: different ones look different."""
    records = []
    for number, text in enumerate(HOSTILE[:60]):
        of = {"at": f"2026-03-01T12:00:{number:02}.000000Z", "id": f"{number:064x}"}
        records.append({
            "kind": "proposal", "action": "echo", "payload": {"x": text}, "nonce": f"n{number}", "caller": text,
            "justification": text, "asynchronous": False, "expires": "2026-03-02T12:00:00.000000Z", **of})
        records.append({"kind": "rejection", "key": text, "artifact": {"justification": text}, **of})
    forged(scratch / "forged", records)
    for width in WIDTHS:
        rows = screen(on_terminal(["history", scratch / "forged"], width), width, "history")
        entries = re.split(r"\n(?=2026-)", "\n".join(rows).partition("\nsignatures")[0].strip())
        assert len(entries) == len(records) // 2, entries
        screens = Screens()
        for entry, asked in zip(entries, records[::2], strict=True):
            screens.take(width, entry[len("2026-03-01T12:00:00.000000Z 00000000"):].replace(asked["id"], ""), asked["caller"])
        rows = screen(on_terminal(["history", "--json", scratch / "forged"], width), width, "history --json")
        assert sum(row.startswith("{") for row in rows) == len(entries), rows
    piped = subprocess.run([BINARY, "history", "--json", scratch / "forged"], check=True, capture_output=True).stdout
    assert piped.isascii(), "unescaped on a pipe"
    assert [json.loads(line)["records"] for line in piped.splitlines()] == [
        [one, other] for one, other in zip(records[::2], records[1::2])]


def others(scratch):
    """Everything else that says what it was given: files, names, settings, arguments."""
    bad = "zz\u202e \u05ea 1 2\n\x1b[2J\x08zz  " + "z" * 60
    keys = scratch / "keys.json"
    plain = scratch / "".join(char for char in bad if unicodedata.category(char) != "Cc")
    plain.mkdir()
    where = scratch / bad
    where.symlink_to(plain)
    store = {b"OPENEXEC_DB_URL": b"file:" + os.fsencode(plain / "store")}
    subprocess.run([BINARY, "init"], env=store, check=True, stdout=subprocess.DEVNULL)
    public = subprocess.run(
        ["openssl", "pkey", "-in", private_key(scratch / "a.pem"), "-pubout"], check=True, capture_output=True, text=True
    ).stdout
    request = scratch / "bad.json"
    clawshield = {b"OPENEXEC_MODE": b"clawshield", b"CLAWSHIELD_TENANT_ID": b"t", b"OPENEXEC_KEYS_FILE": os.fsencode(keys)}
    cases = [
        (["verify", where / "store"], {}), (["checkpoint", where / "store"], {}), (["verify", where / "none"], {}), (["history", where / "none"], {}),
        (["history", "--since", bad], store), (["history", "--state", bad], store), (["history", "--key", bad], store),
        (["verify", "--proof", where, "--log-key", bad], {}), (["verify", "--keys", where / "none", where / "store"], {}),
        (["verify", "--checkpoint", where / "none"], store), (["check"], store), (["init"], store), (["pending"], store),
        (["freeze", "--reason", bad.replace("\n", "").replace("\x1b", "").replace("\x08", "")], store), (["unfreeze"], store),
        (["freeze", "--reason", bad], store), (["healthcheck"], store), ([bad], {}), (["--" + bad], {}),
        (["check", "--" + bad], store), (["hash", where / "none"], {}), (["check", bad], store),
        *((["check"], store | {name: bad.encode()}) for name in (
            b"OPENEXEC_MODE", b"OPENEXEC_LISTEN", b"OPENEXEC_ALLOWED_ACTIONS", b"OPENEXEC_LOG", b"OPENEXEC_" + bad.encode(),
            b"OPENEXEC_ALLOWED_HOSTS", b"OPENEXEC_MAX_CONNECTIONS", b"OPENEXEC_FILES_DIR", b"OPENEXEC_OUTBOX_DIR",
            b"OPENEXEC_CHECKPOINT_FILE", b"OPENEXEC_LOG_ORIGIN", b"OPENEXEC_DB_URL")),
        *((["check"], store | {name: b"\xff\xfe" + bad.encode()}) for name in (b"OPENEXEC_MODE", b"OPENEXEC_FILES_DIR", b"OPENEXEC_\xff")),
    ]
    for text in (
        {"keys": [{"name": bad, "public_key": public}]}, {"keys": [{"name": "\u05ea\u202ezz 1 2", "public_key": public}]},
        {"keys": [{"name": "a", "public_key": bad}]}, {"keys": [{"name": "a", "public_key": public, bad: 1}]},
        {"keys": [{"name": "a", "public_key": public, "actions": [bad]}]}, {"keys": [], bad: 1},
        {"keys": [{"name": "a", "public_key": public, "not_after": bad}]}, {"keys": [{"name": "a", "public_key": public}], "required": {bad: 1}},
        {"keys": [{"name": "a", "public_key": public}, {"name": "z\u05ea", "public_key": public}]},
    ):
        cases.append((["check"], clawshield | {b"KEYS": json.dumps(text).encode()}))
        cases.append((["verify", "--keys", keys, where / "store"], {b"KEYS": json.dumps(text).encode()}))
    for text in ({bad: 1}, {"action": bad}, {"action": "echo", "nonce": bad}, {"action": "echo", "payload": bad}, bad):
        cases.append((["hash", request], {b"REQUEST": json.dumps(text).encode()}))
    for arguments, environment in cases:
        keys.write_bytes(environment.get(b"KEYS", b"{}"))
        keys.chmod(0o644)
        request.write_bytes(environment.get(b"REQUEST", b'{"action":"echo"}'))
        for width in (40, 80, 200):
            said = on_terminal(arguments, width, environment, directory=where)
            assert said, (arguments, environment)
            screen(said, width, (arguments, environment))
        piped = subprocess.run(
            [BINARY, *arguments], env=environment, cwd=where, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        assert re.fullmatch(rb"(?:[ -~]|\n)*", piped.stdout + piped.stderr), (arguments, piped)
    # What somebody wrote into LOCK is the address that is asked.
    (where / "store/LOCK").write_text(f"1 {bad}\n")
    screen(on_terminal(["healthcheck"], 40, store), 40, "healthcheck")
    return len(cases) + 1


def journal(scratch):
    """As text on a terminal, and as JSON lines on a pipe."""
    where = scratch / "zz\u202e \u05ea  zz"
    environment = {b"OPENEXEC_DB_URL": b"file:" + os.fsencode(where), b"OPENEXEC_LISTEN": b"127.0.0.1:0"}
    environment[b"OPENEXEC_ZZ\xd7\xaa\x1b[2J"] = b"1"
    for width in WIDTHS:
        said = on_terminal([], width, environment, until=lambda said: b"curl -s" in said and said.endswith(b"\n"))
        screen(said, width, "journal")
    log = scratch / "journal"
    with log.open("wb") as stream:
        server = subprocess.Popen([BINARY], env=environment, stderr=stream)
        try:
            ready(server, where / "LOCK")
            # Another thread writes, as it comes to it.
            while b"OpenExec serves" not in log.read_bytes():
                assert server.poll() is None
                time.sleep(0.01)
        finally:
            server.kill()
            server.wait()
    assert log.read_bytes().isascii(), log.read_bytes()
    read = [json.loads(line) for line in log.read_text().splitlines()]
    assert str(where) in [line.get("store") for line in read], read


with tempfile.TemporaryDirectory() as directory:
    print(f"seed {SEED}")
    pending()
    history(pathlib.Path(directory))
    proofs()
    print(f"{others(pathlib.Path(directory))} other commands, files and settings")
    journal(pathlib.Path(directory))
    print("nothing unescaped, nothing received begins a line, nothing reordered")
