"""Tools of MCP servers behind the boundary, by examples/workers/mcp: of two servers of the registry, and of one that counts.

usage: tools.py OPENEXEC_BINARY PYTHON BIN

PYTHON has the official SDK, and BIN holds mcp-server-time and mcp-server-git.
"""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys

import damaged
from common import ROOT, Boundary, id_of, places, scratch_directory, until

WORKER = ROOT / "examples" / "workers" / "mcp" / "worker.py"
TESTS = pathlib.Path(__file__).resolve().parent


class Tools:
    """A server's tools, listed for the service and worked for it."""

    def __init__(self, binary, python, scratch, server, options=()):
        self.python, self.server, self.options = python, server, options
        # Options of `work` alone.
        self.working = []
        scratch.mkdir()
        self.actions = scratch / "actions.json"
        listed = self.list()
        assert listed.returncode == 0, listed.stderr
        self.actions.write_text(listed.stdout)
        self.actions.chmod(0o644)
        self.boundary = Boundary(binary, scratch, {"OPENEXEC_ACTIONS_FILE": str(self.actions)})

    def list(self, *options):
        command = [self.python, WORKER, "list", *self.options, *options, "--", *self.server]
        return subprocess.run(command, capture_output=True, text=True)

    def work(self, **environment):
        """A pass that was begun."""
        command = [self.python, WORKER, "work", "--outbox", self.boundary.outbox, *self.options, *self.working, "--", *self.server]
        return subprocess.Popen(command, env=os.environ | environment, start_new_session=True, stderr=subprocess.PIPE)

    def passed(self, status=0, **environment):
        """A pass, to its end."""
        process = self.work(**environment)
        said = process.communicate()[1]
        assert process.returncode == status, said

    def ask(self, nonce, action, **payload):
        return self.boundary.execute({"action": action, "nonce": nonce, "payload": payload})["id"]

    def refused(self, nonce, action, payload):
        status, body = self.boundary.ask("POST", "/execute", json.dumps({"action": action, "nonce": nonce, "payload": payload}))
        assert (status, body["code"]) == (422, "invalid_payload"), body
        return body["detail"]

    def outcome(self, action, job):
        """What the worker left, or has left and the service took."""
        queue = self.boundary.outbox / action
        waiting, taken, done = places(queue)
        assert f"{job}.json" in done - taken - waiting, (waiting, taken, done)
        left = queue / "outcome" / f"{job}.json"
        try:
            return json.loads(left.read_text())
        except FileNotFoundError:
            pass
        return self.boundary.ask("GET", f"/proposals/{job}")[1]["completion"]


