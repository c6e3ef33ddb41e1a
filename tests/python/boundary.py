"""A service as an operator would set it up for people: callers with tokens, keys by name, two declared actions, a queue.

`refund` needs one approval, `refund_large` one of finance and one of ops.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from service import private_key, ready

TENANT = "acme"
MONEY = {"x-display": "money", "x-currency": "currency", "x-exponents": {"EUR": 2, "USD": 2, "JPY": 0}}


def action(name, largest):
    properties = {
        "order": {"type": "string", "minLength": 1, "maxLength": 40},
        "amount": {"type": "integer", "minimum": 1, "maximum": largest, **MONEY},
        "currency": {"enum": ["EUR", "USD", "JPY"]},
        "note": {"type": "string", "x-display": "text", "maxLength": 6000},
    }
    return {"action": name, "summary": f"Pays a customer back, up to {largest} of the minor unit.", "payload_schema": {
        "type": "object", "properties": properties, "required": ["order", "amount", "currency"], "additionalProperties": False}}


class Boundary:
    """The service and what its people have; a path is below `at`."""

    def __init__(self, binary, at):
        self.binary, self.at, self.url, self.server = os.path.abspath(binary), at, None, None
        self.environment = {
            "PATH": os.environ["PATH"], "OPENEXEC_LOG": "off", "OPENEXEC_MODE": "clawshield", "CLAWSHIELD_TENANT_ID": TENANT,
            "OPENEXEC_DB_URL": f"file:{at}/store", "OPENEXEC_LISTEN": "127.0.0.1:0", "OPENEXEC_OUTBOX_DIR": f"{at}/outbox",
            "OPENEXEC_KEYS_FILE": f"{at}/keys.json", "OPENEXEC_CALLERS_FILE": f"{at}/callers.json",
            "OPENEXEC_ACTIONS_FILE": f"{at}/actions.json",
        }
        (at / "outbox").mkdir()

    def write(self, name, value):
        (self.at / name).write_text(json.dumps(value))
        (self.at / name).chmod(0o600)

    def caller(self, name, *may):
        """Its line of the callers file; its token is in the file of its name."""
        made = subprocess.run([self.binary, "token", name], check=True, capture_output=True, text=True).stdout.splitlines()
        (self.at / f"{name}.token").write_text(made[0] + "\n")
        (self.at / f"{name}.token").chmod(0o600)
        return json.loads(made[1]) | {"may": list(may)}

    def key(self, name):
        """The public half, as a keys file has it, of a new private key in NAME.pem."""
        public = ["openssl", "pkey", "-in", private_key(self.at / f"{name}.pem"), "-pubout"]
        return subprocess.run(public, check=True, capture_output=True, text=True).stdout

    def start(self):
        self.server = subprocess.Popen([self.binary, "serve"], env=self.environment, stderr=subprocess.DEVNULL)
        self.url = ready(self.server, self.at / "store/LOCK")

    def stop(self):
        if self.server:
            self.server.kill()
            self.server.wait()

    def ask(self, path, caller=None, body=None, **head):
        """Status and body."""
        head = {name.replace("_", "-"): value for name, value in head.items()}
        if caller:
            head["Authorization"] = "Bearer " + (self.at / f"{caller}.token").read_text().strip()
        if body is not None:
            head["Content-Type"] = "application/json"
        request = urllib.request.Request(self.url + path, None if body is None else json.dumps(body).encode(), head)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def propose(self, nonce, action="refund", caller="agent", **payload):
        """The id of what waits from then on."""
        payload = {"order": "8841", "amount": 4900, "currency": "EUR"} | payload
        call = {"action": action, "payload": payload, "nonce": nonce}
        status, answer = self.ask("/execute", caller, call, Prefer="respond-async")
        assert status == 202, answer
        return answer["id"]

    def state(self, id):
        status, answer = self.ask(f"/proposals/{id}", "watcher")
        assert status == 200, answer
        return answer["state"]

    def until(self, id, state):
        """Waits until it is so; what is approved executes a moment later."""
        deadline = time.monotonic() + 60
        while (now := self.state(id)) != state:
            assert now in ("pending", "executing") and time.monotonic() < deadline, now
            time.sleep(0.02)


@contextlib.contextmanager
def boundary(binary, keys, required=None, callers=()):
    """Serves with keys of these names (or with what is given of a name: an entry, less the name), an agent and a watcher."""
    with tempfile.TemporaryDirectory() as scratch:
        one = Boundary(binary, pathlib.Path(scratch))
        entries = [{"name": name, **({"public_key": one.key(name)} if of is None else of)} for name, of in keys.items()]
        one.write("keys.json", {"keys": entries, "required": required or {"*": 1}})
        lines = [one.caller("agent", "propose"), one.caller("watcher", "read")]
        one.write("callers.json", {"callers": lines + [one.caller(name, "approve") for name in callers]})
        one.write("actions.json", {"actions": [action("refund", 50_000), action("refund_large", 900_000)]})
        subprocess.run([one.binary, "init"], env=one.environment, check=True, stdout=subprocess.DEVNULL)
        try:
            one.start()
            yield one
        finally:
            one.stop()
