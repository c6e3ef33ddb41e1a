"""Holds examples/workers/charge_card to its promise, with an HTTP payment API on loopback.

usage: payment.py OPENEXEC_BINARY

Needs curl, jq, flock and strace. The API does as Stripe and others do: it remembers its answer under the
Idempotency-Key. With that, each charge is made exactly once, whoever is killed when.
"""

import http.server
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import threading

from common import WORKERS, Boundary, Worker, id_of, one_pass, places, scratch_directory, until, with_crashes

SECRET = "sk_test_4eC39HqLyjW"


class Api(http.server.BaseHTTPRequestHandler):
    charges = {}
    asked = 0
    is_moody = False
    # Who has paid, and whose next answer is a no: the API has forgotten the key, or it is another account by now.
    forgotten = set()
    lock = threading.Lock()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with Api.lock:
            Api.asked += 1
            if self.headers["Authorization"] != f"Bearer {SECRET}":
                return self.answer(401, "who are you?")
            if body["customer"] == "poor" or body["customer"] in Api.forgotten:
                return self.answer(402, "card declined")
            if Api.is_moody and random.random() < 0.2:
                return self.answer(500, "not now")
            key = self.headers["Idempotency-Key"]
            Api.charges.setdefault(key, []).append(body)
            if len(Api.charges[key]) > 1:
                # A repeat: the stored answer.
                assert Api.charges[key].pop() == Api.charges[key][0], "one key, two charges"
            if body["customer"].startswith("lost"):
                Api.forgotten.add(body["customer"])
            if body["customer"] in Api.forgotten or Api.is_moody and random.random() < 0.2:
                # Charged; but whoever asked never hears.
                self.close_connection = True
                return self.connection.close()
            return self.answer(200, "charged")

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        error = sys.exc_info()[1]
        if not isinstance(error, (OSError, ValueError)):
            os._exit(1)


