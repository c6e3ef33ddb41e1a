#!/usr/bin/env python3
"""Says what a file of `openexec evidence` shows, without OpenExec (audit.md); signatures by the command openssl.

verify_evidence.py FILE [--log-key VKEY] [--keys FILE] [--json]. Exit 0 where all that is in it holds, else 65."""
import argparse, base64, decimal, hashlib, json, os, re, subprocess, sys, tempfile
from datetime import datetime, timedelta

DEPTH, VALUES, FIELDS, WIDE, INTEGER, PATH, BYTES = 68, 131_072, 16, 4, 2**53 - 1, 64, 64 * 1024 * 1024
SKEW, APPROVALS, KEYS, KEY_BYTES, JSON_DEPTH = timedelta(seconds=60), 16, 64, 64 * 1024, 64

# What is said of each: see `judge`.
STATEMENTS = {
    "included": "each record here is in the log of this root, in this order",
    "log": "the root is of the log whose key was given",
    "request": "the id is the hash of this action, nonce and payload",
    "approvals": "keys of the policy here approved it, enough and in time by the record's own time",
    "rejection": "a key of the policy here signed the rejection",
    "keys": "the keys that signed are among those given, and enough",
    "outcome": "it ended so, and the receipt is the hash of that",
    "completion": "this word about the job was recorded",
    "policy": "no other policy was in force",
    "service": "who asked, when, and what else the service recorded is so",
    "once": "it was executed once at most, by its own approvals",
    "unexecuted": "nothing was executed under this id",
    "nothing_else": "the log has nothing else about this id",
}


class Bad(Exception):
    """Why something shows nothing."""


def check(holds, reason):
    if not holds:
        raise Bad(reason)


def sha(*parts):
    return hashlib.sha256(b"".join(p if isinstance(p, bytes) else p.encode() for p in parts))


def unbase64(text):
    """RFC 4648, section 4, in its one spelling."""
    data = base64.b64decode(text, validate=True)
    check(base64.b64encode(data).decode() == text, "base64 in another spelling")
    return data


# JSON: RFC 8785, and nothing that parsers read differently.


def number(value):
    """As ECMAScript writes it."""
    check(abs(value) <= INTEGER, "a number is out of range")
    if value == int(value):
        return str(int(value))
    sign, digits, exponent = decimal.Decimal(repr(value)).as_tuple()
    digits, point, minus = "".join(map(str, digits)), len(digits) + exponent, "-" * sign
    digits = digits.rstrip("0")
    if point > 0:
        return f"{minus}{digits[:point]}.{digits[point:]}"
    if point > -6:
        return f"{minus}0.{'0' * -point}{digits}"
    return f"{minus}{digits[0]}{'.' * (len(digits) > 1)}{digits[1:]}e{point - 1}"


def canonical(value):
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{canonical(name)}:{canonical(value[name])}" for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, str):
        value.encode()  # A lone surrogate is an error.
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(value) if value is None or isinstance(value, bool) else number(value)


def read(text):
    def unique(pairs):
        made = dict(pairs)
        check(len(made) == len(pairs), "a name occurs twice")
        return made

    def spelled(kind):
        def one(digits):
            check(len(digits) <= 1100, "a number of too many bytes")
            check(kind(digits) or not re.match("-?[0.]*[1-9]", digits), "a number that is nearly zero")
            return kind(digits)
        return one

    return json.loads(text, object_pairs_hook=unique, parse_int=spelled(int), parse_float=spelled(float))


def sized(text, depth, fields=1):
    """That it is not more than is held below, before a value is made of it: each field by itself, where there are several, and
    all of them together no more than a policy, of which four have any number of values, can have."""
    deep = parts = opened = objects = many = before = 0
    # Without what is escaped a text ends at the next quote. A pattern that looks for escapes would keep a place for each.
    bare = text.replace("\\\\", "").replace('\\"', "")
    for sign in re.finditer(r'"[^"]*"|[][{},]', bare):
        sign = bare[sign.start()]
        if sign in "[{":
            deep += 1
            opened += 1
            objects += sign == "{"
        elif sign in "]}":
            deep -= 1
        elif sign == "," and deep == 1 and fields > 1:
            fields -= 1
            before += many
            parts = opened = objects = 0
            check(fields > 1, "more fields than any record has")
        elif sign == ",":
            parts += 1
        many = max(parts, opened) + 15 * objects
        check(deep <= depth and many <= VALUES + 16, "a value is too deep, or has too many values")
        check(before + many <= WIDE * (VALUES + 16), "a record has too many values")
    return text


