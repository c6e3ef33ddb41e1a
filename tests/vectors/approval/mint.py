#!/usr/bin/env python3
"""Mints approvals with Python `cryptography`, independently of this product, and says of each what
must become of it. Everything is fixed, so running it again gives the same bytes:

    python3 tests/vectors/approval/mint.py | diff - tests/vectors/approval/minted.json
"""

import base64
import copy
import hashlib
import hmac
import json

from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

L = 2**252 + 27742317777372353535851937790883648493
KEYS = {
    name: Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"openexec test key " + name.encode()).digest())
    for name in ("ops", "audit", "stranger")
}
TENANT = "t1"
NOW = "2026-03-01T12:00:00.000000Z"
ISSUED, EXPIRES = "2026-03-01T11:55:00Z", "2026-03-01T12:30:00Z"
ID = "3f0d6f0a-6d0c-4b7e-9a55-0a1b2c3d4e5f"
ID2 = "9c1e2d3f-4a5b-4c6d-8e7f-102132435465"
FIELDS = ["approval_id", "tenant_id", "action_hash", "issued_at", "expires_at", "signature"]


def sha(text):
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def dumps(value, **options):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), **options)


ACTION, NONCE = "send_email", "n-1"
AS_SENT = {"to": "zo\u00eb@example.com", "amount": 1.0, "urgent": True}
# RFC 8785 writes 1.0 as 1 and leaves letters as they are.
AS_CANONICAL = {**AS_SENT, "amount": 1}
CANONICAL = dumps({"action": ACTION, "payload": AS_CANONICAL}, ensure_ascii=False)
LEGACY = dumps({"action": ACTION, "payload": AS_SENT})
BOUND = dumps({"action": ACTION, "nonce": NONCE, "payload": AS_CANONICAL}, ensure_ascii=False)
OTHER = dumps({"action": ACTION, "nonce": "n-2", "payload": AS_CANONICAL}, ensure_ascii=False)


def message(artifact):
    return "".join(artifact[name] for name in FIELDS[:5]).encode("utf-8")


def mint(key="ops", **fields):
    artifact = {
        "approval_id": ID,
        "tenant_id": TENANT,
        "action_hash": sha(CANONICAL),
        "issued_at": ISSUED,
        "expires_at": EXPIRES,
        **fields,
    }
    return {**artifact, "signature": base64.b64encode(KEYS[key].sign(message(artifact))).decode()}


def but(artifact, **fields):
    """The artifact with fields changed and the signature left as it was."""
    return {**copy.deepcopy(artifact), **fields}


def signed(raw):
    return but(mint(), signature=base64.b64encode(raw).decode())


CASES = []


def case(name, expect, artifact, **more):
    CASES.append({"name": name, "expect": expect, "approval_artifact": artifact, **more})


def approved(name, artifact, keys=("ops",), legacy=False, **more):
    case(name, "approved", artifact, keys=list(keys), legacy=legacy, **more)


good, second = mint(), mint("audit", approval_id=ID2)

