"""What `openexec history` says of stores, held to what another program reads from the same files.

usage: history.py BINARY STORE...

Of each store: every row, and the filters, alone and together, by values that the store has and by some that it has
not; as JSON and as a table. `tests/readers/history.rs` makes the stores and runs it.
"""

import collections
import datetime
import hashlib
import itertools
import json
import pathlib
import random
import re
import subprocess
import sys

BINARY = sys.argv[1]
ENDS = {"rejection": "rejected", "closed": None, "receipt": None}
WAITING = {"pending", "executing"}


def lines(directory):
    for file in sorted(pathlib.Path(directory).glob("[0-9]*.jsonl")):
        for line in file.read_bytes().split(b"\n"):
            value = json.loads(line) if line else {"kind": "commit"}
            if value["kind"] not in ("segment", "commit"):
                yield value


def moment(text):
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        text += "T00:00:00Z"
    time = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return time if time.tzinfo else time.replace(tzinfo=datetime.timezone.utc)


def called(policy, key):
    """The names under which the policy has the key."""
    for known in (policy or {}).get("keys") or []:
        digest = hashlib.sha256(bytes.fromhex(known["public_key"])).hexdigest()
        if key in (known["name"], known["person"], known["public_key"], digest[:16]):
            yield known["name"]


class Row:
    def __init__(self, number):
        self.begun, self.ended, self.records, self.completion, self.policies = number, None, [], None, []

    def said(self):
        return self.records + ([self.completion] if self.completion else [])

    def of(self, kind):
        return next((record for record in self.records if record["kind"] == kind), None)

    def state(self):
        kinds = [record["kind"] for record in self.records]
        if "refusal" in kinds:
            return "refused"
        if "receipt" in kinds:
            return self.of("receipt")["outcome"]
        if "closed" in kinds:
            return self.of("closed")["how"]
        if "rejection" in kinds:
            return "rejected"
        return "executing" if "claim" in kinds else "pending"

    def is_told(self):
        return bool(self.completion) and self.completion["outcome"] != "indeterminate"

    def is_open(self):
        receipt = self.of("receipt")
        queued = receipt["result"].get("queued") if receipt and receipt["outcome"] == "executed" else None
        return isinstance(queued, dict) and "job" in queued and not self.is_told()

    def states(self):
        yield self.state()
        if self.is_open():
            yield "open"
        if self.is_told():
            yield "completed"
        if self.state() in WAITING or self.is_open() or self.state() == "indeterminate" and not self.is_told():
            yield "stuck"

    def as_json(self):
        first = self.records[0]
        claim, receipt = self.of("claim"), self.of("receipt")
        keys = claim["keys"] if claim else [r["key"] for r in self.records if r["kind"] == "approval"]
        took = None
        if claim and receipt and claim["effect"] != "pure":
            took = max(moment(receipt["at"]) - moment(claim["at"]), datetime.timedelta())
        payload = json.dumps(first.get("payload"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        deciding = [r for r in self.records if r["kind"] not in ("asynchronous", "approval", "retry")]
        return {
            "action": first["action"], "asked_at": first["at"], "at": deciding[-1]["at"], "caller": first["caller"],
            "id": first["id"], "keys": list(dict.fromkeys(keys)),
            "milliseconds": None if took is None else took // datetime.timedelta(milliseconds=1),
            "open": self.is_open(),
            "payload_hash": first.get("payload_hash") or hashlib.sha256(payload.encode()).hexdigest(),
            "records": self.said(), "state": self.state(),
        }

    def happened(self, wanted):
        for record, policy in zip(self.said(), self.policies + [None]):
            keys = record["keys"] if record["kind"] == "claim" else [record.get("key")]
            by = record["kind"] in ("claim", "approval", "rejection") and set(called(policy, wanted.get("--key"))) & set(keys)
            late = "--since" in wanted and moment(record["at"]) < moment(wanted["--since"])
            early = "--until" in wanted and moment(record["at"]) >= moment(wanted["--until"])
            if not late and not early and (by or "--key" not in wanted):
                return True
        return False

    def fits(self, wanted):
        first = self.records[0]
        states = wanted.get("--state")
        return (self.happened(wanted) and wanted.get("--action", first["action"]) == first["action"]
                and wanted.get("--caller", first["caller"]) == first["caller"]
                and (states is None or bool(set(states.split(",")) & set(self.states()))))


def rows(directory):
    begun, all_rows, policy = {}, [], None
    for number, record in enumerate(lines(directory)):
        kind = record["kind"]
        if kind == "policy":
            policy = record
        elif kind == "completion":
            begun[record["id"]].completion = record
        elif "id" in record:
            row = Row(number) if kind == "refusal" else begun.setdefault(record["id"], Row(number))
            if not row.records:
                all_rows.append(row)
            row.records.append(record)
            row.policies.append(policy)
            if kind in ("rejection", "closed", "receipt", "refusal"):
                row.ended = number
    return sorted(all_rows, key=lambda row: (row.ended is None, row.ended, row.begun))


def run(directory, *arguments):
    ended = subprocess.run([BINARY, "history", directory, *arguments], capture_output=True, check=False)
    assert ended.stdout.isascii() and ended.stderr.isascii(), ended
    return ended


def compare(directory, known, wanted):
    arguments = list(itertools.chain(*wanted.items()))
    expected = [row.as_json() for row in known if row.fits(wanted)]
    ended = run(directory, "--json", *arguments)
    assert ended.returncode == 0, (arguments, ended)
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    for one, other in itertools.zip_longest(found, expected):
        assert one == other, f"{directory} {arguments}:\n{one}\n{other}"
    counted(directory, [row for row in known if row.fits(wanted)], wanted)
    if len(wanted) == 1:
        return len(expected)
    table = run(directory, *arguments).stdout.decode().splitlines()
    assert len(table) == len(expected), (directory, arguments, table)
    ids = {row.records[0]["id"] for row in known}
    for line, row in zip(table, expected):
        at, short, state, took, action, rest = line.split(" ", 5)
        assert (at, state, action) == (row["at"], row["state"], row["action"]), line
        assert took == ("-" if row["milliseconds"] is None else str(row["milliseconds"])), line
        is_clear = [known for known in ids if known.startswith(short)] == [row["id"]]
        assert is_clear and len(short) in (8, 64), f"{short} in {line}"
        shown = lambda value: re.sub(r"[^ -~]", lambda char: "".join(
            f"\\u{unit:04x}" for unit in memoryview(char[0].encode("utf-16-le")).cast("H")), value)
        caller = "-" if row["caller"] is None else shown(json.dumps(row["caller"], ensure_ascii=False))
        keys = shown(json.dumps(row["keys"], ensure_ascii=False, separators=(",", ":")))
        # A space beside a space is spelled out.
        assert rest.replace("\\u0020", " ").startswith(f"{caller} {keys}"), (rest, caller, keys)
    return len(expected)


def counted(directory, rows, wanted):
    """Of what is stuck the table tells beside it how much there is of each kind: a long list of one hides the others."""
    if "stuck" not in wanted.get("--state", "").split(","):
        return
    # Beside others the line would count those as stuck.
    rows = rows if wanted["--state"] == "stuck" else []
    said = run(directory, *itertools.chain(*wanted.items())).stderr.decode()
    counts = collections.Counter("open" if row.is_open() else row.state() for row in rows)
    line = "stuck: " + ", ".join(f"{counts[state]} {state}" for state in sorted(counts)) + "\n"
    assert (line in said) == bool(rows) and said.count("stuck: ") == bool(rows), (directory, wanted, said, line)


def filters(known):
    """Values alone, some together, and what is not there."""
    records = [record for row in known for record in row.said()]
    times = sorted({record["at"] for record in records})
    keys = [key for row in known for policy in row.policies for key in (policy or {}).get("keys") or []]
    values = {
        "--action": sorted({row.records[0]["action"] for row in known} | {"nothing"}),
        "--caller": sorted({row.records[0]["caller"] for row in known} - {None} | {"nobody"}),
        "--state": ["pending", "executing", "executed", "failed", "indeterminate", "rejected", "withdrawn", "expired",
                    "refused", "open", "completed", "stuck", "failed,pending", "open,refused,executing"],
        "--key": sorted({key["name"] for key in keys} | {key["person"] for key in keys if key["person"]}
                        | {key["public_key"] for key in keys}
                        | {hashlib.sha256(bytes.fromhex(key["public_key"])).hexdigest()[:16] for key in keys}),
        "--since": times[:: max(1, len(times) // 3)] + ["1999-12-31", "2026-03-01T13:00:00+01:30", times[-1][:10]],
        "--until": times[:: max(1, len(times) // 3)] + ["2999-01-01", times[-1][:19] + "z"],
    }
    yield {}
    yield {"--state": "stuck"}
    yield {"--state": "stuck,failed"}
    alone = [{name: value} for name, known_values in values.items() for value in known_values]
    yield from random.sample(alone, min(len(alone), 25))
    for _ in range(10):
        chosen = random.sample(sorted(values), random.randint(2, 4))
        wanted = {name: random.choice(values[name]) for name in chosen if values[name]}
        in_order = lambda: moment(wanted["--since"].upper()) < moment(wanted["--until"].upper())
        if not {"--since", "--until"} <= wanted.keys() or in_order():
            yield wanted


random.seed(1)
compared = shown = 0
for directory in sys.argv[2:]:
    known = rows(directory)
    for wanted in filters(known):
        oracle = {name: value.upper() if name in ("--since", "--until") else value for name, value in wanted.items()}
        shown += compare(directory, known, wanted if wanted == oracle else wanted | oracle)
        compared += 1
print(f"{compared} questions, {shown} rows")
