"""examples/agents, each with its real framework and a scripted model; people decide in between, with their real tool."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import ROOT, Service
from scripted import model

import openexec

AGENTS = sorted((ROOT / "examples/agents").glob("*.py"))
# Ends the process that speaks to anything but this machine.
STRAYED = 99
HOOK = f"""
import os, sys
def heard(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        host = arguments[1][0] if event == "socket.connect" and isinstance(arguments[1], tuple) else arguments[0] if event == "socket.getaddrinfo" else ""
        if (host.decode() if isinstance(host, bytes) else host or "") not in ("", "127.0.0.1", "::1", "localhost"):
            os.write(2, f"strayed to {{host}}".encode())
            os._exit({STRAYED})
sys.addaudithook(heard)
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with model() as url:
        yield url


class Run:
    """An agent at work on one order, in a conversation of its own."""

    def __init__(self, agent: pathlib.Path, service: Service, address: str, at: pathlib.Path, task: str, order: str, wait_seconds: str = "3600") -> None:
        self.service, self.order = service, order
        (at / "sitecustomize.py").write_text(HOOK)
        own = {
            "PATH": os.environ["PATH"], "HOME": str(at), "PYTHONPATH": str(at), "OPENEXEC_URL": service.url, "OPENEXEC_TOKEN_FILE": str(service.at / "agent.token"),
            "OPENAI_API_KEY": "none", "OPENAI_BASE_URL": f"{address}/v1", "ANTHROPIC_API_KEY": "none", "ANTHROPIC_BASE_URL": address, "WAIT_SECONDS": wait_seconds,
        }
        self.command: list[Any] = [sys.executable, agent, f"{agent.stem}-{order}", f"{task} order {order}"]
        self.own = own
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, env=self.own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def proposals(self, state: str) -> list[str]:
        found = self.service.one.ask(f"/proposals?state={state}", "watcher")[1]["proposals"]
        return [one["id"] for one in found if one["payload"].get("order") == self.order]

    def pending(self) -> str:
        """Waits until it has asked: once, and nothing has happened."""
        deadline = time.monotonic() + 120
        while not (found := self.proposals("pending")):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, "it does not ask"
            time.sleep(0.05)
        assert len(found) == 1 and not (self.service.at / "outbox/refund" / f"{found[0]}.json").exists()
        return found[0]

    def ended(self) -> str:
        out, said = self.process.communicate(timeout=240)
        assert self.process.returncode == 0, (out, said)
        return out

    def perform(self, id: str) -> None:
        """A worker's part."""
        self.service.one.until(id, "executed")
        self.service.report("refund", id, f'{{"outcome":"executed","result":{{"refund":"re_{self.order}"}}}}')


@pytest.fixture(params=AGENTS, ids=lambda agent: agent.stem)
def agent(request: pytest.FixtureRequest) -> pathlib.Path:
    return pathlib.Path(request.param)


def order(agent: pathlib.Path, number: int) -> str:
    return f"{AGENTS.index(agent) + 1}{number}"


def test_approved(agent: pathlib.Path, service: Service, address: str, tmp_path: pathlib.Path) -> None:
    """Killed while it waits, and started again: still one proposal, executed once, and the model hears of its completion."""
    run = Run(agent, service, address, tmp_path, "Please refund", order(agent, 10))
    id = run.pending()
    run.process.kill()
    run.process.communicate()
    run.start()
    assert run.pending() == id
    service.approve(id)
    run.perform(id)
    assert f'"completion": {{"refund": "re_{run.order}"}}' in run.ended()
    assert run.proposals("executed") == [id] and run.proposals("pending") == []


def test_rejected(agent: pathlib.Path, service: Service, address: str, tmp_path: pathlib.Path) -> None:
    run = Run(agent, service, address, tmp_path, "Please refund", order(agent, 11))
    id = run.pending()
    service.reject(id, f"order {run.order} was paid back in May")
    out = run.ended()
    assert f"order {run.order} was paid back in May" in out and '"state": "rejected"' in out
    assert not (service.at / "outbox/refund" / f"{id}.json").exists()


def test_still_open_when_its_time_is_over(agent: pathlib.Path, service: Service, address: str, tmp_path: pathlib.Path) -> None:
    """The user hears its id, it is not forgotten, and the model hears in the end what became of it."""
    run = Run(agent, service, address, tmp_path, "Please refund", order(agent, 13), wait_seconds="0.2")
    id, said = run.pending(), list[str]()
    assert run.process.stdout
    while sum(line == f"Still open: {id}\n" for line in said) < 2:
        said.append(run.process.stdout.readline())
        assert said[-1], (said, run.process.communicate())
    service.approve(id)
    run.perform(id)
    assert f'"completion": {{"refund": "re_{run.order}"}}' in run.ended() and run.proposals("executed") == [id]


def test_wrong_arguments_first(agent: pathlib.Path, service: Service, address: str, tmp_path: pathlib.Path) -> None:
    """The model hears why, and asks once more: nobody was asked to approve what was wrong."""
    run = Run(agent, service, address, tmp_path, "Please badly refund", order(agent, 12))
    id = run.pending()
    service.approve(id)
    run.perform(id)
    assert f"re_{run.order}" in run.ended() and run.proposals("executed") == [id]


class Walk:
    """The page's three terminals, in a copy of what they use of the checkout."""

    def __init__(self, at: pathlib.Path, address: str) -> None:
        page = (ROOT / "examples/agents/README.md").read_text()
        self.operator, self.agent, self.approver = re.findall(r"^```sh\n(.*?)^```$", page, re.S | re.M)
        self.checkout, self.groups = at / "checkout", list[subprocess.Popen[str]]()
        self.checkout.mkdir()
        for name in ("quickstart.sh", "examples", "clients"):
            (self.checkout / name).symlink_to(ROOT / name)
        (at / "bin").mkdir()
        for name, program in (("openexec", os.environ["OPENEXEC"]), ("openexec-approve", os.environ["OPENEXEC_APPROVE"])):
            # The one thing that a person adds.
            yes = 'exec "{}" "$@"' if name == "openexec" else 'exec {} {} "{}" "$@" </dev/null'
            words = (program,) if name == "openexec" else (sys.executable, ROOT / "tests/python/answer.py", program)
            (at / "bin" / name).write_text("#!/bin/sh\n" + yes.format(*words) + "\n")
            (at / "bin" / name).chmod(0o755)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        (at / "sitecustomize.py").write_text(HOOK)
        self.own = {
            "PATH": f"{at}/bin:{os.environ['PATH']}", "HOME": str(at), "OPENEXEC_LISTEN": f"127.0.0.1:{self.port}", "OPENEXEC_URL": f"http://127.0.0.1:{self.port}",
            "OPENAI_API_KEY": "none", "OPENAI_BASE_URL": f"{address}/v1", "OPENEXEC_LOG": "off",
        }

    def start(self, text: str) -> subprocess.Popen[str]:
        text = text.replace("127.0.0.1:5000", f"127.0.0.1:{self.port}")
        shell = subprocess.Popen(["bash", "-ec", text], cwd=self.checkout, env=self.own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        self.groups.append(shell)
        return shell

    def asks(self) -> str | None:
        """The agent's one proposal, once it is there."""
        try:
            client = openexec.Client(self.own["OPENEXEC_URL"], token_file=self.checkout / "boundary/agent.token", retry_seconds=0)
            order = {"order": "8841", "amount": 4900, "currency": "EUR"}
            return client.proposal(openexec.exec_id("refund", order, "ticket-1:call_0")).id
        except openexec.OpenExecError:
            return None


def test_the_walk_of_the_page(address: str, tmp_path: pathlib.Path) -> None:
    walk = Walk(tmp_path, address)
    try:
        walk.start(walk.operator)
        agent = walk.start(walk.agent)
        deadline = time.monotonic() + 300
        while not walk.asks():
            assert agent.poll() is None and time.monotonic() < deadline, agent.communicate()
            time.sleep(0.1)
        approver = walk.start(walk.approver)
        assert approver.wait(120) == 0, approver.communicate()
        out = agent.communicate(timeout=240)[0]
        assert agent.returncode == 0 and '"completion": {"refund": "re_' in out, out
    finally:
        for shell in walk.groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)


def test_all_of_them_are_short() -> None:
    assert [agent.stem for agent in AGENTS] == ["anthropic_messages", "langgraph_interrupt", "openai_agents_sdk", "plain_loop"]
    for agent in AGENTS:
        assert len(agent.read_text().splitlines()) <= 80


def test_the_hook_is_there(tmp_path: pathlib.Path) -> None:
    """What speaks to another machine would be found out."""
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    for text in ("import socket; socket.create_connection(('192.0.2.1', 80))", "import urllib.request; urllib.request.urlopen('http://api.openai.com')"):
        done = subprocess.run([sys.executable, "-c", text], env={"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}, capture_output=True, check=False)
        assert done.returncode == STRAYED, done
