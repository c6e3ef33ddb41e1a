"""Holds examples/workers/send_email to its promise, with a real SMTP server on loopback.

usage: mail.py OPENEXEC_BINARY

Needs aiosmtpd (Debian: python3-aiosmtpd), msmtp, jq and flock.

No email is lost and none is sent under two ids, whoever is killed when. What SMTP cannot promise is
shown as well: a worker killed after the server's yes sends the same message again; it has the same
Message-ID, so that the receiving side can drop it, as the sink here does.
"""

import collections
import email
import email.policy
import json
import os
import pathlib
import random
import subprocess
import sys

from aiosmtpd.controller import Controller

from common import WORKERS, Boundary, Worker, free_port, id_of, one_pass, places, scratch_directory, until
from common import with_crashes

FROM = "agent@example.org"


class Sink:
    """Takes mail: by Message-ID, each delivery as (recipients, message)."""

    def __init__(self):
        self.delivered = collections.defaultdict(list)
        self.is_moody = False

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if self.is_moody and random.random() < 0.2:
            return "451 not now"
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.delivered[message["Message-ID"]].append((envelope, message))
        if self.is_moody and random.random() < 0.1:
            # Taken; but whoever sent it never hears.
            server.transport.abort()
        return "250 OK"


def email_request(nonce, **payload):
    payload = {"to": ["to@example.org"], "subject": "s", "text": "t"} | payload
    payload = {name: value for name, value in payload.items() if value is not None}
    return {"action": "send_email", "nonce": nonce, "payload": payload}


def message_id(request):
    return f"<{id_of(request)}@example.org>"


def decoded(part):
    return part.get_content().replace("\r\n", "\n")


def holds(request, envelope, message):
    """That the delivery is exactly what was asked for."""
    payload = request["payload"]
    cc, bcc = payload.get("cc", []), payload.get("bcc", [])
    assert sorted(envelope.rcpt_tos) == sorted(payload["to"] + cc + bcc), envelope.rcpt_tos
    assert envelope.mail_from == FROM
    assert message["From"] == FROM
    assert message["Bcc"] is None
    given = [address.addr_spec for address in message["To"].addresses]
    assert given == payload["to"], given
    given = [address.addr_spec for address in message["Cc"].addresses] if message["Cc"] else []
    assert given == cc, given
    assert message["Subject"] == payload["subject"], message["Subject"]
    names = {name.lower() for name in message.keys()}
    ours = {"from", "to", "subject", "message-id", "mime-version", "content-type", "date"}
    assert names - {"cc", "content-transfer-encoding"} <= ours, names
    kinds = [name for name in ("text", "html") if name in payload]
    parts = list(message.iter_parts()) if message.is_multipart() else [message]
    types = {"text": "text/plain", "html": "text/html"}
    assert [part.get_content_type() for part in parts] == [types[kind] for kind in kinds]
    for kind, part in zip(kinds, parts):
        asked = payload[kind].replace("\r\n", "\n").removesuffix("\n")
        assert decoded(part).removesuffix("\n") == asked, part.as_string()[:500]
    lines = envelope.content.split(b"\r\n")
    assert max(map(len, lines)) <= 998, "RFC 5322, section 2.1.1"


