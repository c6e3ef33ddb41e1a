#!/usr/bin/env python3
"""Audits a store without OpenExec (store.md): read_store.py DIRECTORY [CHECKPOINT]. Exit 0, or 1 with where.

With a checkpoint that somebody kept, it also says whether the store still has every record of then. It checks no signature."""
import base64, decimal, hashlib, json, os, re, stat, sys
from datetime import datetime, timedelta

FORMAT, SEGMENT, SECTOR, DEPTH, VALUES, INTEGER = 2, 16 * 1024 * 1024, 512, 68, 131_072, 2**53 - 1
SKEW, UNSTORED, APPROVALS, KEYS, NOTE = timedelta(seconds=60), 4096, 16, 64, 64 * 1024


class Bad(Exception):
    """Why something is not as store.md says."""


class Other(Exception):
    """A store of another format."""


def check(holds, reason):
    if not holds:
        raise Bad(reason)


def sha(*parts):
    return hashlib.sha256(b"".join(p if isinstance(p, bytes) else p.encode() for p in parts))


# A line: RFC 8785, and nothing that parsers read differently.


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
        check(len(dict(pairs)) == len(pairs), "a name occurs twice")
        return dict(pairs)

    def spelled(kind):
        def one(digits):
            check(len(digits) <= 1100, "a number of too many bytes")
            check(kind(digits) or not re.match("-?[0.]*[1-9]", digits), "a number that is nearly zero")
            return kind(digits)
        return one

    return json.loads(text, object_pairs_hook=unique, parse_int=spelled(int), parse_float=spelled(float))


def measure(value):
    """How deep it is, and how many values it has, an object counted as 16."""
    if not isinstance(value, (dict, list)):
        return 0, 1
    inside = [measure(item) for item in (value.values() if isinstance(value, dict) else value)]
    own = 16 if isinstance(value, dict) else 1
    return 1 + max((deep for deep, _ in inside), default=0), own + sum(many for _, many in inside)


def moment(text):
    """Microseconds; what is finer is cut off."""
    whole, _, rest = text.partition(".")
    micros = re.match(r"\d*", rest).group()[:6].ljust(6, "0")
    return datetime.strptime(f"{whole[:19]}.{micros}", "%Y-%m-%dT%H:%M:%S.%f")


# The kinds of records, and the form of each field.


def pattern(form):
    return lambda value: isinstance(value, str) and re.fullmatch(form, value, re.ASCII)


def one_of(*names):
    return lambda value: isinstance(value, str) and value in names


def optional(form):
    return lambda value: value is None or form(value)


def count(value):
    return type(value) is int and value >= 0


def each(form):
    return lambda value: isinstance(value, list) and all(map(form, value))


def set_of(form):
    """Of texts: in their order, each once."""
    return lambda value: each(form)(value) and value == sorted(set(value))


def mapping(form):
    return lambda value: isinstance(value, dict) and all(map(form, value.values()))


def needed(value):
    """How many must approve."""
    return type(value) is int and 1 <= value <= APPROVALS


def of_groups(value):
    """How many of each group must."""
    return value != {} and mapping(needed)(value)


def boolean(value):
    return isinstance(value, bool)


def is_nonce(value):
    control = pattern(r"[^\x00-\x1f\x7f-\x9f]*")
    return isinstance(value, str) and 1 <= len(value.encode()) <= 256 and control(value)


def counts(value):
    return isinstance(value, dict) and value and all(
        CODE(code) and count(often) and often for code, often in value.items())


def time(text):
    return pattern(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")(text) and moment(text)


def any_time(text):
    form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|\+00:00)?"
    return pattern(form)(text) and moment(text)


def string(value):
    return isinstance(value, str)


def is_object(value):
    return isinstance(value, dict)


def is_list(value):
    return isinstance(value, list)


