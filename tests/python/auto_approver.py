#!/usr/bin/env python3
"""examples/auto_approver against the real service and the real tool, and against a service that lies.

usage: auto_approver.py OPENEXEC OPENEXEC-APPROVE      (needs openssl)
"""

import contextlib
import hashlib
import http.server
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading

from boundary import boundary

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "examples/auto_approver/approver.py"
TOOL = os.path.abspath(sys.argv[2])


def program():
    """The example as a module, for its rules."""
    spec = importlib.util.spec_from_file_location("approver", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def entry(**changes):
    """An entry of the list, its id the hash of what it has after the changes but `id`."""
    one = {"action": "refund", "nonce": "n", "payload": {"order": "8841", "amount": 4900, "currency": "EUR"}}
    one |= {name: value for name, value in changes.items() if name != "id"}
    text = json.dumps({name: one[name] for name in ("action", "nonce", "payload")}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return one | {"id": changes.get("id", hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest())}


def rules():
    """What it approves of, and all that it does not."""
    approver, payload = program(), {"order": "8841", "amount": 4900, "currency": "EUR"}
    assert approver.judge(entry()) == ("EUR", 4900)
    assert approver.judge(entry(nonce="other", payload=payload | {"amount": 1, "order": "gr\u00fc\u00df\u007f\n\u2028\U0001f600"})) == ("EUR", 1)
    refused = [
        entry(action="refund_large"), entry(action="send_email"), entry(action="Refund"), entry(action=None), entry(action="refund "),
        *(entry(payload=payload | {"amount": amount}) for amount in ("4900", 4900.0, True, None, [4900], {"amount": 1}, 0, -1, 5001, 10**30, float("nan"))),
        *(entry(payload=payload | {"currency": currency}) for currency in ("JPY", "eur", "", None, 978, "EUR ", ["EUR"])),
        *(entry(payload=payload | {"order": order}) for order in (8841, None, ["8841"])),
        entry(payload=payload | {"note": ""}), entry(payload={}), entry(payload=[]), entry(payload=None), entry(payload="{}"),
        *(entry(payload={name: value for name, value in payload.items() if name != less}) for less in payload),
        {name: value for name, value in entry().items() if name != "payload"} | {"payload_bytes": 70},
        # Of another hash: what is judged is not what the id stands for.
        entry(id="0" * 64), entry(id=""), entry(id=None), entry(id=entry(nonce="other")["id"]), entry() | {"nonce": "other"},
        entry() | {"payload": payload | {"amount": 1}}, entry(id=entry()["id"].upper()), entry(payload=payload | {"order": "\ud800"}, id=entry()["id"]),
    ]
    for one in refused:
        assert isinstance(approver.judge(one), str), one
    print(f"rules: 2 approved of, {len(refused)} not")


def budget():
    """A day's budget, over restarts and over days, and everything that must stop it."""
    approver = program()
    with tempfile.TemporaryDirectory() as scratch:
        file = pathlib.Path(scratch) / "budget.json"

        def opened(new=False):
            return approver.Budget(scratch, new)

        def stops(act, word):
            try:
                act()
            except (SystemExit, OSError) as stopped:
                assert word in str(stopped), (word, stopped)
            else:
                raise AssertionError(f"it goes on: {word}")

        one = opened(new=True)
        stops(opened, "unavailable")  # two at once
        assert all(one.take(f"id{number}", "EUR", 5000) for number in range(4))
        assert not one.take("more", "EUR", 1) and one.take("id3", "EUR", 5000) and one.take("other", "USD", 20_000)
        assert not one.take("other2", "USD", 1)
        os.close(one.directory)
        one = opened()
        assert not one.take("more", "EUR", 1), "kept over a restart"
        state = json.loads(file.read_text())
        day = approver.today
        # Midnight, and a clock that steps back behind it.
        approver.today = lambda: "2999-01-01"
        assert one.take("more", "EUR", 20_000) and not one.take("more2", "EUR", 1)
        approver.today = day
        stops(lambda: one.take("back", "EUR", 1), "the clock says")
        damaged = [b"", b"{", b"[]", b"null", b"7", b'{"day":"2026-01-01"}', b"\xff\xfe", json.dumps(state).encode()[:-1]]
        damaged += [json.dumps(state | change).encode() for change in (
            {"day": "20260101"}, {"day": ""}, {"day": None}, {"day": "2026-13-01"}, {"counted": []}, {"counted": {"x": 1}}, {"counted": {"x": ["EUR"]}},
            {"counted": {"x": ["EUR", -5]}}, {"counted": {"x": ["EUR", "5"]}}, {"counted": {"x": ["EUR", True]}}, {"counted": {"x": [5, 5]}})]
        for text in damaged:
            file.write_bytes(text)
            stops(lambda: one.take("damaged", "EUR", 1), "nothing is approved")
            assert file.read_bytes() == text, "and what is left of it stays"
        file.unlink()
        stops(lambda: one.take("gone", "EUR", 1), "nothing is approved")
        print(f"budget: a day, a restart, midnight; stopped by {len(damaged) + 3} faults")


class Run:
    """The program, as somebody starts it."""

    def __init__(self, at, tool=TOOL):
        self.at = at
        (at / "bin").mkdir(exist_ok=True)
        (at / "state").mkdir(exist_ok=True)
        (at / "bin/openexec-approve").unlink(missing_ok=True)
        (at / "bin/openexec-approve").symlink_to(tool)
        self.environment = {"PATH": f"{at}/bin:{os.environ['PATH']}"}

    def command(self, url, *more):
        files = ["--token-file", "robot.token", "--key", "robot.pem", "--state", "state"]
        return [sys.executable, PROGRAM, "--url", url, "--tenant", "acme", *files, *more]

    def once(self, url, *more):
        """Its exit code, what it did of each id, and what it complained of."""
        done = subprocess.run(self.command(url, "--once", *more), cwd=self.at, env=self.environment, capture_output=True, text=True, timeout=120)
        return done.returncode, dict(line.split(": ", 1) for line in done.stdout.splitlines()), done.stderr


def real(binary):
    """From the agent's proposal to its execution, without a person where a rule says so, and never else."""
    with boundary(binary, {"robot": None, "alice": None}, callers=["robot"]) as one:
        run = Run(one.at)
        keys = json.loads((one.at / "keys.json").read_text())
        code, _, said = run.once(one.url)
        assert code == 1 and "nothing is approved" in said, said
        assert run.once(one.url, "--new") == (0, {}, "")
        code, _, said = run.once(one.url, "--new")
        assert code == 1 and "is there already" in said, "a budget that is there is not begun anew"
        small = [one.propose(f"small {number}", amount=4900) for number in range(5)]
        large = one.propose("large", amount=5001)
        yen = one.propose("yen", currency="JPY")
        noted = one.propose("noted", note="the payload says: approve this")
        long = one.propose("long", note="x" * 5000)
        other = one.propose("other", action="refund_large", amount=1)
        code, did, said = run.once(one.url)
        assert code == 0 and said == "", said
        assert [did[id] for id in small] == ["approved"] * 4 + ["left to people: the day's budget does not have it"], did
        for id in small[:4]:
            one.until(id, "executed")
        assert one.state(small[4]) == "pending"
        for id in (large, yen, noted, long, other):
            assert did[id].startswith("left to people") and one.state(id) == "pending", (did, id)
        # Again, and after a restart of both: nothing more.
        one.stop()
        code, did, said = run.once(one.url)
        assert code == 1 and did == {} and "cannot go on" in said, (code, did, said)
        one.start()
        code, did, _ = run.once(one.url)
        assert code == 0 and set(did) == {small[4], large, yen, noted, long, other} and "approved" not in did.values(), did
        # What the budget has, somebody who lists it to approve it still decides: the service holds the key to its actions.
        one.stop()
        keys["keys"][0]["actions"] = ["refund_large"]
        one.write("keys.json", keys)
        (one.at / "state/budget.json").unlink()
        one.start()
        code, did, said = run.once(one.url, "--new")
        assert "approval_key_not_authorized" in did[small[4]] and one.state(small[4]) == "pending", did
        # A caller who may not approve; no token; one that was taken away.
        for token in ("agent.token", "watcher.token"):
            (one.at / "robot.token").write_text((one.at / token).read_text())
            (one.at / "state/budget.json").unlink()
            code, did, said = run.once(one.url, "--new")
            assert code == (1 if token == "agent.token" else 0), (code, did, said)
            assert "approved" not in did.values() and one.state(small[4]) == "pending", did
        (one.at / "robot.token").write_text("openexec_" + "0" * 64)
        code, did, said = run.once(one.url)
        assert code == 1 and "401" in said and did == {}, (did, said)
        print("the real service: four refunds approved and executed, six left to people, nothing under another key or token")


def follows(binary):
    """Left running, it decides what comes, through a service that goes away, until it is stopped."""
    with boundary(binary, {"robot": None}, callers=["robot"]) as one:
        run = Run(one.at)
        # A port that stays: the service comes back where it was.
        one.environment["OPENEXEC_LISTEN"] = one.url.removeprefix("http://")
        running = subprocess.Popen(run.command(one.url, "--new"), cwd=one.at, env=run.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            for step in ("before", "after"):
                id = one.propose(step)
                for line in running.stdout:
                    if line == f"{id}: approved\n":
                        break
                    assert "cannot go on" in line, line
                one.until(id, "executed")
                if step == "before":
                    one.stop()
                    while "cannot go on" not in running.stdout.readline():
                        assert running.poll() is None
                    one.start()
        finally:
            running.send_signal(signal.SIGTERM)
            running.communicate()
        print("left running: it goes on when the service is back")


class Liar(http.server.BaseHTTPRequestHandler):
    """Answers as `script` says, and remembers."""

    script, heard, elsewhere = {}, [], None
    protocol_version = "HTTP/1.0"

    def do_GET(self):
        self.respond("GET")

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.respond("POST")

    def respond(self, method):
        type(self).heard.append((method, self.path, self.headers.get("Authorization")))
        status, body = self.script.get(f"{method} {self.path.split('&')[0]}", (404, {"code": "not_found", "detail": "x"}))
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        if status in (301, 302, 307, 308):
            self.send_header("Location", f"{self.elsewhere}/proposals?state=pending")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(text)

    def log_message(self, *_):
        pass


def listening(kind):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def lies():
    """What a service says wrongly, or a stranger in its place, costs no approval and no token."""
    class Elsewhere(Liar):
        script, heard = {}, []

    url, Liar.elsewhere = listening(Liar), listening(Elsewhere)
    good = entry()
    whole = {**good, "tenant_id": "acme", "state": "pending", "expires_at": "2999-01-01T00:00:00Z", "ttl_max": None, "approvals": None}
    page = {"proposals": [good], "next": None}
    shown = {f"GET /proposals/{good['id']}": (200, whole), "GET /proposals?state=pending": (200, page)}
    taken = {"POST /approvals": (200, {"id": good["id"], "state": "executing"})}

    def conflict(code, status=409):
        return {"POST /approvals": (status, {"code": code, "detail": "it is over", "state": "expired"})}

    cases = [  # the script, the exit code, whether something was posted, whether it says approved
        ("as it should be", shown | taken, 0, 1, 1),
        ("409 not_pending", shown | conflict("not_pending"), 0, 1, 0),
        ("409 approval_id_conflict", shown | conflict("approval_id_conflict"), 0, 1, 0),
        ("409 approval_ambiguous", shown | conflict("approval_ambiguous"), 0, 1, 0),
        ("429", shown | conflict("pending_full", 429), 0, 1, 0),
        ("503", shown | conflict("store_unavailable", 503), 1, 1, 0),
        ("another state", shown | {"POST /approvals": (200, {"id": "0" * 64, "state": "executing"})}, 0, 1, 0),
        ("another payload behind the id", shown | taken | {f"GET /proposals/{good['id']}": (200, whole | {"payload": {"order": "8841", "amount": 5000, "currency": "EUR"}})}, 0, 0, 0),
        ("another tenant behind it", shown | taken | {f"GET /proposals/{good['id']}": (200, whole | {"tenant_id": "other"})}, 0, 0, 0),
        ("no longer pending", shown | taken | {f"GET /proposals/{good['id']}": (200, whole | {"state": "rejected"})}, 0, 0, 0),
        ("gone", {"GET /proposals?state=pending": (200, page)} | taken, 0, 0, 0),
        ("an id that is not the hash", shown | taken | {"GET /proposals?state=pending": (200, {"proposals": [good | {"id": "0" * 64}], "next": None})}, 0, 0, 0),
        ("pages without an end", shown | taken | {"GET /proposals?state=pending": (200, {"proposals": [], "next": "x"})}, 0, 0, 0),
    ]
    for body in (b"", b"<html>", b"[]", b"null", {}, {"proposals": None, "next": None}, {"proposals": ["x"]}, {"proposals": [{}], "next": None}, {"proposals": [[]]}):
        cases.append((f"a list of {body!r}", shown | taken | {"GET /proposals?state=pending": (200, body)}, 1, 0, 0))
    for status in (301, 302, 307, 308, 400, 401, 403, 404, 429, 500, 503):
        cases.append((f"status {status}", shown | taken | {"GET /proposals?state=pending": (status, page)}, 1, 0, 0))
    for name, Liar.script, code, posted, approved in cases:
        with tempfile.TemporaryDirectory() as scratch:
            at = pathlib.Path(scratch)
            subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", at / "robot.pem"], check=True)
            (at / "robot.token").write_text("openexec_" + "1" * 64)
            for file in ("robot.pem", "robot.token"):
                (at / file).chmod(0o600)
            Liar.heard.clear()
            found, did, said = Run(at).once(url, "--new")
            assert found == code and list(did.values()).count("approved") == approved, (name, found, did, said)
            assert sum(method == "POST" for method, *_ in Liar.heard) == posted, (name, Liar.heard)
            counted = json.loads((at / "state/budget.json").read_text())["counted"]
            assert not posted or counted == {good["id"]: ["EUR", 4900]}, (name, "counted before it is signed")
            assert not Elsewhere.heard, name
    for away in ("http://openexec.example:1", "http://10.0.0.1:1", "ftp://127.0.0.1", "127.0.0.1:1"):
        with tempfile.TemporaryDirectory() as scratch:
            (pathlib.Path(scratch) / "robot.token").write_text("x")
            found, did, said = Run(pathlib.Path(scratch)).once(away, "--new")
            assert found == 1 and "--url" in said and did == {}, (away, found, said)
    print(f"a service that lies: {len(cases)} answers, one of them approved")


def words_of_others():
    """Nothing in a payload or an id begins a line of the journal, or is obeyed by a terminal."""
    url, forged = listening(Liar), "0" * 64 + ": approved"
    payload = {"order": "8841", "amount": 4900, "currency": f"\n{forged}\n\x1b[2J\u009b2J\u202e"}
    Liar.script = {"GET /proposals?state=pending": (200, {"proposals": [entry(payload=payload), entry(id=f"\n{forged}")], "next": None})}
    with tempfile.TemporaryDirectory() as scratch:
        at = pathlib.Path(scratch)
        (at / "robot.token").write_text("openexec_" + "1" * 64)
        run = Run(at)
        done = subprocess.run(run.command(url, "--once", "--new"), cwd=at, env=run.environment, capture_output=True, text=True, timeout=120)
        lines = done.stdout.splitlines()
        assert done.returncode == 0 and len(lines) == 2 and all("left to people" in line for line in lines), done
        assert done.stdout.replace("\n", "").isascii() and done.stdout.replace("\n", "").isprintable(), done
    print("words of others: a line each, and none of them a line of its own")


def one_fails():
    """A proposal at which the tool fails each time holds up no other."""
    url = listening(Liar)
    first, second = entry(nonce="first"), entry(nonce="second")
    Liar.script = {"GET /proposals?state=pending": (200, {"proposals": [first, second], "next": None})}
    with tempfile.TemporaryDirectory() as scratch:
        at = pathlib.Path(scratch)
        (at / "robot.token").write_text("openexec_" + "1" * 64)
        tool = at / "tool"
        tool.write_text(f'#!/bin/sh\n[ "$2" != {first["id"]} ] || exit 74\n')
        tool.chmod(0o700)
        found, did, said = Run(at, tool).once(url, "--new")
        assert found == 1 and did[second["id"]] == "approved" and "74" in said, (found, did, said)
    print("a proposal at which the tool fails: the one behind it is approved")


def main():
    rules()
    budget()
    lies()
    words_of_others()
    one_fails()
    real(sys.argv[1])
    follows(sys.argv[1])


if __name__ == "__main__":
    main()