def charge_request(nonce, **payload):
    payload = {"amount": 1999, "currency": "EUR", "customer": "cus_1"} | payload
    return {"action": "charge_card", "nonce": nonce, "payload": payload}


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    random.seed(seed)
    print(f"SEED={seed}")
    server = Server(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with scratch_directory() as scratch:
        scratch = pathlib.Path(scratch)
        config = scratch / "curl"
        url = f'url = "http://127.0.0.1:{server.server_port}/charges"\n'
        environment = {"PAYMENT_CONFIG": str(config)}
        boundary = Boundary(binary, scratch)
        try:
            queue = boundary.outbox / "charge_card"
            largest = charge_request("largest", amount=999_999_999_999, description="\u00fc \"q\" $(id)")
            poor = charge_request("declined", customer="poor")
            for request in (largest, poor):
                boundary.execute(request)
            # Not let in, which somebody will mend: both stay.
            config.write_text(url)
            assert one_pass(queue, environment) == 75
            assert len(places(queue)[1]) == 4, "two jobs and their logs"
            config.write_text(url + f'header = "Authorization: Bearer {SECRET}"\n')
            assert one_pass(queue, environment) == 0
            assert Api.charges == {id_of(largest): [largest["payload"]]}
            failed = queue / "done" / f"{id_of(poor)}.failed"
            assert failed.read_text() == "card declined\n402\n"
            print("refused at the door: tried again; a declined card: a dead letter, not charged")
            without_a_word(boundary, queue)
            second_tries(boundary, queue, environment)
            results(boundary, scratch)
            tried(boundary, scratch)
            without_jq(boundary, queue, environment, scratch)
            crashes(boundary, queue, environment)
        finally:
            boundary.kill()


def without_a_word(boundary, queue):
    """A command that says nothing leaves its exit status as the reason."""
    request = charge_request("silent")
    boundary.execute(request)
    assert subprocess.run([WORKERS / "work", queue, "sh", "-c", "exit 67"]).returncode == 0
    reason = "sh said nothing, and ended with 67\n"
    assert (queue / "done" / f"{id_of(request)}.failed").read_text() == reason
    said = completed(boundary, request)
    assert (said["outcome"], said["result"]) == ("failed", {"reason": reason}), said
    print("a command that says nothing: its exit status is the reason")


def completed(boundary, request):
    """What the service says of the job."""
    view = {}

    def is_there():
        view.update(boundary.ask("GET", f"/proposals/{id_of(request)}")[1])
        return "completion" in view

    until("the report is recorded", is_there)
    return view["completion"]


def second_tries(boundary, queue, environment):
    """A no to a second try is none to the first: `failed` is said of a first one alone."""
    plain, lost, old = (charge_request(name, customer=name) for name in ("poor", "lost", "lost old"))
    boundary.execute(plain)
    assert one_pass(queue, environment) == 0
    assert completed(boundary, plain)["outcome"] == "failed" and id_of(plain) not in Api.charges
    for request in (lost, old):
        boundary.execute(request)
    assert one_pass(queue, environment) == 75
    assert all(Api.charges[id_of(request)] == [request["payload"]] for request in (lost, old)), "both were charged"
    # An operator tries one that is a day old once more.
    os.utime(queue / "taken" / f"{id_of(old)}.json", (0, 0))
    assert one_pass(queue, environment) == 0
    assert completed(boundary, lost)["outcome"] == completed(boundary, old)["outcome"] == "indeterminate"
    (queue / "done" / f"{id_of(old)}.json").rename(queue / f"{id_of(old)}.json")
    assert one_pass(queue, environment) == 0
    until("the report is judged", lambda: not (queue / "outcome" / f"{id_of(old)}.json").exists())
    assert completed(boundary, old)["outcome"] == "indeterminate"
    print("a no to a second try: of the first nobody knows")


def results(boundary, scratch):
    """What a command leaves in $RESULT is recorded, or of what no report may hold the end; `executed` stays, whatever it is."""
    wide, deep = "\u00fc" * 130_000, "{\"a\":" * 31 + "{}" + "}" * 31
    zeros = lambda number: '{"n":[%s]}' % ",".join(["0"] * number)
    rows = json.dumps({"rows": [{"id": number, "name": "x"} for number in range(7_500)]})
    # The report has two objects and a text around the array.
    taken = ['{"charge":"ch_1"}', zeros(131_072 - 34), '{"text":"%s"}' % wide, deep, '{"n":[9007199254740991,-0.5,1e-7]}', "{}",
             '{"n":[9007199254740991.4,1e-400,0.%s]}' % ("3" * 1_200)]
    refused = [rows, zeros(131_072 - 33), '{"n":[%s0]}' % ("1e-6," * 40_000), '{"text":"%s"}' % (wide + "\u00fc" * 2_000), '{"n":[%s0]}' % ("1e15," * 40_000), '{"a":%s}' % deep, '{"n":1e400}', '{"n":9007199254740993}', "[1]", "no JSON \x01\ud800"]
    queue, left = boundary.outbox / "results", scratch / "left"
    for number, text in enumerate(taken + refused):
        left.write_text(text, errors="surrogatepass")
        request = {"action": "enqueue", "nonce": f"result {number}", "payload": {"queue": "results", "job": {}}}
        boundary.execute(request)
        assert subprocess.run([WORKERS / "work", queue, "sh", "-c", 'cp "$0" "$RESULT"', left]).returncode == 0
        said = completed(boundary, request)
        assert said["outcome"] == "executed", (text[:40], said)
        if text in taken:
            assert said["result"] == json.loads(text), text[:40]
        else:
            end = left.read_text(errors="replace")[-4000:]
            assert list(said["result"]) == ["printed"] and said["result"]["printed"][:3] == end[:3], (text[:40], said)
    assert not list((queue / "outcome").glob("ignored/*")), "a report was lost"
    # A directory is no result, and the next job is not held up by it.
    request = {"action": "enqueue", "nonce": "result directory", "payload": {"queue": "results", "job": {}}}
    boundary.execute(request)
    assert subprocess.run([WORKERS / "work", queue, "sh", "-c", 'mkdir "$RESULT" && exit 1']).returncode == 75
    assert subprocess.run([WORKERS / "work", queue, "true"]).returncode == 0
    assert completed(boundary, request)["result"] == {}
    print(f"{len(taken)} results recorded; of {len(refused)} that no report may hold, the end")


def tried(boundary, scratch):
    """That a job is tried is on the disk before it is; and what a try left that was killed is not the next one's result."""
    queue, request = boundary.outbox / "tried", {"action": "enqueue", "nonce": "tried", "payload": {"queue": "tried", "job": {}}}
    boundary.execute(request)
    trace = scratch / "trace"
    strace = ["strace", "-f", "-qq", "-y", "-s", "300", "-o", trace, "-e", "trace=execve,fsync,rename,renameat,renameat2"]
    killed = ["sh", "-c", 'echo {\\"charge\\":\\"old\\"} >"$RESULT" && kill -9 $PPID']
    assert subprocess.run([*strace, WORKERS / "work", queue, *killed]).returncode != 0
    lines = trace.read_text().splitlines()
    first = lambda *words: next(n for n, line in enumerate(lines) if all(word in line for word in words))
    taken, acted = first("rename", "taken"), first("execve", "kill -9", f"taken/{id_of(request)}.json")
    synced = [line.partition("<")[2].partition(">")[0] for line in lines[taken:acted] if " fsync(" in line]
    assert {str(queue), str(queue / "taken")} <= set(synced), lines
    assert (queue / "taken" / f"{id_of(request)}.result").exists()
    assert subprocess.run([WORKERS / "work", queue, "true"]).returncode == 0
    assert completed(boundary, request)["result"] == {}
    print("a try is on the disk before it is made; what one before has left is not its result")


def without_jq(boundary, queue, environment, scratch):
    """A host that lacks it uses up no job."""
    tools = scratch / "tools"
    tools.mkdir()
    for name in ("sh", "cat", "cp", "curl", "find", "flock", "mv", "rm", "sync", "tail", "wc"):
        (tools / name).symlink_to(shutil.which(name))
    request = charge_request("no jq")
    boundary.execute(request)
    assert one_pass(queue, environment | {"PATH": str(tools)}) == 69
    assert places(queue)[0] == {f"{id_of(request)}.json"}, "the job was taken"
    assert one_pass(queue, environment) == 0
    assert Api.charges.pop(id_of(request)) == [request["payload"]]
    print("no jq: no job is taken")


def crashes(boundary, queue, environment):
    Api.charges.clear()
    Api.asked, Api.is_moody = 0, True
    before = places(queue)[2]
    requests = [charge_request(f"crash {n}", amount=n + 1) for n in range(60)]
    jobs = {f"{id_of(request)}.json" for request in requests}

    def is_done():
        waiting, taken, done = places(queue)
        return done - before == jobs and not waiting and not taken

    worker = Worker(queue, environment)
    try:
        _, kills = with_crashes(boundary, worker, requests, is_done)
    finally:
        worker.stop()
    assert Api.charges == {id_of(request): [request["payload"]] for request in requests}
    print(
        f"{len(requests)} charges, kill -9 of the boundary {kills['boundary']} and of the worker "
        f"{kills['worker']} times: each made once; the API was asked {Api.asked} times"
    )


if __name__ == "__main__":
    main()