def hostile():
    """What could become something else on the way."""
    many = [f"to{n}@{'x' * 60}.{'y' * 60}.example.org" for n in range(60)]
    yield email_request("plain")
    yield email_request("recipients", to=many, cc=["cc@example.org"], bcc=["hidden@example.org"])
    yield email_request("empty lists", cc=[], bcc=[])
    yield email_request("odd address", to=["!#$%&'*+/=?^_`{|}~-.x@example.org"])
    yield email_request("html", text=None, html="<p>Gr\u00fc\u00dfe</p>\n")
    yield email_request("both", text="a\nb", html="<p>a</p>")
    yield email_request("boundary", text="--=_\n\n--=_--\n", html="--=_--")
    yield email_request("dot", text="a\n.\nQUIT\n..\n")
    yield email_request("header in text", text="Bcc: hidden@example.org\n\nFrom nobody\n")
    yield email_request("endings", text="a\r\nb\nc\r\n\r\n")
    yield email_request("empty", subject="", text="")
    yield email_request("long line", text="x" * 5000)
    yield email_request("large", text="0123456789\u00e9\n" * 20000)
    yield email_request("encoded subject", subject="=?UTF-8?Q?=0D=0ABcc:_hidden=40example.org?=")
    yield email_request("long subject", subject="\U0001f600" * 998)
    yield email_request("shell", subject="$(id) `id` ; \" ' \\ %s", text="$(id) `id` %s \\n")
    yield email_request("separators", text="a\u2028b\u0085c\fd")


def listening(sink):
    """A mail server on a free port. It cannot be asked to choose one itself, and what was free may be
    taken before it comes to it."""
    for _ in range(10):
        port = free_port()
        server = Controller(sink, hostname="127.0.0.1", port=port, data_size_limit=1 << 24, ready_timeout=60)
        try:
            server.start()
            return server, port
        except OSError as error:
            print(f"port {port}: {error}")
    raise AssertionError("no free port")


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    random.seed(seed)
    print(f"SEED={seed}")
    sink = Sink()
    server, port = listening(sink)
    with scratch_directory() as scratch:
        scratch = pathlib.Path(scratch)
        mailer = f"msmtp --host=127.0.0.1 --port={port} --from={FROM} --timeout=20 -t"
        environment = {"FROM": FROM, "MAILER": mailer, "HOME": str(scratch)}
        boundary = Boundary(binary, scratch)
        try:
            queue = boundary.outbox / "send_email"
            as_asked(boundary, queue, environment, sink)
            dead_letters(boundary, queue, environment, sink)
            partly_sent(boundary, queue, environment, sink)
            crashes(boundary, queue, environment, sink)
        finally:
            boundary.kill()
            server.stop()


def as_asked(boundary, queue, environment, sink):
    assert one_pass(queue, environment) == 0, "there is no queue yet"
    requests = list(hostile())
    for request in requests:
        boundary.execute(request)
    assert one_pass(queue, environment) == 0
    for request in requests:
        (delivery,) = sink.delivered.pop(message_id(request))
        holds(request, *delivery)
    assert not sink.delivered
    done = {f"{id_of(request)}.json" for request in requests}
    assert places(queue) == (set(), set(), done)
    # Repeated by the agent after all this: nothing more.
    boundary.kill()
    boundary.start()
    for request in requests:
        boundary.execute(request)
    assert one_pass(queue, environment) == 0
    assert not sink.delivered
    assert places(queue) == (set(), set(), done)
    print(f"{len(requests)} hostile emails: each delivered once, exactly as asked")


