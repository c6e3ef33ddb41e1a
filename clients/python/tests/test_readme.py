"""README.md, run as it is printed: its commands in a shell, its Python in one go, with an approver and a worker beside it."""

import contextlib
import os
import pathlib
import re
import subprocess
import sys
import threading
import types
from typing import Any

import pytest
from conftest import ROOT, Service

PAGE = (ROOT / "clients/python/README.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(rf"(<!-- not run: it is how [^\n]*-->\n\n)?^```{language}\n(.*?)^```$", PAGE, re.S | re.M)
    return [text for skipped, text in found if not skipped]


def people(service: Service, ended: threading.Event) -> None:
    """Approves whatever is asked but order 8842, and performs what is approved."""
    while not ended.wait(0.05):
        for one in service.one.ask("/proposals?state=pending", "watcher")[1]["proposals"]:
            if not one["nonce"].startswith(("refund-88", "ticket-8843")):
                continue
            if one["payload"]["order"] == "8842":
                service.reject(one["id"], "8842 is paid already")
            else:
                service.approve(one["id"])
        for job in (service.at / "outbox/refund").glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                service.report("refund", job.stem, '{"outcome":"executed","result":{"refund":"re_1"}}')
            job.unlink()


def test_python(service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    function = types.SimpleNamespace(name="refund", arguments='{"order":"8843","amount":1,"currency":"EUR"}')
    message = types.SimpleNamespace(tool_calls=[types.SimpleNamespace(id="call_0", function=function)])
    listed: list[Any] = []

    def create(model: str, messages: list[Any], tools: list[Any]) -> Any:
        listed.extend(tool["function"]["name"] for tool in tools)
        return types.SimpleNamespace(choices=[types.SimpleNamespace(message=message)])

    completions = types.SimpleNamespace(completions=types.SimpleNamespace(create=create))
    scope: dict[str, Any] = {"messages": [], "model": types.SimpleNamespace(chat=completions)}
    monkeypatch.chdir(service.at)
    ended = threading.Event()
    thread = threading.Thread(target=people, args=(service, ended))
    thread.start()
    try:
        for text in blocks("python"):
            exec(text.replace("http://127.0.0.1:5000", service.url), scope)
    finally:
        ended.set()
        thread.join()
    printed = capsys.readouterr().out
    assert "pending" in printed and "executed {'refund': 're_1'}" in printed and "rejected: 8842 is paid already" in printed
    assert "refund" in listed and '"completion": {"refund": "re_1"}' in scope["messages"][1]["content"]


def test_commands(service: Service, tmp_path: pathlib.Path) -> None:
    """In an environment of its own, from the checkout."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path], check=True)
    access = {"OPENEXEC_URL": service.url, "OPENEXEC_TOKEN_FILE": str(service.at / "agent.token"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    own = os.environ | access | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    def run(text: str) -> str:
        done = subprocess.run(["bash", "-e"], input=text, cwd=ROOT, env=own, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done
        return done.stdout

    alone, bridge = blocks("sh")
    run(alone)
    there = subprocess.run([tmp_path / "bin/pip", "list", "--format", "freeze"], capture_output=True, text=True, check=True).stdout
    # "openexec @ file:...": the package from the checkout.
    assert {re.split("==| ", line)[0] for line in there.splitlines()} <= {"openexec", "pip", "setuptools"}, there
    subprocess.run([tmp_path / "bin/python", "-c", "import openexec; openexec.Client().tools('openai')"], env=own, cwd=tmp_path, check=True)
    assert " refund " in run(bridge)