# What must be accepted.
approved("canonical hash", good)
approved("legacy hash", mint(action_hash=sha(LEGACY)), legacy=True)
approved("hash bound to the nonce", mint(action_hash=sha(BOUND)))
approved("another configured key", second, keys=["audit"])
approved("times without offset", mint(issued_at="2026-03-01T11:55:00", expires_at="2026-03-01T12:30:00"))
approved("times as Python's isoformat writes them", mint(issued_at="2026-03-01T11:55:00.123456+00:00", expires_at="2026-03-01T12:30:00+00:00"))
approved("times as JavaScript's toISOString writes them", mint(issued_at="2026-03-01T11:55:00.123Z", expires_at="2026-03-01T12:30:00.000Z"))
approved("times of one digit and of nine", mint(issued_at="2026-03-01T11:55:00.1", expires_at="2026-03-01T12:30:00.123456789+00:00"))
approved("issued in a moment's fraction past the skew", mint(issued_at="2026-03-01T12:01:00.000000999Z"))
approved("an array of one", [good])
approved("two approvers", [good, second], keys=["ops", "audit"], context={"required": 2})
approved("two approvers, the other way round", [second, good], keys=["audit", "ops"], context={"required": 2})
approved("two approvers of the legacy hash", [mint(action_hash=sha(LEGACY)), mint("audit", approval_id=ID2, action_hash=sha(LEGACY))], keys=["ops", "audit"], legacy=True, context={"required": 2})
approved("more approvers than needed", [good, second], keys=["ops", "audit"])
approved("two approvals by one key where one is enough", [good, mint(approval_id=ID2)])
approved("a tenant that is not ASCII", mint(tenant_id="t\u00e9n\u00e4nt \u2603"), context={"tenant": "t\u00e9n\u00e4nt \u2603"})
approved("issued as late as the skew allows", mint(issued_at="2026-03-01T12:01:00.000000Z"))
approved("issued in the second in which the store was made", good, context={"store_created": "2026-03-01T11:55:00.999999Z"})
approved("lives as long as allowed", good, context={"ttl_max_seconds": 2100})
approved("expires a microsecond from now", mint(expires_at="2026-03-01T12:00:00.000001Z"))