def of_the_registry(binary, python, bin, scratch):
    """Time says something; git changes something, and each change can be counted."""
    clock = Tools(binary, python, scratch / "time", [bin / "mcp-server-time", "--local-timezone=Etc/UTC"])
    job = clock.ask("t1", "convert_time", source_timezone="Etc/UTC", time="16:30", target_timezone="Asia/Tokyo")
    clock.passed()
    outcome = clock.outcome("convert_time", job)
    assert outcome["outcome"] == "executed" and "01:30:00+09:00" in json.dumps(outcome["result"]), outcome
    # The server's own refusal, after the schema has passed.
    job = clock.ask("t2", "get_current_time", timezone="Nowhere")
    clock.passed()
    assert clock.outcome("get_current_time", job)["outcome"] == "failed"
    assert "is missing" in clock.refused("t3", "get_current_time", {})
    clock.boundary.kill()

    repository = scratch / "repository"
    git = ["git", "-C", repository, "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "-q", repository], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    for name, value in (("user.name", "a"), ("user.email", "a@example.org")):
        subprocess.run([*git, "config", name, value], check=True)
    server = [bin / "mcp-server-git", "--repository", repository]
    tools = Tools(binary, python, scratch / "git", server, ["--prefix", "repo-"])
    tools.working = ["--all-or-nothing", "git_commit"]
    schema = next(
        one["payload_schema"]["properties"] for one in json.loads(tools.actions.read_text())["actions"] if one["action"] == "repo-git_log"
    )
    # Of `anyOf` with null, what is left where null means absent.
    assert schema["start_timestamp"]["type"] == "string" and "anyOf" not in schema["start_timestamp"]
    (repository / "file").write_text("text")
    path = str(repository)
    added = tools.ask("g1", "repo-git_add", repo_path=path, files=["file"])
    tools.passed()
    assert tools.outcome("repo-git_add", added)["outcome"] == "executed"
    # A commit of what is staged, and the second time there is nothing to commit.
    jobs = [tools.ask(f"g-{n}", "repo-git_commit", repo_path=path, message="change") for n in range(2)]
    # Asked again, and worked again: nothing more happens.
    assert jobs[0] == tools.ask("g-0", "repo-git_commit", repo_path=path, message="change")
    tools.passed()
    tools.passed()
    assert sorted(tools.outcome("repo-git_commit", job)["outcome"] for job in jobs) == ["executed", "failed"]
    log = subprocess.run([*git, "log", "--format=%s"], capture_output=True, text=True, check=True).stdout.split()
    assert log == ["change", "first"], log
    logged = tools.ask("g2", "repo-git_log", repo_path=path, max_count=2, start_timestamp=None)
    tools.passed()
    assert "change" in json.dumps(tools.outcome("repo-git_log", logged)["result"])
    tools.boundary.kill()


def of_our_own(binary, python, scratch):
    state = scratch / "state"
    state.mkdir()
    # To list them takes no secret; the variable is named, so it has to be there.
    os.environ["SECRET"] = "none"
    calls = lambda: (state / "calls").read_text().split("\n")[:-1] if (state / "calls").exists() else []
    server = [python, TESTS / "mcp_server.py", state]
    known = [option for tool in ("once", "again", "large", "rows", "fails") for option in ("--only", tool)]
    tools = Tools(binary, python, scratch / "own", server, [*known, "--env", "SECRET"])

    # What it cannot say it refuses, by tool and keyword; what one may drop, one has to name.
    command = [python, WORKER, "list", "--", *server]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert (refused.returncode, refused.stdout) == (65, ""), refused
    assert "patterned: /inputSchema/properties/code/pattern" in refused.stderr, refused.stderr
    dropped = subprocess.run([*command[:3], "--drop", "pattern", *command[3:]], capture_output=True, text=True)
    assert dropped.returncode == 0 and '"patterned"' in dropped.stdout, dropped.stderr
    nobody = tools.list("--only", "nobody")
    assert nobody.returncode == 1 and "no tool nobody" in nobody.stderr, nobody

    # Only the worker has the secret; neither job nor outcome has it.
    secret = {"SECRET": "s3cret"}
    job = tools.ask("n1", "once", text="a", optional=None)
    tools.passed(SECRET="wrong")
    # It has not begun, but its error does not say so.
    assert tools.outcome("once", job)["outcome"] == "indeterminate" and calls() == []
    job = tools.ask("n2", "once", text="b", optional=None)
    tools.passed(**secret)
    assert tools.outcome("once", job)["outcome"] == "executed" and calls() == ["once b None"]
    for path in tools.boundary.outbox.rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes(), path
    job = tools.ask("n3", "fails", text="c")
    tools.passed(**secret)
    assert tools.outcome("fails", job)["outcome"] == "indeterminate"
    says_one_thing(tools, secret, calls)

    # Cut short: what may be repeated is, and of anything else nobody knows.
    unsure, sure = tools.ask("n4", "once", text="d"), tools.ask("n5", "again", text="e")
    for expected in (["once d None"], ["again e"]):
        (state / "hang").touch()
        before = len(calls())
        process = tools.work(**secret)
        until("the tool was called", lambda: len(calls()) > before)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        (state / "hang").unlink()
        assert calls()[before:] == expected, calls()
    tools.passed(**secret)
    assert tools.outcome("once", unsure)["outcome"] == "indeterminate"
    assert tools.outcome("again", sure)["outcome"] == "executed"
    assert calls().count("once d None") == 1 and calls().count("again e") == 2, calls()

    # Within the bounds of a completion, whatever a tool says.
    job = tools.ask("n6", "large", kilobytes=300)
    tools.passed(**secret)
    left = tools.boundary.outbox / "large" / "outcome" / f"{job}.json"
    assert not left.exists() or left.stat().st_size <= 256 * 1024
    outcome = tools.outcome("large", job)
    assert outcome["outcome"] == "executed" and outcome["result"]["too_large"], outcome

    # More values than a report may have: the text that they are.
    for number, name in ((8_000, "structuredContent"), (8_200, "text")):
        job = tools.ask(f"r{number}", "rows", number=number)
        tools.passed(**secret)
        outcome = tools.outcome("rows", job)
        assert outcome["outcome"] == "executed" and name in outcome["result"], outcome["result"].keys()
        until("it is recorded", lambda: "completion" in tools.boundary.ask("GET", f"/proposals/{job}")[1])

    # A server that is not there: nothing is taken, and the next pass does it.
    job = tools.ask("n7", "once", text="f")
    there, tools.server = tools.server, ["false"]
    tools.passed(status=75, **secret)
    assert f"{job}.json" in places(tools.boundary.outbox / "once")[0]
    tools.server = there
    tools.passed(**secret)
    assert tools.outcome("once", job)["outcome"] == "executed"
    tools.boundary.kill()


def says_one_thing(tools, secret, calls):
    """What became of a job stands once: where it was executed in the end, nothing beside it says that it was not."""
    once = tools.boundary.outbox / "once"
    failed = lambda job: once / "done" / f"{job}.failed"
    job = tools.ask("o1", "once", text="o", optional=None)
    tools.passed(SECRET="wrong")
    assert tools.outcome("once", job)["outcome"] == "indeterminate" and failed(job).read_text().startswith("indeterminate: ")
    # Moved back by an operator, with what a crash left of the first try.
    (once / "taken" / f"{job}.outcome").write_text('{"outcome": "indeterminate", "result": {}}')
    (once / "done" / f"{job}.json").rename(once / f"{job}.json")
    tools.passed(**secret)
    until("it is recorded", lambda: tools.outcome("once", job)["outcome"] == "executed")
    assert not failed(job).exists() and not (once / "taken" / f"{job}.outcome").exists()
    # Killed behind the call, when the service may have taken the report: the job has the end that was settled.
    before, job = len(calls()), tools.ask("o2", "once", text="p", optional=None)
    (once / f"{job}.json").rename(once / "taken" / f"{job}.json")
    (once / "taken" / f"{job}.outcome").write_text('{"outcome": "executed", "result": {"paid": true}}')
    tools.passed(**secret)
    assert tools.outcome("once", job)["result"] == {"paid": True} and not failed(job).exists() and len(calls()) == before


def of_the_network(binary, python, scratch):
    """A server on the network is told the token of the file, once for all of it; without it nothing is listed or called. The
    server is another boundary, which asks who calls."""
    token = "openexec_" + "5a" * 32
    known = {"name": "worker", "token_sha256": hashlib.sha256(token.encode()).hexdigest(), "may": ["propose"]}
    callers = scratch / "callers.json"
    callers.write_text(json.dumps({"callers": [known]}))
    callers.chmod(0o600)
    (scratch / "far").mkdir()
    far = Boundary(binary, scratch / "far", {"OPENEXEC_CALLERS_FILE": str(callers)})
    server, file = [f"http://{far.address}/mcp"], scratch / "token"
    options = ["--prefix", "far-", "--only", "add", "--bearer-file", str(file)]
    for wrong in ("openexec_" + "5b" * 32, ""):
        file.write_text(wrong)
        command = [python, WORKER, "list", *options, "--", *server]
        assert subprocess.run(command, capture_output=True, text=True).returncode != 0, wrong
    assert subprocess.run([python, WORKER, "list", "--", *server], capture_output=True).returncode != 0
    file.write_text(token + "\n")
    tools = Tools(binary, python, scratch / "network", server, options)
    job = tools.ask("w1", "far-add", a=40, b=2)
    # Its token is another by the time of the call: the job is not lost, and nothing was called.
    file.write_text("openexec_" + "5b" * 32)
    process = tools.work()
    assert process.communicate() and process.returncode != 0
    assert f"{job}.json" not in places(tools.boundary.outbox / "far-add")[2]
    file.write_text(token)
    tools.passed()
    outcome = tools.outcome("far-add", job)
    assert outcome["outcome"] == "executed" and outcome["result"]["structuredContent"]["result"] == {"sum": 42}, outcome
    for path in [*tools.boundary.outbox.rglob("*"), scratch / "network" / "log", tools.actions]:
        assert not path.is_file() or token.encode() not in path.read_bytes(), path
    claims = [line for line in (scratch / "far/store/00000001.jsonl").read_text().split("\n") if '"kind":"claim"' in line]
    assert len(claims) == 1 and '"caller":"worker"' in claims[0], claims
    tools.boundary.kill()
    far.kill()


def main():
    binary, python, bin = (pathlib.Path(path).absolute() for path in sys.argv[1:])
    assert id_of({}) and WORKER.exists()
    with scratch_directory() as scratch:
        scratch = pathlib.Path(scratch)
        damaged.all_of_it(python, scratch)
        of_our_own(binary, python, scratch)
        of_the_network(binary, python, scratch)
        of_the_registry(binary, python, bin, scratch)
    print("ok: tools of four MCP servers, each call made once, or known not to be known")


if __name__ == "__main__":
    main()