def measure(value):
    """How deep it is, and how many values it has, an object counted as 16."""
    if not isinstance(value, (dict, list)):
        return 0, 1
    inside = [measure(item) for item in (value.values() if isinstance(value, dict) else value)]
    own = 16 if isinstance(value, dict) else 1
    return 1 + max((deep for deep, _ in inside), default=0), own + sum(many for _, many in inside)


def bounded(value, depth):
    deep, many = measure(value)
    check(deep <= depth and many <= VALUES, "a value is too deep, or has too many values")
    return value


def moment(text):
    """Microseconds; what is finer is cut off."""
    whole, _, rest = text.partition(".")
    micros = re.match(r"\d*", rest).group()[:6].ljust(6, "0")
    return datetime.strptime(f"{whole[:19]}.{micros}", "%Y-%m-%dT%H:%M:%S.%f")


# The kinds of records that may stand here, and the form of each field (store.md).


def pattern(form):
    return lambda value: isinstance(value, str) and re.fullmatch(form, value, re.ASCII)


def one_of(*names):
    return lambda value: isinstance(value, str) and value in names


def optional(form):
    return lambda value: value is None or form(value)


def each(form):
    return lambda value: isinstance(value, list) and all(map(form, value))


def set_of(form):
    """Of texts: in their order, each once."""
    return lambda value: each(form)(value) and value == sorted(set(value))


def mapping(form):
    return lambda value: isinstance(value, dict) and all(map(form, value.values()))


def count(value):
    return type(value) is int and value >= 0


def needed(value):
    """How many must approve."""
    return type(value) is int and 1 <= value <= APPROVALS


def of_groups(value):
    """How many of each group must."""
    return value != {} and mapping(needed)(value)


def is_nonce(value):
    control = pattern(r"[^\x00-\x1f\x7f-\x9f]*")
    return string(value) and 1 <= len(value.encode()) <= 256 and control(value)


def time(text):
    return pattern(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")(text) and moment(text)


def any_time(text):
    form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|\+00:00)?"
    return pattern(form)(text) and moment(text)


def string(value):
    return isinstance(value, str)


def boolean(value):
    return isinstance(value, bool)


def is_object(value):
    return isinstance(value, dict)


def is_list(value):
    return isinstance(value, list)


def has_form(value, form):
    return is_object(value) and value.keys() == form.keys() and all(
        form[name](value[name]) for name in form)


KEY_NAME = pattern("[!-~]([ -~]{0,62}[!-~])?")
HASH, ID, CODE = pattern("[0-9a-f]{64}"), pattern("[0-9a-f]{32}"), pattern("[a-z0-9_]+")
ACTION, MODE = pattern(r"[A-Za-z0-9_.\-]{1,64}"), one_of("demo", "clawshield")
NAME, OUTCOME = optional(string), one_of("executed", "failed", "indeterminate")
SIGNED = {"at": time, "id": HASH, "key": string, "artifact": is_object}
RAW, SSH, TOKEN = "ed25519", "ssh-ed25519", "sk-ssh-ed25519@openssh.com"
KEY = {"name": string, "type": one_of(RAW, SSH, TOKEN),
       "public_key": HASH, "application": NAME, "verified": boolean, "groups": set_of(string),
       "actions": optional(set_of(ACTION)), "person": NAME, "not_after": optional(time)}
CALLER = {"name": string, "may": set_of(one_of("propose", "approve", "read")), "person": NAME,
          "actions": optional(set_of(ACTION))}
KINDS = {
    "store": {"at": time, "store": ID, "mode": MODE},
    "policy": {"at": time, "version": string, "tenant": NAME, "ttl_max": optional(count),
               "allowed": optional(each(ACTION)), "actions": optional(HASH),
               "keys": optional(each(lambda value: has_form(value, KEY))),
               "required": optional(mapping(lambda n: needed(n) or of_groups(n))),
               "callers": optional(each(lambda value: has_form(value, CALLER)))},
    "proposal": {"at": time, "id": HASH, "action": ACTION, "payload": is_object,
                 "nonce": is_nonce, "caller": NAME, "justification": NAME,
                 "asynchronous": boolean, "expires": time},
    "asynchronous": {"at": time, "id": HASH},
    "approval": SIGNED,
    "rejection": SIGNED,
    "closed": {"at": time, "id": HASH, "how": one_of("withdrawn", "expired", "refused"),
               "by": NAME, "code": optional(CODE)},
    "claim": {"at": time, "id": HASH, "action": ACTION, "payload": is_object, "nonce": is_nonce,
              "caller": NAME, "effect": one_of("pure", "idempotent", "once"),
              "approval": optional(is_list), "keys": is_list, "legacy": NAME, "policy": count,
              "place": optional(ID)},
    "receipt": {"at": time, "id": HASH, "outcome": OUTCOME, "result": is_object, "receipt": HASH},
    "retry": {"at": time, "id": HASH},
    "completion": {"at": time, "id": HASH, "by": one_of("worker", "operator"), "outcome": OUTCOME,
                   "result": is_object, "receipt": HASH},
}
UUID = pattern("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ARTIFACT = {"approval_id": UUID, "tenant_id": string, "action_hash": HASH, "issued_at": any_time,
            "expires_at": any_time, "signature": lambda text: Signature(text)}
