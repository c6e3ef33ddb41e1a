#!/usr/bin/env python3
"""Audits a store without OpenExec (store.md): read_store.py DIRECTORY. Exit 0, or 1 with where."""
import hashlib, json, pathlib, sys

SEGMENT, SECTOR, place = 16 * 1024 * 1024, 512, "no store there"


def check(holds, reason):
    holds or sys.exit(f"{place}: {reason}")


def sha(*parts):
    return hashlib.sha256(b"".join(p if isinstance(p, bytes) else p.encode() for p in parts))


def fields(line):
    """The text of each top-level value. A line is canonical, so a slice of it is what was hashed."""
    raw, at, read = {}, 1, json.JSONDecoder().raw_decode
    while at < len(line):
        name, colon = read(line, at)
        end = read(line, colon + 1)[1]
        raw[name], at = line[colon + 1 : end], end + 1
    return raw


def push(tree, node):
    """RFC 6962, 2.1. `tree`: (height, hash) of the perfect subtrees so far, the largest first."""
    height = 0
    while tree and tree[-1][0] == height:
        node, height = sha(b"\1", tree.pop()[1], node).digest(), height + 1
    tree.append((height, node))


def root(tree):
    node = tree[-1][1] if tree else sha().digest()
    for _, left in reversed(tree[:-1]):
        node = sha(b"\1", left, node).digest()
    return node.hex()


def judge(raw, record, owed, spent):
    """What a record says of itself, and what there may be only one of."""
    if "nonce" in record and "payload" in record:
        request = '{"action":%(action)s,"nonce":%(nonce)s,"payload":%(payload)s}' % raw
        check(record["id"] == sha(request).hexdigest(), "the id is not the request's hash")
    if "receipt" in record:
        result = raw.get("result") or '{"denied":{"code":%(code)s,"detail":%(detail)s}}' % raw
        hashed = sha(record["id"], ":", result).hexdigest()
        check(record["receipt"] == hashed, "the receipt is not the hash of id and result")
    if record["kind"] == "claim":
        mark = record["place"]
        check(mark is None or len(mark) == 32 and not mark.strip("0123456789abcdef"), "its place")
        approvals = {artifact["approval_id"] for artifact in record["approval"] or []}
        once = {("nonce", record["nonce"])} | {("approval", id) for id in approvals}
        check(not once & spent, "a nonce or an approval is spent a second time")
        spent |= once
        owed.add(record["id"])
    if record["kind"] == "receipt":
        check(record["id"] in owed, "a receipt without a claim of its own")
        owed.remove(record["id"])


def audit(directory):
    global place
    tree, size, batch, owed, spent, store, kind = [], 0, 0, set(), set(), None, "commit"
    files = sorted(pathlib.Path(directory).glob("[0-9]*.jsonl"))
    for number, file in enumerate(files, 1):
        data, at, place = file.read_bytes(), 0, file.name
        text = len(data.rstrip(b"\n\0"))
        check(file.name == "%08d.jsonl" % number, "a segment before this one is missing")
        check(len(data) == SEGMENT, f"a segment has {SEGMENT} bytes")
        check(text or 1 < number == len(files), "blank, and not the segment made ahead")
        while at < text:
            place, end = f"{file.name}, byte {at}", data.find(b"\n", at)
            try:
                line = data[at:end].decode()
                raw, record = fields(line), json.loads(line)
                kind, before = record["kind"], {"batch": batch, "root": root(tree)}
                check((kind == "segment") == (at == 0), "segment lines begin segments")
                if kind == "segment":
                    same = [record[name] for name in ("format", "store", "mode", "created")]
                    check(store in (None, same), "a segment of another store")
                    check(record["first"] == size and before.items() <= record.items(), "gap")
                    store = same
                elif kind == "commit":
                    batch += 1
                    now = {"batch": batch, "kind": kind, "root": before["root"], "size": size}
                    check(record == now, "the root or a number does not hold")
                else:
                    said = [1, *(record.get(name) for name in ("store", "mode", "at"))]
                    check((said == store and kind == "store") == (size == 0), "not this store")
                    judge(raw, record, owed, spent)
                    push(tree, sha(b"\0", line).digest())
                    size += 1
            except (ValueError, KeyError, TypeError):
                check(False, "no record: a batch being written, cut short, or damaged")
            at, line_end = end + 1, end + 1
            if kind == "commit":
                at += -at % SECTOR
                check(not data[line_end:at].strip(b"\n\0"), "text between two batches")
        check(kind == "commit", "the last batch has no commit line")
    check(store, "no store there")
    print(f"ok: {size} records in {batch} batches, {len(owed)} owed, root {root(tree)}")


audit(sys.argv[1])
