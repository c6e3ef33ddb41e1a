#!/usr/bin/env python3
"""Holds what tests/witness/log left behind to pymerkle's trees and to OpenSSL's Ed25519, which `cryptography` is.

usage: pymerkle_check.py EVIDENCE VKEY     (needs pymerkle 7 and cryptography)

From the records alone pymerkle makes its own tree: at every size that was signed it must have the same
root, and for every proof the same path, and accept ours; altered ones it must refuse.
"""
import base64
import hashlib
import pathlib
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pymerkle import InmemoryTree, InvalidProof, verify_consistency, verify_inclusion
from pymerkle.proof import InclusionProof


def refused(check, *arguments, **more):
    try:
        check(*arguments, **more)
    except (InvalidProof, InvalidSignature):
        return True
    return False


class Log:
    def __init__(self, vkey):
        self.name, self.id, key = vkey.split("+", 2)
        kind, key = base64.b64decode(key)[:1], base64.b64decode(key)[1:]
        assert kind == b"\1" and hashlib.sha256(self.name.encode() + b"\n\1" + key).hexdigest()[:8] == self.id
        self.key = Ed25519PublicKey.from_public_bytes(key)

    def open(self, note):
        """Size and root of a signed checkpoint."""
        text, line = note.split("\n\n")
        text += "\n"
        dash, name, signature = line.rstrip("\n").split(" ")
        signature = base64.b64decode(signature, validate=True)
        assert (dash, name, signature[:4].hex()) == ("\u2014", self.name, self.id)
        self.key.verify(signature[4:], text.encode())
        assert refused(self.key.verify, signature[4:], text.replace("\n", "\n1", 1).encode())
        origin, size, root = text.splitlines()
        assert origin == self.name
        return int(size), base64.b64decode(root, validate=True)


def main():
    evidence, log = pathlib.Path(sys.argv[1]), Log(sys.argv[2])
    records = (evidence / "records").read_bytes().splitlines()
    tree = InmemoryTree(algorithm="sha256")
    for record in records:
        tree.append_entry(record)
    heads = sorted(log.open(file.read_text()) for file in evidence.glob("checkpoint-*"))
    newest, newest_root = heads[-1]
    assert newest == len(records)
    for size, root in heads:
        assert tree.get_root(size) == root, f"another root at {size}"
        theirs = tree.prove_consistency(size, newest)
        verify_consistency(root, newest_root, theirs, prior_size=size, later_size=newest)
        other = bytes([root[0] ^ 1]) + root[1:]
        assert refused(verify_consistency, other, newest_root, theirs)
    proofs = list(evidence.glob("proof-*.tlog-proof"))
    for file in proofs:
        head, note = file.read_text().split("\n\n", 1)
        version, extra, index, *path = head.split("\n")
        assert version == "c2sp.org/tlog-proof@v1"
        record = base64.b64decode(extra.removeprefix("extra "), validate=True)
        index, (size, root) = int(index.removeprefix("index ")), log.open(note)
        path = [base64.b64decode(line, validate=True) for line in path]
        assert records[index] == record
        leaf = hashlib.sha256(b"\0" + record).digest()
        theirs = tree.prove_inclusion(index + 1, size)
        assert theirs.path == [leaf, *path], f"another path for {index} of {size}"
        rule = theirs.rule

        def ours(path, index=index):
            return InclusionProof("sha256", True, size, index + 1, rule, [leaf, *path])

        verify_inclusion(leaf, root, ours(path), index=index + 1, size=size)
        assert refused(verify_inclusion, leaf, root, ours(path[1:]))
        assert refused(verify_inclusion, leaf, root, ours([*path, leaf]))
        assert refused(verify_inclusion, leaf, bytes(32), ours(path))
        assert refused(verify_inclusion, hashlib.sha256(record).digest(), root, ours(path))
        if index:
            assert refused(verify_inclusion, leaf, root, ours(path, index - 1))
    assert len(heads) >= 90 and len(proofs) >= 500, (len(heads), len(proofs))
    print(f"pymerkle agrees: {len(records)} records, {len(heads)} roots, {len(proofs)} proofs")


if __name__ == "__main__":
    main()
