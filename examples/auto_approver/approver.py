#!/usr/bin/env python3
"""Approves small refunds by itself, up to a budget a day, and leaves everything else to people.

usage: approver.py --url URL --token-file FILE --key KEY --tenant T --state DIR [--once] [--new]

It has a key and a caller's token (right `approve`) of its own. `openexec-approve` signs: it fetches the proposal again by the id
that was judged here, and refuses one of another hash. DIR holds budget.json; `--new` makes it, once.
"""
import argparse, datetime, fcntl, hashlib, http.client, json, os, subprocess, sys, time, urllib.parse

REFUND_MAX = 5_000  # in the minor unit: 50.00
BUDGET_A_DAY = {"EUR": 20_000, "USD": 20_000}  # a day begins at 00:00 UTC


def refund(payload):
    """What it costs, as (currency, amount); a sentence where a person must decide."""
    if set(payload) != {"order", "amount", "currency"}:
        return "other fields than this rule knows"
    order, amount, currency = payload["order"], payload["amount"], payload["currency"]
    # A bool is an int to Python.
    if type(amount) is not int or not isinstance(order, str) or not isinstance(currency, str):
        return "a field of another type"
    if currency not in BUDGET_A_DAY:
        return f"no budget in {currency}"
    return (currency, amount) if 1 <= amount <= REFUND_MAX else f"{amount} is not within 1 to {REFUND_MAX}"


RULES = {"refund": refund}


def judge(entry):
    """The rule's word on an entry of the service's list. Who asked, and why, is not read: those are their words."""
    if entry.get("action") not in RULES:
        return "no rule for it"
    if not isinstance(entry.get("payload"), dict):  # one that is too long for the list, too
        return "its payload is not in the list"
    of = {name: entry.get(name) for name in ("action", "nonce", "payload")}
    text = json.dumps(of, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest() != entry.get("id"):
        return "its id is not the hash of what is listed"
    return RULES[entry["action"]](entry["payload"])


class Budget:
    """What was counted today, by id, on the disk before anything is signed: whatever fails, too much is counted, never too little."""

    def __init__(self, directory, new):
        self.path, self.directory = os.path.join(directory, "budget.json"), os.open(directory, os.O_RDONLY)
        fcntl.flock(self.directory, fcntl.LOCK_EX | fcntl.LOCK_NB)  # two would spend it twice
        if new:
            try:
                os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                sys.exit(f"{self.path} is there already: start without --new; nothing is approved")
            self.write({"day": today(), "counted": {}})
        self.read()

    def read(self):
        try:
            with open(self.path, encoding="utf-8") as file:
                state = json.load(file)
            is_sound = datetime.date.fromisoformat(state["day"]).isoformat() == state["day"] and all(
                type(amount) is int and amount > 0 and isinstance(currency, str) for currency, amount in state["counted"].values())
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise SystemExit(f"{self.path} cannot be read: {error!r}; nothing is approved") from error
        return state if is_sound else sys.exit(f"{self.path} is damaged; nothing is approved")

    def write(self, state):
        with open(self.path + ".new", "w", encoding="utf-8") as file:
            json.dump(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(self.path + ".new", self.path)
        os.fsync(self.directory)

    def take(self, id, currency, amount):
        """Whether the budget has it; counts it, once an id."""
        state = self.read()
        if state["day"] > today():
            sys.exit(f"{self.path} is of {state['day']}, and the clock says {today()}; nothing is approved")
        if state["day"] < today():
            state = {"day": today(), "counted": {}}
        spent = sum(other for of, other in state["counted"].values() if of == currency)
        if id not in state["counted"] and spent + amount <= BUDGET_A_DAY[currency]:
            self.write(state | {"counted": state["counted"] | {id: [currency, amount]}})
            return True
        return id in state["counted"]


def say(id, text, file=None):
    """A line of the journal. In a payload others may have written line breaks, and what terminals obey."""
    print(f"{id}: {text}".encode("unicode_escape").decode(), file=file, flush=True)


def today():
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def pending(options):
    """What waits, page after page. `http.client` follows no redirect, which would get the token."""
    url, after = urllib.parse.urlsplit(options.url), ""
    if url.scheme != "https" and (url.scheme != "http" or url.hostname not in ("127.0.0.1", "::1")):
        sys.exit("--url takes https, or http to loopback")
    with open(options.token_file, encoding="ascii") as file:
        head = {"Authorization": "Bearer " + file.read().strip()}
    for _ in range(100):
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = kind(url.hostname, url.port, timeout=30)
        connection.request("GET", "/proposals?state=pending" + after, headers=head)
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"the service answers {answer.status}")
        page = json.loads(answer.read(16 << 20))
        connection.close()
        yield from ((str(entry["id"]), entry) for entry in page["proposals"])
        if not page["next"]:
            return
        after = "&after=" + urllib.parse.quote(page["next"], safe="")


def approve(options, id):
    """0 where it is handed in; 65 where the service refuses it, as what is no longer pending."""
    command = ["openexec-approve", "approve", id, "--yes", "--key", options.key, "--tenant", options.tenant, "--ttl", "900"]
    command += ["--url", options.url, "--token-file", options.token_file]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    say(id, "approved" if done.returncode == 0 else done.stderr.rpartition("openexec-approve: ")[2].strip())
    return done.returncode


def main():
    parser = argparse.ArgumentParser()
    for name in ("--url", "--token-file", "--key", "--tenant", "--state"):
        parser.add_argument(name, required=True)
    parser.add_argument("--once", action="store_true", help="look once, instead of each two seconds")
    parser.add_argument("--new", action="store_true", help="make budget.json; refused where it is")
    options = parser.parse_args()
    budget, decided = Budget(options.state, options.new), set()
    while True:
        status = 0
        try:
            for id, entry in pending(options):
                if id in decided:
                    continue
                word = judge(entry)
                if not isinstance(word, str) and not budget.take(id, *word):
                    word = "the day's budget does not have it"
                if isinstance(word, str):
                    say(id, f"left to people: {word}")
                elif (code := approve(options, id)) not in (0, 65):
                    # Looked at again the next time. The fault may be this proposal's alone: the others have their turn.
                    say(id, f"cannot go on for now: openexec-approve ended with {code}", sys.stderr)
                    status = 1
                    continue
                decided.add(id)
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
            print(f"cannot go on for now: {error!r}", file=sys.stderr, flush=True)
            status = 1
        if options.once:
            return status
        time.sleep(2)


if __name__ == "__main__":
    sys.exit(main())