def dead_letters(boundary, queue, environment, sink):
    before = places(queue)[2]
    refused = email_request("refused", to=["nobody@example.org"])
    later = email_request("later")
    names = [f"{id_of(request)}.json" for request in (refused, later)]
    # The server is not there: both stay, to be tried again.
    away = environment | {"MAILER": "msmtp --host=127.0.0.1 --port=1 --from=a@example.org -t"}
    for request in (refused, later):
        boundary.execute(request)
    for _ in range(2):
        assert one_pass(queue, away) == 75
        assert places(queue)[1] >= set(names)
    # One is a day old: it is not tried again, and lies where its id is found.
    os.utime(queue / "taken" / names[1], (0, 0))
    one_pass(queue, environment)
    failed = names[1].replace(".json", ".failed")
    assert {names[1], failed} <= places(queue)[2]
    assert "a day old" in (queue / "done" / failed).read_text()
    assert message_id(later) not in sink.delivered
    # The operator sends it on: there is a receipt, so nothing looks for its id any more.
    assert boundary.ask("GET", f"/receipts/{id_of(later)}")[0] == 200
    (queue / "done" / names[1]).rename(queue / names[1])
    one_pass(queue, environment)
    (delivery,) = sink.delivered.pop(message_id(later))
    holds(later, *delivery)
    assert failed not in places(queue)[2]
    # The other was tried beside it, and the server's no is final.
    failed = names[0].replace(".json", ".failed")
    assert "550 no such mailbox" in (queue / "done" / failed).read_text()
    # A job that OpenExec did not write: never a message.
    forged = queue / f"{'0' * 64}.json"
    forged.write_text(
        '{"action":"send_email","id":"%s","payload":'
        '{"to":["a@example.org\\nBcc: b@example.org"],"subject":"s","text":"t"}}' % ("0" * 64)
    )
    one_pass(queue, environment)
    assert not sink.delivered
    assert "not an address" in (queue / "done" / f"{'0' * 64}.failed").read_text()
    waiting, taken, done = places(queue)
    assert (waiting, taken) == (set(), set())
    assert len(done - before) == 5, done - before
    print("an unreachable server: tried again; dead letters: kept with the reason, not sent")


def partly_sent(boundary, queue, environment, sink):
    """A mailer's no may be for one recipient, and the others have it: nobody is told that nothing was sent, and it is not sent again."""
    for status in (65, 67, 68):
        request = email_request(f"partly {status}")
        boundary.execute(request)
        assert one_pass(queue, environment | {"MAILER": f"{environment['MAILER']}; exit {status}"}) == 0
        until("the report is recorded", lambda: "completion" in boundary.ask("GET", f"/proposals/{id_of(request)}")[1])
        assert boundary.ask("GET", f"/proposals/{id_of(request)}")[1]["completion"]["outcome"] == "indeterminate", status
        assert one_pass(queue, environment) == 0
        assert len(sink.delivered.pop(message_id(request))) == 1, status
    # Of what no mailer was asked it is known; and 76 is a status of ours alone, a mailer's is tried again.
    forged = {"action": "send_email", "id": "1" * 64, "payload": {"to": ["a b"], "subject": "s", "text": "t"}}
    (queue / f"{'1' * 64}.json").write_text(json.dumps(forged))
    assert subprocess.run([WORKERS / "send_email", queue / f"{'1' * 64}.json"], env=os.environ | environment, capture_output=True).returncode == 65
    (queue / f"{'1' * 64}.json").unlink()
    later = email_request("later, of 76")
    boundary.execute(later)
    assert one_pass(queue, environment | {"MAILER": "exit 76"}) == 75
    assert one_pass(queue, environment) == 0
    assert len(sink.delivered.pop(message_id(later))) == 1
    print("a mailer's no after it was asked: nobody knows, and it is not asked again")


def crashes(boundary, queue, environment, sink):
    before = places(queue)[2]
    requests = [email_request(f"crash {n}", subject=f"number {n}") for n in range(60)]
    sink.is_moody = True
    worker = Worker(queue, environment)
    try:
        jobs = {f"{id_of(request)}.json" for request in requests}

        def is_done():
            waiting, taken, done = places(queue)
            return done - before == jobs and not waiting and not taken

        answers, kills = with_crashes(boundary, worker, requests, is_done)
    finally:
        worker.stop()
    assert set(sink.delivered) == {message_id(request) for request in requests}
    sent = 0
    for request in requests:
        assert answers[request["nonce"]]["result"]["queued"]["job"].endswith(
            f"/{id_of(request)}.json"
        )
        deliveries = sink.delivered[message_id(request)]
        sent += len(deliveries)
        for delivery in deliveries:
            holds(request, *delivery)
    print(
        f"{len(requests)} emails, kill -9 of the boundary {kills['boundary']} and of the worker "
        f"{kills['worker']} times: each delivered once by its Message-ID, none lost; "
        f"{sent - len(requests)} repeated after the server's yes was lost"
    )


if __name__ == "__main__":
    main()