REJECTION = {"rejection_id": UUID, "tenant_id": string, "exec_id": HASH, "issued_at": any_time,
             "justification": lambda text: string(text) and len(text) <= 500,
             "signature": lambda text: Signature(text)}


def record(said):
    value = read(sized(said, DEPTH + 1, FIELDS))
    check(canonical(value) == said, "not in canonical form")
    kind, fields = value["kind"], {name: value[name] for name in value if name != "kind"}
    check(has_form(fields, KINDS.get(kind, {"": string})), "not a record that has a place here")
    for field in fields.values():
        bounded(field, DEPTH)
    return value


# Ed25519 (RFC 8032) by openssl, which takes weak keys: those anybody could sign for are found here.

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
# Of points of small order: those of order 1, 2 and 4, and of order 8.
EIGHTH = 2707385501144840649318225287225658788936804267575313519463743609750303402022
SMALL = {0, 1, P - 1, EIGHTH, P - EIGHTH}


def is_weak(point):
    """No point of the curve in its one spelling, or one of small order."""
    y = int.from_bytes(point, "little")
    y, sign = y & (2**255 - 1), y >> 255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    is_square = pow(square, (P - 1) // 2, P) in (0, 1)
    return y >= P or not is_square or y in SMALL or (square == 0 and sign)


KNOWN = {}


def verifies(key, message, signature):
    """Whether this key made it; 64 bytes, and a key of 32."""
    if is_weak(key) or is_weak(signature[:32]):
        return False
    asked = (key, message, signature)
    if asked not in KNOWN:
        with tempfile.TemporaryDirectory() as place:
            names = {"key": bytes.fromhex("302a300506032b6570032100") + key, "text": message, "sig": signature}
            for name, data in names.items():
                with open(os.path.join(place, name), "wb") as file:
                    file.write(data)
            command = "openssl pkeyutl -verify -pubin -keyform DER -inkey key -rawin -in text -sigfile sig"
            done = subprocess.run(command.split(), cwd=place, capture_output=True, check=False)
        KNOWN[asked] = done.returncode == 0
    return KNOWN[asked]


def packed(part):
    return len(part).to_bytes(4, "big") + part


class Signature:
    """64 bytes, or what `ssh-keygen -Y sign -n openexec` makes (PROTOCOL.sshsig, PROTOCOL.u2f)."""

    def __init__(self, text):
        check(string(text), "a signature is a text")
        blob = unbase64(text)
        self.key, self.touch, self.raw = None, None, blob
        if len(blob) == 64:
            return
        self.key = blob[14 : 14 + int.from_bytes(blob[10:14], "big")]
        kind = self.key[4 : 4 + int.from_bytes(self.key[:4], "big")]
        check(kind.decode() in (SSH, TOKEN), "a signature by a key of another type")
        head = b"SSHSIG\0\0\0\1" + b"".join(map(packed, (self.key, b"openexec", b"", b"sha512")))
        own, touch = packed(kind) + b"\0\0\0\x40", 5 if kind.decode() == TOKEN else 0
        inner, length = blob[len(head) + 4 :], len(own) + 64 + touch
        check(blob[: len(head) + 4] == head + length.to_bytes(4, "big"), "an SSH signature of another form")
        check(inner.startswith(own) and len(inner) == length, "an SSH signature of another length")
        self.raw = inner[len(own) : len(own) + 64]
        self.touch = inner[len(own) + 64 :] if touch else None
        check(not touch or self.touch[0] in (1, 5), "nobody touched the security key")

    def is_by(self, key, message):
        """In the one way in which a key of its type signs."""
        public = bytes.fromhex(key["public_key"])
        if key["type"] == RAW or self.key is None:
            return key["type"] == RAW and self.key is None and verifies(public, message, self.raw)
        application = key["application"]
        wire = packed(key["type"].encode()) + packed(public)
        if self.key != wire + (b"" if application is None else packed(application.encode())):
            return False
        parts = b"openexec", b"", b"sha512", hashlib.sha512(message).digest()
        signed = b"SSHSIG" + b"".join(map(packed, parts))
        if key["type"] == TOKEN:
            if key["verified"] and self.touch[0] != 5:
                return False
            signed = sha(application).digest() + self.touch + sha(signed).digest()
        return verifies(public, signed, self.raw)


# Notes, checkpoints and paths (c2sp.org/signed-note, tlog-checkpoint; RFC 9162, 2.1.3.2).


def is_key_name(name):
    return 1 <= len(name.encode()) <= 256 and not any(
        c.isspace() or c < " " or "\x7f" <= c <= "\x9f" or c == "+" for c in name)


def verifier(text):
    """NAME+ID+KEY: the name, the id and the 32 bytes."""
    name, key_id, key = text.split("+", 2)
    key = unbase64(key)
    own = sha(name, "\n", key).hexdigest()[:8]
    check(is_key_name(name) and key[:1] == b"\1" and len(key) == 33 and own == key_id, "no key of a log")
    check(not is_weak(key[1:]), "a weak key")
    return name, bytes.fromhex(key_id), key[1:]


def split(note):
    """A note's text and its signatures: name and bytes."""
    end = note.rfind("\n\n")
    check(end >= 0 and not any(c < " " and c != "\n" for c in note), "no signed note")
    check(note.endswith("\n") and note[end + 2 :], "no signature line at its end")
    signatures = []
    for line in note[end + 2 : -1].split("\n"):
        name, _, data = line.removeprefix("\u2014 ").partition(" ")
        check(line.startswith("\u2014 ") and is_key_name(name) and len(unbase64(data)) > 4, "no signature line")
        signatures.append((name, unbase64(data)))
    return note[: end + 1], signatures


def is_signed(note):
    try:
        split(note)
    except (Bad, ValueError):
        return False
    return True


def checkpoint(note, log_key):
    """Name, size and root: signed by the key, if there is one."""
    text = split(note)[0] if log_key or is_signed(note) else note
    if log_key:
        name, key_id, key = log_key
        own = [data[4:] for known, data in split(note)[1] if known == name and data[:4] == key_id]
        check(own and all(len(one) == 64 and verifies(key, text.encode(), one) for one in own), "not signed by this key")
    check(text.endswith("\n"), "no checkpoint")
    origin, size, root, *more = text[:-1].split("\n")
    check(origin and all(more) and pattern("0|[1-9][0-9]*")(size) and int(size) < 2**64, "no checkpoint")
    check(len(unbase64(root)) == 32 and (not log_key or origin == log_key[0]), "no checkpoint of this log")
    return origin, int(size), unbase64(root)


def includes(size, root, index, leaf, path):
    node, last, value = index, size - 1, leaf
    if index >= size:
        return False
    for sibling in path:
        if last == 0:
            return False
        if node % 2 == 1 or node == last:
            value = sha(b"\1", sibling, value).digest()
            while node % 2 == 0 and node != 0:
                node, last = node // 2, last // 2
        else:
            value = sha(b"\1", value, sibling).digest()
        node, last = node // 2, last // 2
    return last == 0 and value == root


# Keys, and how many of them an action needs.


def threshold(required, action):
    return required.get(action, required["*"])


def holder(key):
    return key["name"] if key["person"] is None else key["person"]


def empty(required, keys):
    """How many places these keys leave empty: a holder fills one, and moves where another fits there alone."""
    places = [None] * required if count(required) else [
        group for group in required for _ in range(required[group])]
    seated = {}

    def seat(person, tried):
        own = [key["groups"] for key in keys if holder(key) == person]
        for at, group in enumerate(places):
            if at not in tried and any(group is None or group in groups for groups in own):
                tried.add(at)
                if at not in seated or seat(seated[at], tried):
                    seated[at] = person
                    return True
        return False

    for person in {holder(key): None for key in keys}:
        seat(person, set())
    return len(places) - len(seated)


def may(key, action, at):
    until = key["not_after"]
    return (key["actions"] is None or action in key["actions"]) and (until is None or moment(at) < moment(until))


def keyring(keys, required):
    """Each key is one, and each threshold can be reached."""
    check(1 <= len(keys) <= KEYS, "as many keys as there may be")
    for unique in ("name", "public_key"):
        check(len({key[unique] for key in keys}) == len(keys), "two keys are the same")
    for key in keys:
        check(key["actions"] != [] and KEY_NAME(key["name"]), "no key")
        check(not is_weak(bytes.fromhex(key["public_key"])), "a weak key")
        check((key["application"] is not None) == (key["type"] == TOKEN), "a security key has an application")
        check(key["type"] == TOKEN or not key["verified"], "a security key alone can be asked for a PIN")
        check(all(map(ACTION, key["groups"])), "groups are names")
        check((key["person"] is None) == (keys[0]["person"] is None), "all keys have a person, or none")
        check(key["person"] is None or KEY_NAME(key["person"]), "a person is a name")
    check("*" in required and all(name == "*" or ACTION(name) for name in required), "no thresholds")
    for places in required.values():
        check(needed(places) or all(map(ACTION, places)) and sum(places.values()) <= APPROVALS, "no places")
    named = {action for key in keys for action in key["actions"] or []} | required.keys()
    for action in named - {"*"}:
        able = [key for key in keys if key["actions"] is None or action in key["actions"]]
        check(not empty(threshold(required, action), able), "a threshold that none can reach")
    able = [key for key in keys if key["actions"] is None]
    check(not able or not empty(required["*"], able), "a threshold that none can reach")
    return {"keys": keys, "required": required}


# The records, one after another.


def canonical_hash(value, *names):
    return sha(canonical({name: value[name] for name in names})).hexdigest()


class Reading:
    """What was found so far; each method is a kind of record, held to those before it."""

    def __init__(self, store, trusted):
        self.created, self.mode, self.trusted = moment(store["at"]), store["mode"], trusted
        self.id, self.stage, self.policy_number, self.terms, self.idle = None, "new", None, None, False
        self.asked, self.run, self.ended, self.said, self.recorded = None, None, None, None, set()
        self.retried, self.signed, self.rejected, self.asynchronously = False, False, False, False

    def take(self, number, value):
        kind = value["kind"]
        check(kind != "store", "the store record is the first, and no other")
        if kind == "policy":
            check(not self.idle, "nothing was decided by the policy record before it")
            self.policy_number, self.idle = number, True
            return self.policy(value)
        check(self.id in (None, value["id"]), "about another id")
        check(self.terms, "no policy record stands before it")
        self.id = value["id"]
        self.idle = self.idle and kind not in ("proposal", "approval", "rejection", "claim")
        return getattr(self, kind)(value)

    def policy(self, value):
        is_claw = self.mode == "clawshield"
        said = [value[name] is not None for name in ("tenant", "keys", "required")]
        check(said == [is_claw] * 3, "a policy of the other mode")
        self.terms = dict(value)
        if is_claw:
            keyring(value["keys"], value["required"])
            callers = {one["name"]: one["person"] for one in value["callers"] or []}
            check(value["keys"][0]["person"] is None or None not in callers.values(), "a caller has no person")

    def step(self, known, then, why):
        check(self.stage in known, why)
        self.stage = then

    def request(self, value):
        check(value["id"] == canonical_hash(value, "action", "nonce", "payload"), "the id is not the request's hash")
        allowed = self.terms["allowed"]
        check(allowed is None or value["action"] in allowed, "not allowed")

    def proposer(self, value):
        """Where callers are asked who they are, it was one that might propose this action."""
        callers, name = self.terms["callers"], value["caller"]
        if callers is None or name is None:
            return check(callers is None and name is None, "a caller without callers, or none")
        caller = {caller["name"]: caller for caller in callers}.get(name)
        check(caller and "propose" in caller["may"], "not this caller's")
        check(caller["actions"] is None or value["action"] in caller["actions"], "not this caller's")

    def proposal(self, value):
        self.step({"new"}, "pending", "a proposal repeats one")
        check(self.mode == "clawshield", "no proposals in demo mode")
        self.request(value)
        self.proposer(value)
        self.asked, self.asynchronously = value, value["asynchronous"]

    def asynchronous(self, value):
        check(self.stage == "pending" and not self.asynchronously, "it could not become asynchronous")
        self.asynchronously = True

    def approval(self, value):
        self.step({"pending"}, "pending", "no proposal is pending")
        given = [value["artifact"]]
        names = self.approvers(given, value["at"], self.asked)
        check(given[0]["approval_id"] not in self.recorded, "an approval is recorded already")
        self.recorded.add(given[0]["approval_id"])
        check(names == [value["key"]], "another key signed it")
        hashes = {value["id"], canonical_hash(self.asked, "action", "payload")}
        check(given[0]["action_hash"] in hashes, "an approval of something else")

    def rejection(self, value):
        self.step({"pending"}, "over", "no proposal is pending")
        said = value["artifact"]
        check(has_form(said, REJECTION), "no rejection artifact")
        check(said["exec_id"] == value["id"] and said["tenant_id"] == self.terms["tenant"], "of something else")
        issued = moment(said["issued_at"])
        check(issued - moment(value["at"]) <= SKEW, "a rejection was issued later")
        check(issued >= self.created.replace(microsecond=0), "older than the store")
        text = canonical({name: said[name] for name in said if name != "signature"})
        key = self.signer(said["signature"], f"openexec-rejection-v1\n{text}", [value["key"]])
        check(key["name"] == value["key"] and may(key, self.asked["action"], value["at"]), "not by this key")
        self.trust([key], self.asked["action"], value["at"])
        self.signed = self.rejected = True

    def closed(self, value):
        self.step({"pending"}, "over", "no proposal is pending")
        check((value["code"] is not None) == (value["how"] == "refused"), "a code says why it was refused")
        check(value["by"] is None or value["how"] == "withdrawn", "who withdrew what was not withdrawn")

    def claim(self, value):
        self.step({"new", "pending"}, "executing", "a claim of what is over, or claimed")
        self.request(value)
        check(value["policy"] == self.policy_number, "it names another policy record")
        if self.asked is None or value["caller"] is not None:
            self.proposer(value)
        check(self.asked is None or self.asked["caller"] == value["caller"], "another caller's proposal")
        in_time = self.asked is None or moment(value["at"]) < moment(self.asked["expires"])
        check(in_time, "the proposal's time was over")
        if self.mode == "clawshield":
            self.approved(value)
        else:
            none = value["keys"] == [] and value["approval"] is None and value["legacy"] is None
            check(none, "a claim in demo mode names an approval")
        self.run = value

    def approved(self, claim):
        given, action = claim["approval"], claim["action"]
        check(given and len(given) <= APPROVALS, "there is no approval")
        names = self.approvers(given, claim["at"], claim)
        self.signed = True
        check(claim["keys"] == names, "it names other keys than approved it")
        keys = {key["name"]: key for key in self.terms["keys"]}
        required = threshold(self.terms["required"], action)
        check(not empty(required, [keys[name] for name in names]), "not as many keys as it takes")
        if self.trusted:
            required = threshold(self.trusted["required"], action)
            check(not empty(required, self.trusted_of(keys[name] for name in names)), "not as many of your keys")
        hashes = {artifact["action_hash"] for artifact in given}
        allowed = {claim["id"], canonical_hash(claim, "action", "payload")}
        if claim["legacy"] is not None:
            check(not hashes <= allowed, "a legacy text that no approval hashed")
            head, said = '{"action":"%s","payload":' % action, claim["legacy"]
            check(said.startswith(head) and said.endswith("}"), "no legacy text")
            meant = bounded(read(said[len(head) : -1]), DEPTH)
            check(canonical(meant) == canonical(claim["payload"]), "the legacy text is not what was executed")
            allowed.add(sha(said).hexdigest())
        check(hashes <= allowed, "an approval of something else")

    def approvers(self, given, at, asked):
        """The names of the keys that signed, in their order; each might, and each approval holds then."""
        check(all(has_form(artifact, ARTIFACT) for artifact in given), "no approval artifact")
        check(len({artifact["approval_id"] for artifact in given}) == len(given), "an approval counts twice")
        now, longest, own = moment(at), self.terms["ttl_max"], self.person(asked["caller"])
        signers = []
        for artifact in given:
            check(artifact["tenant_id"] == self.terms["tenant"], "another tenant's approval")
            issued, expires = moment(artifact["issued_at"]), moment(artifact["expires_at"])
            check(issued < expires and now < expires, "an approval had expired")
            check(issued - now <= SKEW, "an approval was issued later")
            lived = (expires - issued) // timedelta(microseconds=1)
            check(longest is None or lived <= longest * 10**6, "an approval lived too long")
            check(issued >= self.created.replace(microsecond=0), "an approval is older than the store")
            text = "".join(artifact[name] for name in list(ARTIFACT)[:5])
            key = self.signer(artifact["signature"], text, asked.get("keys", []))
            check(may(key, asked["action"], at), "a key that may not approve it")
            check(own is None or key["person"] != own, "who proposed it approved it")
            if key not in signers:
                signers.append(key)
        self.trust(signers, asked["action"], at)
        return [key["name"] for key in signers]

    def person(self, caller):
        return {one["name"]: one["person"] for one in self.terms["callers"] or []}.get(caller)

    def signer(self, text, message, first):
        """No more than one key made it: those that are named are tried first."""
        signature = Signature(text)
        for key in sorted(self.terms["keys"], key=lambda key: key["name"] not in first):
            if signature.is_by(key, message.encode()):
                return key
        raise Bad("no key of the policy record signed it")

    def trusted_of(self, keys):
        own = {key["public_key"] for key in keys}
        return [key for key in self.trusted["keys"] if key["public_key"] in own]

    def trust(self, keys, action, at):
        """A key is its 32 bytes: what it was called may change."""
        if self.trusted:
            found = self.trusted_of(keys)
            check(len(found) == len(keys), "a key that is none of those that you trust")
            check(all(may(key, action, at) for key in found), "by the keys that you trust, one might not")

    def retry(self, value):
        may_be = self.stage == "executing" and self.run["effect"] != "once" and not self.retried
        check(may_be, "it could not be run again")
        self.retried = True

    def receipt(self, value):
        self.step({"executing"}, "executed", "a receipt without a claim")
        hashed = sha(value["id"], ":", canonical(value["result"])).hexdigest()
        check(value["receipt"] == hashed, "the receipt is not the hash of id and result")
        result, outcome = value["result"], value["outcome"]
        if outcome == "executed":
            check(not result.keys() & {"denied", "failed", "indeterminate"}, "a reserved result")
        else:
            why = has_form(result.get(outcome), {"code": string, "detail": string})
            check(len(result) == 1 and why, "the result is not one of its outcome")
        self.ended = value

    def completion(self, value):
        is_open = self.said is None or self.said["outcome"] == "indeterminate"
        check(self.stage == "executed" and is_open, "a completion of what has none")
        said = {"completion": {"outcome": value["outcome"], "result": value["result"]}}
        hashed = sha(value["id"], ":", canonical(said)).hexdigest()
        check(value["receipt"] == hashed, "the receipt is not the hash of id and completion")
        if value["by"] == "operator":
            note = has_form(value["result"], {"note": string})
            check(note and value["outcome"] != "indeterminate", "an operator's completion is a note")
        self.said = value


def judge(data, log_key=None, trusted=None):
    """What the file shows: `log_key` as `verifier` reads it, `trusted` as `keys_of`."""
    check(len(data) <= BYTES, "too large")
    text = data.decode()
    bundle = bounded(read(sized(text, 4)), 4)
    check(canonical(bundle) + "\n" == text, "not in canonical form")
    form = {"index": count, "path": lambda path: each(string)(path) and len(path) <= PATH, "record": string}
    one = lambda value: type(value) is int and value == 1
    check(has_form(bundle, {"checkpoint": string, "records": each(lambda r: has_form(r, form)), "version": one}), "no evidence")
    origin, size, root = checkpoint(bundle["checkpoint"], log_key)

    def included():
        """One after the other: all of them at once may be much."""
        following = 0
        for entry in bundle["records"]:
            path, leaf = list(map(unbase64, entry["path"])), sha(b"\0", entry["record"]).digest()
            check(all(len(part) == 32 for part in path), "no path")
            check(entry["index"] >= following and includes(size, root, entry["index"], leaf, path), "not in this log")
            following = entry["index"] + 1
            yield entry["index"], record(entry["record"])

    values = included()
    first, store = next(values, (None, None))
    check(first == 0 and store["kind"] == "store", "it does not begin with the store record")
    own = f"openexec/{store['store']}\n{size}\n{base64.b64encode(root).decode()}\n"
    check(is_signed(bundle["checkpoint"]) or bundle["checkpoint"] == own, "an unsigned checkpoint of another store")
    check(not trusted or store["mode"] == "clawshield", "in demo mode nobody approves; leave out the keys")
    reading = Reading(store, trusted)
    for number, value in values:
        reading.take(number, value)
    check(reading.stage != "new", "neither a proposal nor an execution")
    check(not reading.idle, "nothing was decided by the last policy record")
    proven = {
        "included": True, "request": True, "log": log_key is not None, "outcome": reading.ended is not None,
        "approvals": reading.run is not None and reading.mode == "clawshield", "rejection": reading.rejected,
        "keys": trusted is not None and reading.signed, "completion": reading.said is not None,
    }
    attested = {"policy": True, "service": True, "once": reading.run is not None, "unexecuted": reading.stage == "over"}
    verdicts = {}
    for name in STATEMENTS:
        is_attested = log_key is not None and attested.get(name, False)
        verdicts[name] = "proven" if proven.get(name) else "attested" if is_attested else "not_shown"
    return {
        "checkpoint": {"origin": origin, "root": root.hex(), "size": size}, "id": reading.id, "mode": reading.mode,
        "ok": True, "outcome": reading.ended and reading.ended["outcome"], "statements": verdicts, "store": store["store"],
    }


# What else is given: keys that approvers are known by, as a keys file or as public keys.


def public_keys(text):
    lines = text.split("\n")
    found = []
    for line in lines:
        if line.startswith(("ssh-", "sk-", "ecdsa-")):
            kind, data = line.split()[:2]
            key = unbase64(data)
            check(kind in (SSH, TOKEN) and key.startswith(packed(kind.encode()) + packed(b" " * 32)[:4]), "no key of Ed25519")
            at = len(kind) + 8
            rest, application = key[at + 32 :], None
            if kind == TOKEN:
                application = rest[4:].decode()
                check(rest == packed(application.encode()), "no key of Ed25519")
            check(kind == TOKEN or not rest, "no key of Ed25519")
            found.append({"type": kind, "public_key": key[at : at + 32].hex(), "application": application})
    blocks = "\n".join(line for line in lines if not line.startswith(("ssh-", "sk-", "ecdsa-")))
    form = r"\s*-----BEGIN PUBLIC KEY-----\n([A-Za-z0-9+/=\n]+)-----END PUBLIC KEY-----\s*"
    check(re.fullmatch(f"({form})*", blocks.replace("\r", "")), "neither public keys nor a keys file")
    for block in re.findall(form, blocks.replace("\r", "")):
        der = unbase64(block.replace("\n", ""))
        check(der[:12].hex() == "302a300506032b6570032100" and len(der) == 44, "no key of Ed25519")
        found.append({"type": RAW, "public_key": der[12:].hex(), "application": None})
    check(found, "no public key")
    return found


def keys_of(text):
    other = {"verified": False, "groups": [], "actions": None, "person": None, "not_after": None}
    if not text.lstrip().startswith("{"):
        given = [other | key | {"name": sha(bytes.fromhex(key["public_key"])).hexdigest()[:16]}
                 for key in public_keys(text.replace("\\n", "\n"))]
        return keyring(given, {"*": 1})
    file = bounded(read(text), JSON_DEPTH)
    check({"keys"} <= file.keys() <= {"keys", "required"}, "no keys file")
    forms = KEY | {"public_key": string, "not_after": any_time, "groups": each(string), "actions": each(ACTION), "person": string}
    given = []
    for key in file["keys"]:
        check({"name", "public_key"} <= key.keys() <= forms.keys() - {"type", "application"}, "no key")
        check(all(forms[name](value) for name, value in key.items()), "no key")
        (public,) = public_keys(key["public_key"])
        given.append(other | key | public)
    required = {"*": 1} | file.get("required", {})
    check(mapping(lambda n: needed(n) or of_groups(n))(required), "no thresholds")
    return keyring(given, required)


BROKEN = (Bad, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--log-key", metavar="VKEY", help="the log's public key")
    parser.add_argument("--keys", metavar="FILE", help="keys that approvers are known by")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()

    def tried(code, about, make):
        try:
            return make()
        except OSError as why:
            end(78 if code == 78 else 74, f"{about}: {why}")
        except BROKEN as why:
            end(code, f"{about}: {why}")

    def end(code, why):
        print(f"verify_evidence.py: {ascii(why)[1:-1]}", file=sys.stderr)
        sys.exit(code)

    def content(name, most):
        with sys.stdin.buffer if name == "-" else open(name, "rb") as file:
            return file.read(most + 1)

    # What is given is held to, empty as it may be: an empty variable of a shell must not leave it out.
    log_key = None if given.log_key is None else tried(64, "--log-key", lambda: verifier(given.log_key))
    trusted = None if given.keys is None else tried(78, "--keys", lambda: keys_of(content(given.keys, KEY_BYTES).decode()))
    data = tried(74, given.file, lambda: content(given.file, BYTES))
    shown = tried(65, given.file, lambda: judge(data, log_key, trusted))
    if given.json:
        return print(json.dumps(shown, separators=(",", ":"), sort_keys=True))
    for name in ("store", "mode", "checkpoint", "id"):
        print(f"{name:<11} {json.dumps(shown[name])}")
    for entry in json.loads(data)["records"]:
        print(f"{'record':<11} {entry['index']} {json.dumps(json.loads(entry['record']), sort_keys=True)}")
    for name, verdict in shown["statements"].items():
        print(f"{verdict.replace('_', ' '):<11} {name}: {STATEMENTS[name]}")


if __name__ == "__main__":
    main()