# Each field tampered with.
case("approval_id changed", "approval_signature_invalid", but(good, approval_id=ID2))
case("tenant_id changed", "approval_signature_invalid", but(good, tenant_id="t2"))
case("action_hash changed", "approval_signature_invalid", but(good, action_hash=sha(OTHER)))
case("issued_at changed", "approval_signature_invalid", but(good, issued_at="2026-03-01T11:55:01Z"))
case("expires_at changed", "approval_signature_invalid", but(good, expires_at="2027-03-01T12:30:00Z"))
case("issued_at respelled", "approval_signature_invalid", but(good, issued_at=ISSUED[:-1]))
case("expires_at respelled", "approval_signature_invalid", but(good, expires_at="2026-03-01T12:30:00+00:00"))
case("times swapped", "approval_signature_invalid", but(good, issued_at=EXPIRES, expires_at=ISSUED))
raw = base64.b64decode(good["signature"])
for bit in (0, 255, 256, 511):
    flipped = bytearray(raw)
    flipped[bit // 8] ^= 1 << bit % 8
    case(f"signature bit {bit} flipped", "approval_signature_invalid", signed(bytes(flipped)))

# Each field swapped between two valid artifacts.
mine = mint()
theirs = mint("audit", approval_id=ID2, tenant_id="t2", action_hash=sha(OTHER), issued_at="2026-03-01T11:56:00Z", expires_at="2026-03-01T12:31:00Z")
for name in FIELDS:
    case(f"{name} of another artifact", "approval_signature_invalid", but(mine, **{name: theirs[name]}))
case("two approvers with each other's signatures", "approval_signature_invalid", [but(good, signature=second["signature"]), but(second, signature=good["signature"])])

# Text moved across a boundary: the signed message, and so the signature, stays as it was.
moved = [
    ("a character of tenant t1 into approval_id", dict(approval_id=ID + "t", tenant_id="1"), dict(tenant="1")),
    ("all of the tenant into approval_id", dict(approval_id=ID + "t1", tenant_id=""), dict(tenant="")),
    ("a character of approval_id into the tenant", dict(approval_id=ID[:-1], tenant_id="ft1"), dict(tenant="ft1")),
    ("four hash digits into the tenant, the year into the hash", dict(tenant_id="t1" + good["action_hash"][:4], action_hash=good["action_hash"][4:] + "2026", issued_at=ISSUED[4:]), {}),
    ("a hash digit into the tenant", dict(tenant_id="t1" + good["action_hash"][0], action_hash=good["action_hash"][1:]), {}),
    ("the tenant's last character into the hash", dict(tenant_id="t", action_hash="1" + good["action_hash"]), dict(tenant="t")),
    ("a digit of the year into the hash", dict(action_hash=good["action_hash"] + "2", issued_at=ISSUED[1:]), {}),
    ("the Z of issued_at into expires_at", dict(issued_at=ISSUED[:-1], expires_at="Z" + EXPIRES), {}),
    ("a digit of expires_at into issued_at", dict(issued_at=ISSUED + "2", expires_at=EXPIRES[1:]), {}),
    ("all of expires_at into issued_at", dict(issued_at=ISSUED + EXPIRES, expires_at=""), {}),
]
for name, fields, context in moved:
    forged = but(good, **fields)
    assert message(forged) == message(good), name
    case("moved: " + name, "approval_malformed", forged, context=context)

# The same where what is moved looks like what it is moved into.
good_a1 = mint(tenant_id="a1")
forged = but(good_a1, approval_id=ID + "a", tenant_id="1")
assert message(forged) == message(good_a1)
case("moved: a hexadecimal digit of tenant a1 into approval_id", "approval_malformed", forged, context={"tenant": "1"})
forged = but(good_a1, approval_id=ID + "a1", tenant_id="")
assert message(forged) == message(good_a1)
case("moved: all of tenant a1 into approval_id", "approval_malformed", forged, context={"tenant": ""})
forged = but(good_a1, tenant_id="a", action_hash="1" + good["action_hash"])
assert message(forged) == message(good_a1)
case("moved: a hexadecimal digit of tenant a1 into the hash", "approval_malformed", forged, context={"tenant": "a"})

# The same where seconds have a fraction, which may be longer.
of_tenth = mint(issued_at="2026-03-01T11:55:00.1", expires_at=EXPIRES)
for name, fields in [
    ("a digit of the year into the fraction", dict(issued_at="2026-03-01T11:55:00.12", expires_at=EXPIRES[1:])),
    ("the year into the fraction", dict(issued_at="2026-03-01T11:55:00.12026", expires_at=EXPIRES[4:])),
    ("a digit of the fraction into the year", dict(issued_at="2026-03-01T11:55:00.", expires_at="1" + EXPIRES)),
    ("the fraction into the year", dict(issued_at="2026-03-01T11:55:00", expires_at=".1" + EXPIRES)),
    ("the end of the seconds into the year", dict(issued_at="2026-03-01T11:55:0", expires_at="0.1" + EXPIRES)),
]:
    forged = but(of_tenth, **fields)
    assert message(forged) == message(of_tenth), name
    case("moved: " + name, "approval_malformed", forged)

# Signatures that are not this signature.
s = int.from_bytes(raw[32:], "little")
case("S + L", "approval_signature_invalid", signed(raw[:32] + (s + L).to_bytes(32, "little")))
case("all zero", "approval_signature_invalid", signed(bytes(64)))
case("all ones", "approval_signature_invalid", signed(b"\xff" * 64))
case("R the identity, S zero", "approval_signature_invalid", signed(b"\x01" + bytes(63)))
case("R of small order", "approval_signature_invalid", signed(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a") + raw[32:]))
case("R and S exchanged", "approval_signature_invalid", signed(raw[32:] + raw[:32]))
case("by a key that is not configured", "approval_signature_invalid", mint("stranger"))
case("an HMAC-SHA512 under the public key", "approval_signature_invalid", signed(hmac.digest(KEYS["ops"].public_key().public_bytes(ser.Encoding.Raw, ser.PublicFormat.Raw), message(good), "sha512")))
case("over the message and a line feed", "approval_signature_invalid", signed(KEYS["ops"].sign(message(good) + b"\n")))
case("over the message with separators", "approval_signature_invalid", signed(KEYS["ops"].sign(b"|".join(good[n].encode() for n in FIELDS[:5]))))
case("over the hash of the message", "approval_signature_invalid", signed(KEYS["ops"].sign(hashlib.sha256(message(good)).digest())))
case("over the artifact as JSON", "approval_signature_invalid", signed(KEYS["ops"].sign(dumps({n: good[n] for n in FIELDS[:5]}).encode())))
case("over the canonical request", "approval_signature_invalid", signed(KEYS["ops"].sign(CANONICAL.encode())))
case("truncated to 63 bytes", "approval_malformed", signed(raw[:63]))
case("of 65 bytes", "approval_malformed", signed(raw + b"\0"))
case("empty", "approval_malformed", but(good, signature=""))
text = good["signature"]
case("base64 without padding", "approval_malformed", but(good, signature=text.rstrip("=")))
case("base64 with one = of two", "approval_malformed", but(good, signature=text[:-1]))
case("base64 with a third =", "approval_malformed", but(good, signature=text + "="))
case("base64 with a line feed", "approval_malformed", but(good, signature=text + "\n"))
case("base64 in lines", "approval_malformed", but(good, signature=text[:64] + "\n" + text[64:]))
case("base64 with a space before", "approval_malformed", but(good, signature=" " + text))
case("base64 with junk inside", "approval_malformed", but(good, signature=text[:10] + "*" + text[10:]))
url = base64.urlsafe_b64encode(b"\xff" * 64).decode()
case("base64 in the URL alphabet", "approval_malformed", but(good, signature=url))
last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".index(text[-3])
respelled = text[:-3] + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[last + 1] + "=="
assert base64.b64decode(respelled) == raw
case("base64 with other trailing bits", "approval_malformed", but(good, signature=respelled))
case("hexadecimal", "approval_malformed", but(good, signature=raw.hex()))

# Validly signed, but not for this request, here and now.
case("another tenant", "tenant_mismatch", mint(tenant_id="t2"))
case("an empty tenant", "tenant_mismatch", mint(tenant_id=""))
case("a tenant in other case", "tenant_mismatch", mint(tenant_id="T1"))
case("a tenant with a space", "tenant_mismatch", mint(tenant_id="t1 "))
case("a tenant composed otherwise", "tenant_mismatch", mint(tenant_id="te\u0301"), context={"tenant": "t\u00e9"})
case("expired", "approval_expired", mint(expires_at="2026-03-01T11:59:59Z"))
case("expires now", "approval_expired", mint(expires_at="2026-03-01T12:00:00Z"))
case("expires in less than a microsecond", "approval_expired", mint(expires_at="2026-03-01T12:00:00.000000999Z"))
case("expires less than a microsecond after it is issued", "approval_expired", mint(issued_at="2026-03-01T12:00:00.5555551Z", expires_at="2026-03-01T12:00:00.5555559Z"))
case("expires before it is issued", "approval_expired", mint(issued_at="2026-03-01T12:30:00Z", expires_at="2026-03-01T12:20:00Z"))
case("expires when it is issued", "approval_expired", mint(issued_at=EXPIRES))
case("issued too far ahead", "approval_not_yet_valid", mint(issued_at="2026-03-01T12:01:00.000001Z"))
case("lives a microsecond too long", "approval_ttl_too_long", mint(expires_at="2026-03-01T12:30:00.000001Z"), context={"ttl_max_seconds": 2100})
case("issued the second before the store was made", "approval_before_store", good, context={"store_created": "2026-03-01T11:55:01.000000Z"})
case("issued a nanosecond before that second", "approval_before_store", mint(issued_at="2026-03-01T11:55:00.999999999Z"), context={"store_created": "2026-03-01T11:55:01.000000Z"})
case("the clock is behind", "clock_behind", good, context={"clock_behind": True})
case("another request", "approval_hash_mismatch", mint(action_hash=sha("{}")))
case("bound to another nonce", "approval_hash_mismatch", mint(action_hash=sha(OTHER)))
case("the legacy hash where there is none", "approval_hash_mismatch", mint(action_hash=sha(LEGACY)), context={"no_legacy": True})
case("the payload alone", "approval_hash_mismatch", mint(action_hash=sha(dumps(AS_CANONICAL, ensure_ascii=False))))
case("spent", "approval_already_used", good, context={"spent": [ID]})
case("one where two are needed", "approvals_insufficient", good, context={"required": 2})

# Arrays.
case("an empty array", "approval_malformed", [])
case("an array in an array", "approval_malformed", [[good]])
case("seventeen artifacts", "approval_malformed", [mint(approval_id=f"{ID[:-2]}{n:02x}") for n in range(17)])
case("the same artifact twice", "approval_malformed", [good, good], context={"required": 2})
case("one approval_id under two keys", "approval_malformed", [good, mint("audit")], context={"required": 2})
case("two artifacts of one key where two are needed", "approvals_insufficient", [good, mint(approval_id=ID2)], context={"required": 2})
case("sixteen artifacts of one key where two are needed", "approvals_insufficient", [mint(approval_id=f"{ID[:-2]}{n:02x}") for n in range(16)], context={"required": 2})
approved("canonical and legacy hash", [good, mint("audit", approval_id=ID2, action_hash=sha(LEGACY))], keys=["ops", "audit"], legacy=True)
approved("canonical and bound hash", [good, mint("audit", approval_id=ID2, action_hash=sha(BOUND))], keys=["ops", "audit"])
case("one for another request", "approval_hash_mismatch", [good, mint("audit", approval_id=ID2, action_hash=sha("{}"))])
case("one spent", "approval_already_used", [good, second], context={"required": 2, "spent": [ID2]})
case("one expired", "approval_expired", [good, mint("audit", approval_id=ID2, expires_at="2026-03-01T11:59:59Z")])
case("one of a stranger", "approval_signature_invalid", [good, mint("stranger", approval_id=ID2)])
case("one tampered with, beyond what is needed", "approval_signature_invalid", [good, but(second, tenant_id="t2")])
case("one malformed", "approval_malformed", [good, but(second, signature="")])

# Other JSON.
for name, value in [("null", None), ("a string", dumps(good)), ("a number", 1), ("true", True), ("an empty object", {})]:
    case(name, "approval_malformed", value)
for name in FIELDS:
    case(f"without {name}", "approval_malformed", {k: v for k, v in good.items() if k != name})
    for wrong in (None, 1, [good[name]], {"": good[name]}):
        case(f"{name} is {type(wrong).__name__}", "approval_malformed", but(good, **{name: wrong}))
case("with one field more", "approval_malformed", {**good, "comment": ""})
case("an approval_id in upper case", "approval_malformed", mint(approval_id=ID.upper()))
case("an approval_id in braces", "approval_malformed", mint(approval_id="{" + ID + "}"))
case("an approval_id without hyphens", "approval_malformed", mint(approval_id=ID.replace("-", "")))
case("a hash in upper case", "approval_malformed", mint(action_hash=sha(CANONICAL).upper()))
case("a validly signed tenth digit", "approval_malformed", mint(expires_at="2026-03-01T12:30:00.1234567890Z"))
case("a validly signed point without digits", "approval_malformed", mint(expires_at="2026-03-01T12:30:00.Z"))
case("a validly signed comma", "approval_malformed", mint(expires_at="2026-03-01T12:30:00,123Z"))
case("a validly signed leap second", "approval_malformed", mint(expires_at="2026-12-31T23:59:60Z"))
case("a validly signed offset", "approval_malformed", mint(expires_at="2026-03-01T13:30:00+01:00"))

OUT = {
    "about": "Written by mint.py beside this file: approvals minted with Python cryptography, each with what must become of it under `context`, in which a case's own `context` replaces members.",
    "request": {
        "action": ACTION,
        "nonce": NONCE,
        "canonical": CANONICAL,
        "legacy": LEGACY,
        "bound": BOUND,
        "action_hash": sha(CANONICAL),
        "legacy_hash": sha(LEGACY),
        "exec_id": sha(BOUND),
    },
    "keys": {
        name: {
            "private": key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption()).decode(),
            "public": key.public_key().public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo).decode(),
            "fingerprint": hashlib.sha256(key.public_key().public_bytes(ser.Encoding.Raw, ser.PublicFormat.Raw)).hexdigest()[:16],
        }
        for name, key in KEYS.items()
    },
    "configured": ["ops", "audit"],
    "context": {
        "now": NOW,
        "tenant": TENANT,
        "store_created": "2026-02-01T00:00:00.000000Z",
        "required": 1,
        "ttl_max_seconds": None,
        "clock_behind": False,
        "no_legacy": False,
        "spent": [],
    },
    "cases": CASES,
}
assert len({c["name"] for c in CASES}) == len(CASES)
print(json.dumps(OUT, indent=1, sort_keys=True))