KEY_NAME = pattern("[!-~]([ -~]{0,62}[!-~])?")
HASH, ID, CODE = pattern("[0-9a-f]{64}"), pattern("[0-9a-f]{32}"), pattern("[a-z0-9_]+")
ACTION, MODE = pattern(r"[A-Za-z0-9_.\-]{1,64}"), one_of("demo", "clawshield")
AT, REASON = {"at": time}, {"at": time, "reason": string}
NAME, OUTCOME = optional(string), one_of("executed", "failed", "indeterminate")
REFUSAL = {"at": time, "id": HASH, "action": ACTION, "nonce": is_nonce, "caller": NAME,
           "code": CODE, "detail": string, "receipt": HASH}
SIGNED = {"at": time, "id": HASH, "key": string, "artifact": is_object}
RAW, SSH, TOKEN = "ed25519", "ssh-ed25519", "sk-ssh-ed25519@openssh.com"
KEY = {"name": string, "type": one_of(RAW, SSH, TOKEN),
       "public_key": HASH, "application": NAME, "verified": boolean, "groups": set_of(string),
       "actions": optional(set_of(ACTION)), "person": NAME, "not_after": optional(time)}
CALLER = {"name": string, "may": set_of(one_of("propose", "approve", "read")), "person": NAME,
          "actions": optional(set_of(ACTION))}
KINDS = {
    "segment": [{"format": lambda value: count(value) and value == FORMAT, "store": ID, "mode": MODE, "created": time,
                 "first": count, "batch": count, "root": HASH}],
    "commit": [{"batch": count, "size": count, "root": HASH}],
    "store": [{"at": time, "store": ID, "mode": MODE}],
    "policy": [{"at": time, "version": string, "tenant": NAME, "ttl_max": optional(count),
                "allowed": optional(each(ACTION)), "actions": optional(HASH),
                "keys": optional(each(lambda value: has_form(value, KEY))),
                "required": optional(mapping(lambda n: needed(n) or of_groups(n))),
                "callers": optional(each(lambda value: has_form(value, CALLER)))}],
    "proposal": [{"at": time, "id": HASH, "action": ACTION, "payload": is_object,
                  "nonce": is_nonce, "caller": NAME, "justification": NAME,
                  "asynchronous": boolean, "expires": time}],
    "asynchronous": [{"at": time, "id": HASH}],
    "approval": [SIGNED],
    "rejection": [SIGNED],
    "closed": [{"at": time, "id": HASH, "how": one_of("withdrawn", "expired", "refused"),
                "by": NAME, "code": optional(CODE)}],
    "claim": [{"at": time, "id": HASH, "action": ACTION, "payload": is_object, "nonce": is_nonce,
               "caller": NAME, "effect": one_of("pure", "idempotent", "once"),
               "approval": optional(is_list), "keys": is_list, "legacy": NAME, "policy": count,
               "place": optional(ID)}],
    "receipt": [{"at": time, "id": HASH, "outcome": OUTCOME, "result": is_object, "receipt": HASH}],
    "retry": [{"at": time, "id": HASH}],
    "completion": [{"at": time, "id": HASH, "by": one_of("worker", "operator"), "outcome": OUTCOME,
                    "result": is_object, "receipt": HASH}],
    "refusal": [REFUSAL | {"payload": is_object}, REFUSAL | {"payload_hash": HASH}],
    "suppressed": [{"at": time, "count": counts}],
    "freeze": [REASON],
    "unfreeze": [REASON],
}


def signature(value):
    """64 bytes, or what `ssh-keygen -Y sign -n openexec` makes (PROTOCOL.sshsig, PROTOCOL.u2f)."""

    def text(part):
        return len(part).to_bytes(4, "big") + part

    blob = base64.b64decode(value, validate=True)
    check(base64.b64encode(blob).decode() == value, "a signature in another spelling of base64")
    if len(blob) == 64:
        return True
    key = blob[14 : 14 + int.from_bytes(blob[10:14], "big")]
    kind = key[4 : 4 + int.from_bytes(key[:4], "big")]
    check(kind.decode() in (SSH, TOKEN), "a signature by a key of another type")
    head = b"SSHSIG\0\0\0\1" + b"".join(map(text, (key, b"openexec", b"", b"sha512")))
    own, touch = text(kind) + b"\0\0\0\x40", 5 if kind.decode() == TOKEN else 0
    inner, length = blob[len(head) + 4 :], len(own) + 64 + touch
    check(blob[: len(head) + 4] == head + length.to_bytes(4, "big"), "an SSH signature of another form")
    check(inner.startswith(own) and len(inner) == length, "an SSH signature of another length")
    return not touch or inner[-5] in (1, 5)


ARTIFACT = {
    "approval_id": pattern("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "tenant_id": string,
    "action_hash": HASH, "issued_at": any_time, "expires_at": any_time,
    "signature": signature,
}
REJECTION = {
    "rejection_id": ARTIFACT["approval_id"], "tenant_id": string, "exec_id": HASH,
    "issued_at": any_time, "justification": lambda text: string(text) and len(text) <= 500,
    "signature": ARTIFACT["signature"],
}


def has_form(value, form):
    return is_object(value) and value.keys() == form.keys() and all(
        form[name](value[name]) for name in form)


def record(line):
    said = line.decode()
    value = read(said)
    check(canonical(value) == said, "not in canonical form")
    format_of = value.get("format") if is_object(value) and value.get("kind") == "segment" else None
    if count(format_of) and format_of != FORMAT:
        raise Other("it is of a format that this program does not know")
    kind, fields = value["kind"], {name: value[name] for name in value if name != "kind"}
    check(any(has_form(fields, form) for form in KINDS[kind]), f"not the fields of a {kind}")
    for field in fields.values():
        depth, values = measure(field)
        check(depth <= DEPTH and values <= VALUES, "a value is too deep, or has too many values")
    return value


# The tree, and what there may be only one of.


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


def may(key, action):
    return key["actions"] is None or action in key["actions"]


class Store:
    def __init__(self, kept=None):
        """`kept`: the size at which `root_then` is to be known."""
        self.kept, self.root_then = kept, root([]) if kept == 0 else None
        self.tree, self.size, self.batch, self.identity = [], 0, 0, None
        self.owed, self.spent, self.frozen = {}, set(), False
        self.asked, self.closed_ids, self.ended = {}, set(), {}
        self.records, self.policy_in_force, self.policy_batch = 0, None, None

    def take(self, data, start):
        """Takes the batch that begins there; gives its end."""
        at, segment, lines = start, None, []
        while True:
            end = data.index(b"\n", at)
            value = record(data[at:end])
            if value["kind"] == "commit":
                break
            check((value["kind"] == "segment") == (at == 0), "segment lines begin segments")
            if value["kind"] == "segment":
                segment = value
            else:
                lines.append((value, sha(b"\0", data[at:end]).digest()))
            at = end + 1
        self.begin(start, segment, lines)
        tree, then = list(self.tree), self.root_then
        for size, (_, leaf) in enumerate(lines, self.size + 1):
            push(tree, leaf)
            then = root(tree) if size == self.kept else then
        now = {"batch": self.batch + 1, "kind": "commit", "root": root(tree), "size": self.size + len(lines)}
        check(value == now, "the root or a number does not hold")
        self.tree, self.batch, self.size, self.root_then = tree, now["batch"], now["size"], then
        for value, _ in lines:
            getattr(self, value["kind"])(value, len(lines))
            self.records += 1
        return end + 1

    def begin(self, start, segment, lines):
        stores = [place for place, (value, _) in enumerate(lines) if value["kind"] == "store"]
        check(stores == ([] if self.identity else [0]), "the store record is the first, and no other")
        policies = [value["kind"] == "policy" for value, _ in lines]
        check(not any(policies[1:]), "a policy record is the first of its batch")
        if start == 0:
            known = self.identity or lines[0][0]
            names = {"store": "store", "mode": "mode", "created": "at"}
            same = all(segment[name] == known[names[name]] for name in names)
            check(same, "a segment of another store")
            past = {"first": self.size, "batch": self.batch, "root": root(self.tree)}
            check(past.items() <= segment.items(), "not what came before the segment")
        if stores:
            self.identity = lines[0][0]

    def store(self, value, among):
        pass

    suppressed = store

    def in_force(self):
        check(self.policy_in_force and self.policy_in_force[1]["keys"] is not None, "no policy of approvals")
        return self.policy_in_force[1]

    def proposal(self, value, among):
        request = {name: value[name] for name in ("action", "nonce", "payload")}
        check(value["id"] == sha(canonical(request)).hexdigest(), "the id is not the request's hash")
        allowed = self.in_force()["allowed"]
        check(allowed is None or value["action"] in allowed, "not allowed")
        self.proposer(self.in_force(), value)
        self.spend({("nonce", value["nonce"])})
        check(value["id"] not in self.closed_ids, "a proposal repeats one")
        self.asked[value["id"]] = dict(value)

    def pending(self, value):
        check(value["id"] in self.asked, "no proposal with this id is pending")
        return self.asked[value["id"]]

    def asynchronous(self, value, among):
        check(not self.pending(value)["asynchronous"], "it is asynchronous already")
        self.asked[value["id"]]["asynchronous"] = True

    def approval(self, value, among):
        asked, policy = self.pending(value), self.in_force()
        signer = self.signer(policy, value["key"], asked["action"], value["at"])
        self.apart(policy, asked["caller"], [signer])
        self.artifacts(policy, [value["artifact"]], value["at"])
        request = {name: asked[name] for name in ("action", "payload")}
        allowed = {value["id"], sha(canonical(request)).hexdigest()}
        check(value["artifact"]["action_hash"] in allowed, "an approval of something else")
        self.spend({("recorded", value["artifact"]["approval_id"])})

    def rejection(self, value, among):
        asked, policy, said = self.pending(value), self.in_force(), value["artifact"]
        check(has_form(said, REJECTION), "no rejection artifact")
        self.signer(policy, value["key"], asked["action"], value["at"])
        check(said["exec_id"] == value["id"] and said["tenant_id"] == policy["tenant"], "of something else")
        issued = moment(said["issued_at"])
        check(issued - moment(value["at"]) <= SKEW, "a rejection was issued later")
        check(issued >= moment(self.identity["at"]).replace(microsecond=0), "older than the store")
        self.over(value)

    def closed(self, value, among):
        check((value["code"] is not None) == (value["how"] == "refused"), "a code says why it was refused")
        check(value["by"] is None or value["how"] == "withdrawn", "who withdrew what was not withdrawn")
        self.over(value)

    def over(self, value):
        self.pending(value)
        del self.asked[value["id"]]
        self.closed_ids.add(value["id"])

    def completion(self, value, among):
        said = {"completion": {"outcome": value["outcome"], "result": value["result"]}}
        hashed = sha(value["id"], ":", canonical(said)).hexdigest()
        check(value["receipt"] == hashed, "the receipt is not the hash of id and completion")
        if value["by"] == "operator":
            note = has_form(value["result"], {"note": string})
            check(note and value["outcome"] != "indeterminate", "an operator's completion is a note")
        check(value["id"] in self.ended, "a completion of what has no receipt")
        check(self.ended[value["id"]] in (None, "indeterminate"), "a completion of what was completed")
        self.ended[value["id"]] = value["outcome"]

    def spend(self, once):
        check(not once & self.spent, "a nonce or an approval is spent a second time")
        self.spent |= once

    def freeze(self, value, among):
        check(not self.frozen, "a freeze within a freeze")
        self.frozen = True

    def unfreeze(self, value, among):
        check(self.frozen, "an unfreeze without a freeze")
        self.frozen = False

    def policy(self, value, among):
        is_claw = self.identity["mode"] == "clawshield"
        said = [value[name] is not None for name in ("tenant", "keys", "required")]
        check(said == [is_claw] * 3, "a policy of the other mode")
        terms = {name: value[name] for name in value if name != "at"}
        known = self.policy_in_force
        check(not known or terms != known[1], "a policy record repeats the one in force")
        self.policy_in_force, self.policy_batch = (self.records, terms), self.batch
        if is_claw:
            self.keyring(value)

    def keyring(self, policy):
        """Each key is one, and each threshold can be reached."""
        keys, required = policy["keys"], policy["required"]
        check(1 <= len(keys) <= KEYS, "as many keys as there may be")
        for unique in ("name", "public_key"):
            check(len({key[unique] for key in keys}) == len(keys), "two keys are the same")
        check(all(key["actions"] != [] and KEY_NAME(key["name"]) for key in keys), "no key")
        for key in keys:
            is_token = key["type"] == TOKEN
            check((key["application"] is not None) == is_token, "a security key has an application")
            check(is_token or not key["verified"], "a security key alone can be asked for a PIN")
            check(all(map(ACTION, key["groups"])), "groups are names")
            check((key["person"] is None) == (keys[0]["person"] is None), "all keys have a person, or none")
            check(key["person"] is None or KEY_NAME(key["person"]), "a person is a name")
        nameless = any(caller["person"] is None for caller in policy["callers"] or [])
        check(keys[0]["person"] is None or not nameless, "a caller has no person, and keys have")
        places = [n if count(n) else sum(n.values()) for n in required.values()]
        check(all(n <= APPROVALS for n in places), "more places than approvals")
        check("*" in required and all(name == "*" or ACTION(name) for name in required), "no thresholds")
        named = {action for key in keys for action in key["actions"] or []} | required.keys()
        for action in named - {"*"}:
            able = [key for key in keys if may(key, action)]
            check(not empty(threshold(required, action), able), "a threshold that none can reach")
        able = [key for key in keys if key["actions"] is None]
        check(not able or not empty(required["*"], able), "a threshold that none can reach")

    def claim(self, value, among):
        check(not self.frozen, "a claim stands between a freeze and its unfreeze")
        request = {name: value[name] for name in ("action", "nonce", "payload")}
        check(value["id"] == sha(canonical(request)).hexdigest(), "the id is not the request's hash")
        check(self.policy_in_force and self.policy_in_force[0] == value["policy"], "a policy not in force")
        policy, others = self.policy_in_force[1], among - (self.policy_batch == self.batch)
        check(value["effect"] != "once" or others == 1, "a claim of effect once is alone in its batch")
        check(policy["allowed"] is None or value["action"] in policy["allowed"], "not allowed")
        if policy["keys"] is not None:
            self.approved(value, policy)
        else:
            none = value["keys"] == [] and value["approval"] is None and value["legacy"] is None
            check(none, "a claim in demo mode names an approval")
        approvals = {("approval", artifact["approval_id"]) for artifact in value["approval"] or []}
        asked = self.asked.pop(value["id"], None)
        check(asked is None or asked["caller"] == value["caller"], "another caller's proposal")
        check(asked is None or moment(value["at"]) < moment(asked["expires"]), "the proposal's time was over")
        if asked is None or value["caller"] is not None:
            self.proposer(policy, value)
        self.spend(approvals if asked else approvals | {("nonce", value["nonce"])})
        self.owed[value["id"]] = [value["effect"], self.batch, False]

    def proposer(self, policy, value):
        """Where callers are asked who they are, it was one that might propose this action."""
        callers, name = policy["callers"], value["caller"]
        if callers is None or name is None:
            return check(callers is None and name is None, "a caller without callers, or none")
        caller = {caller["name"]: caller for caller in callers if "propose" in caller["may"]}.get(name)
        check(caller and (caller["actions"] is None or value["action"] in caller["actions"]), "not this caller's")

    def approved(self, claim, policy):
        """By the policy in force, at the claim's time. Signatures are not looked at."""
        artifacts, keys = claim["approval"], claim["keys"]
        self.artifacts(policy, artifacts, claim["at"])
        check(all(map(string, keys)) and len(set(keys)) == len(keys), "keys are names, each once")
        check(len(keys) <= len(artifacts), "more keys than approvals")
        signers = [self.signer(policy, name, claim["action"], claim["at"]) for name in keys]
        self.apart(policy, claim["caller"], signers)
        check(not empty(threshold(policy["required"], claim["action"]), signers), "not as many keys as it takes")
        hashes = {artifact["action_hash"] for artifact in artifacts}
        request = {name: claim[name] for name in ("action", "payload")}
        allowed = {claim["id"], sha(canonical(request)).hexdigest()}
        if claim["legacy"] is not None:
            check(not hashes <= allowed, "a legacy text that no approval hashed")
            self.means(claim)
            allowed.add(sha(claim["legacy"]).hexdigest())
        check(hashes <= allowed, "an approval of something else")

    def artifacts(self, policy, artifacts, time):
        """What approvals say, whoever signed them."""
        check(artifacts and len(artifacts) <= APPROVALS, "there is no approval")
        check(all(has_form(artifact, ARTIFACT) for artifact in artifacts), "no approval artifact")
        ids = {artifact["approval_id"] for artifact in artifacts}
        check(len(ids) == len(artifacts), "an approval counts twice")
        check(all(a["tenant_id"] == policy["tenant"] for a in artifacts), "another tenant's approval")
        at, created, longest = moment(time), moment(self.identity["at"]), policy["ttl_max"]
        for artifact in artifacts:
            issued, expires = moment(artifact["issued_at"]), moment(artifact["expires_at"])
            check(issued < expires and at < expires, "an approval had expired")
            check(issued - at <= SKEW, "an approval was issued later")
            lived = (expires - issued) // timedelta(microseconds=1)
            check(longest is None or lived <= longest * 10**6, "an approval lived too long")
            check(issued >= created.replace(microsecond=0), "an approval is older than the store")

    def signer(self, policy, name, action, time):
        key = {key["name"]: key for key in policy["keys"]}.get(name)
        check(key and may(key, action), "a key that may not approve it")
        until = key["not_after"]
        check(until is None or moment(time) < moment(until), "a key was past its not_after")
        return key

    def apart(self, policy, caller, signers):
        persons = {one["name"]: one["person"] for one in policy["callers"] or []}
        own = persons.get(caller)
        check(own is None or all(key["person"] != own for key in signers), "who proposed it approved it")

    def means(self, claim):
        head = '{"action":"%s","payload":' % claim["action"]
        said = claim["legacy"]
        check(said.startswith(head) and said.endswith("}"), "no legacy text")
        meant = canonical(read(said[len(head) : -1]))
        check(meant == canonical(claim["payload"]), "the legacy text is not what was executed")

    def retry(self, value, among):
        check(value["id"] in self.owed, "a retry without a claim that is owed")
        owed = self.owed[value["id"]]
        check(not self.frozen, "a retry stands between a freeze and its unfreeze")
        check(owed[0] != "once" and not owed[2], "run again once more than it may")
        owed[2] = True

    def receipt(self, value, among):
        check(value["id"] in self.owed, "a receipt without a claim of its own")
        effect, batch, _ = self.owed.pop(value["id"])
        self.ended[value["id"]] = None
        check((effect == "pure") == (batch == self.batch), "only a pure claim's batch has its receipt")
        hashed = sha(value["id"], ":", canonical(value["result"])).hexdigest()
        check(value["receipt"] == hashed, "the receipt is not the hash of id and result")
        result, outcome = value["result"], value["outcome"]
        if outcome == "executed":
            check(not result.keys() & {"denied", "failed", "indeterminate"}, "a reserved result")
        else:
            why = has_form(result.get(outcome), {"code": string, "detail": string})
            check(len(result) == 1 and why, "the result is not one of its outcome")

    def refusal(self, value, among):
        if "payload" in value:
            request = {name: value[name] for name in ("action", "nonce", "payload")}
            check(len(canonical(value["payload"]).encode()) <= UNSTORED, "a payload over 4,096 bytes")
            check(value["id"] == sha(canonical(request)).hexdigest(), "the id is not the request's hash")
        result = {"denied": {"code": value["code"], "detail": value["detail"]}}
        hashed = sha(value["id"], ":", canonical(result)).hexdigest()
        check(value["receipt"] == hashed, "the receipt is not the hash of id and result")


SEGMENT_NAME = pattern(r"((?!0{8})\d{8}|[1-9]\d{8,})\.jsonl")
# How a file is opened: the flags that the system has of these.
NOTHING_ELSE = sum(getattr(os, name, 0) for name in ("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))


def is_blank(data):
    return not data.strip(b"\n\0")


def number_of(line):
    """The batch that a commit line ends; None for any other text."""
    try:
        value = record(line)
        return value["batch"] if value["kind"] == "commit" else None
    except (Bad, Other, ValueError, KeyError, TypeError, RecursionError):
        return None


def is_torn(data, start, end, following):
    """Whether a power cut leaves the batch of that number so: text from `start` to `end`."""
    tail = data[start:end]
    commits = [number_of(line) for line in re.split(rb"[\n\0]", tail)]
    if any(batch not in (None, following) for batch in commits):
        return False
    sectors = [tail[at : at + SECTOR] for at in range(0, len(tail) - SECTOR, SECTOR)]
    if any(is_blank(sector) for sector in sectors):
        return True
    stops = end % SECTOR == 0 or (end + 1) % SECTOR == 0 and data[end : end + 1] == b"\n"
    return stops and commits[-1] is None


def content(path, most):
    """At most so many bytes of a regular file: whoever writes the store may have put a link, a FIFO or a device there."""
    check(stat.S_ISREG(os.lstat(path).st_mode), "no regular file")
    with open(os.open(path, NOTHING_ELSE), "rb") as file:
        check(stat.S_ISREG(os.fstat(file.fileno()).st_mode), "no regular file")
        return file.read(most)


def head_of(checkpoint):
    """Of a checkpoint (c2sp.org/tlog-checkpoint): the log's name, size and root."""
    with open(checkpoint, "rb") as file:
        text = file.read(NOTE).decode()
    found = re.match("([^\n]+)\n(0|[1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\n", text)
    check(found, "no checkpoint")
    return found[1], int(found[2]), base64.b64decode(found[3]).hex()


def shown(text):
    """Of somebody else's words nothing moves a cursor or looks like another."""
    return ascii(str(text))[1:-1]


def audit(directory, checkpoint=None):
    torn, place, log, size, kept = None, checkpoint, "", None, None
    try:
        if checkpoint is not None:
            log, size, kept = head_of(checkpoint)
        store, place = Store(size), directory
        files = sorted(name for name in os.listdir(directory) if SEGMENT_NAME(name))
        for number, name in enumerate(files, 1):
            place = name
            check(name == "%08d.jsonl" % number, "a segment before this one is missing")
            data, at = content(os.path.join(directory, name), SEGMENT + 1), 0
            check(len(data) == SEGMENT, f"a segment has {SEGMENT} bytes")
            text = len(data.rstrip(b"\n\0"))
            check(not (torn and text), f"text in a segment after {torn}")
            while at < text:
                place = f"{name}, byte {at}"
                try:
                    end = store.take(data, at)
                except (Bad, ValueError, KeyError, TypeError, RecursionError) as why:
                    check(is_torn(data, at, text, store.batch + 1), f"no valid batch: {why}")
                    torn = place
                    break
                at = end + -end % SECTOR
                check(is_blank(data[end:at]), "text between two batches")
            check(at or 1 < number == len(files), "no valid batch where the segment begins")
        check(store.identity, "no store there")
        if checkpoint is not None:
            place = directory
            # Without a key the name says which store it is.
            own = "openexec/" + store.identity["store"]
            check(not re.fullmatch("openexec/[0-9a-f]{32}", log) or log == own, "the checkpoint is of another store")
            check(size <= store.size, f"it has {store.size} records, {size - store.size} fewer than the checkpoint")
            check(kept == store.root_then, f"its first {size} records are not those of the checkpoint")
    except (Bad, Other, OSError, ValueError) as why:
        sys.exit(f"{shown(place)}: {shown(why)}")
    print(f"ok: {store.size} records in {store.batch} batches, {len(store.owed)} owed, root {root(store.tree)}")
    if torn:
        print(f"note: the batch at {torn} is being written, or was cut short")
    if checkpoint is not None:
        print(f"ok: it begins with the {size} records of {shown(checkpoint)}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        sys.exit("usage: read_store.py DIRECTORY [CHECKPOINT]")
    audit(*sys.argv[1:])
