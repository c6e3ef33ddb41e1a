"""The client against the real service, with the real tool of an approver."""

import concurrent.futures
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from answers import client
from conftest import Service, received

import openexec
from openexec import Client


def test_approved_executed_and_completed_under_one_id(service: Service) -> None:
    agent = service.client()
    made = agent.propose("refund", service.refund(), nonce="whole-way", justification="The goods came back.")
    assert made.state == "pending" and not made.is_over
    assert agent.proposal(made.id).missing == 1
    with pytest.raises(openexec.NotYet) as still:
        agent.wait(made.id, timeout_seconds=0.05)
    assert still.value.proposal.state == "pending" and str(still.value).endswith("is still pending")
    service.approve(made.id)
    executed = agent.wait(made.id, timeout_seconds=60, for_job=False)
    assert executed.state == "executed" and executed.result and executed.result["queued"]["job"].startswith("refund/")
    assert executed.has_open_job
    with pytest.raises(openexec.NotYet, match="is still executed, and nobody has said what became of its job"):
        agent.wait(made.id, timeout_seconds=0.05)
    service.report("refund", made.id, '{"outcome":"executed","result":{"refund":"re_1"}}')
    done = agent.execute("refund", service.refund(), nonce="whole-way", timeout_seconds=60)
    assert done.id == made.id and done.completion and done.completion.result == {"refund": "re_1"} and done.completion.by == "worker"
    again = agent.propose("refund", service.refund(), nonce="whole-way")
    assert again.is_replayed and again.receipt == done.receipt


def test_rejection_has_its_reason(service: Service) -> None:
    agent = service.client()
    made = agent.propose("refund", service.refund(), nonce="rejected")
    service.reject(made.id, "not on a Friday")
    asks: list[Callable[[], object]] = [
        lambda: agent.wait(made.id, timeout_seconds=60),
        lambda: agent.propose("refund", service.refund(), nonce="rejected"),
        lambda: agent.execute("refund", service.refund(), nonce="rejected", timeout_seconds=60),
    ]
    for ask in asks:
        with pytest.raises(openexec.Rejected) as no:
            ask()
        assert no.value.reason == "not on a Friday" and no.value.proposal.id == made.id
    assert not (service.at / "outbox/refund" / f"{made.id}.json").exists()


def test_withdrawn_and_expired(service: Service) -> None:
    agent = service.client()
    made = agent.propose("refund", service.refund(), nonce="withdrawn")
    agent.withdraw(made.id)
    with pytest.raises(openexec.Withdrawn):
        agent.wait(made.id, timeout_seconds=60)
    with pytest.raises(openexec.Problem, match="not_pending"):
        agent.withdraw(made.id)
    with pytest.raises(openexec.Expired):
        agent.wait(briefly(agent, service).id, timeout_seconds=120)


def briefly(agent: Client, service: Service) -> openexec.Proposal:
    """A proposal that expires soon: a machine that is slow gets more time."""
    for seconds in (2, 8, 30):
        soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
        try:
            return agent.propose("refund", service.refund(), nonce="expired", expires_at=soon)
        except openexec.Problem as late:
            assert late.code == "invalid_request", late
    raise AssertionError("it is over before it is asked for")


@pytest.mark.parametrize(("outcome", "error"), [("failed", openexec.JobFailed), ("indeterminate", openexec.JobIndeterminate)])
def test_a_job_that_was_not_done(service: Service, outcome: str, error: type[openexec.Ended]) -> None:
    agent = service.client()
    made = agent.propose("refund", service.refund(), nonce=f"job-{outcome}")
    service.approve(made.id)
    agent.wait(made.id, timeout_seconds=60, for_job=False)
    service.report("refund", made.id, json.dumps({"outcome": outcome, "result": {"why": "no such order"}}))
    with pytest.raises(error) as ended:
        agent.wait(made.id, timeout_seconds=60)
    assert ended.value.proposal.completion and ended.value.proposal.completion.result == {"why": "no such order"}


@pytest.mark.parametrize(("action", "payload", "status", "code"), [
    ("nope", {}, 400, "unknown_action"), ("refund", {"order": 1}, 422, "invalid_payload"), ("a b", {}, 422, "invalid_request"),
    ("refund", {"order": "1", "amount": 60_000, "currency": "EUR"}, 422, "invalid_payload"),
])
def test_refusals(service: Service, action: str, payload: dict[str, Any], status: int, code: str) -> None:
    with pytest.raises(openexec.Problem) as refused:
        service.client().propose(action, payload, nonce=f"refused {action} {payload}")
    assert (refused.value.status, refused.value.code) == (status, code) and refused.value.title and refused.value.detail
    assert not refused.value.may_have_executed


def test_who_may_not(service: Service) -> None:
    with pytest.raises(openexec.Problem, match="caller_not_allowed"):
        service.client("watcher").propose("refund", service.refund(), nonce="x")
    for stranger in (Client(service.url), Client(service.url, token="openexec_" + "0" * 64)):
        with pytest.raises(openexec.Problem) as refused:
            stranger.propose("refund", service.refund(), nonce="x")
        assert refused.value.status == 401
    with pytest.raises(openexec.Problem, match="not_found"):
        service.client().proposal("0" * 64)


def test_a_nonce_of_something_else(service: Service) -> None:
    agent = service.client()
    agent.propose("refund", service.refund(), nonce="taken")
    with pytest.raises(openexec.Problem, match="nonce_conflict"):
        agent.propose("refund", service.refund(amount=1), nonce="taken")


def test_lists(service: Service) -> None:
    agent = service.client()
    names = [action["action"] for action in agent.actions() if action["allowed"]]
    assert "refund" in names
    assert [tool["function"]["name"] for tool in agent.tools("openai")] == names
    assert [tool["name"] for tool in agent.tools("openai-responses")] == names
    assert [tool["name"] for tool in agent.tools("anthropic")] == names
    with pytest.raises(openexec.Problem):
        agent.tools("gemini")  # type: ignore[arg-type]


def test_exact_numbers(service: Service) -> None:
    agent = service.client()
    payload = {"a": 2**53 - 1, "b": 1.0, "c": 1e-7, "d": -0.0, "e": [0.1, 4503599627370495.5], "f": "\u20ac\U0001f600\x7f"}
    made = agent.propose("echo", payload, nonce="numbers")
    service.approve(made.id)
    done = agent.wait(made.id, timeout_seconds=60)
    assert done.result == {"echo": payload}
    # Spelt otherwise it is the same call, and one that is not the same is another.
    text = '{"a":9007199254740991.0,"b":1,"c":0.0000001,"d":0,"e":[1e-1,4503599627370495.5],"f":"\\u20ac\\ud83d\\ude00\\u007f"}'
    assert agent.propose("echo", text, nonce="numbers").receipt == done.receipt
    with pytest.raises(openexec.Problem, match="nonce_conflict"):
        agent.propose("echo", payload | {"c": 1.0000000000000002e-7}, nonce="numbers")


def test_many_at_once_are_one(service: Service) -> None:
    agent = service.client()
    made = agent.propose("refund", service.refund(), nonce="at once")
    service.approve(made.id)
    agent.wait(made.id, timeout_seconds=60, for_job=False)
    before = service.jobs()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: agent.propose("refund", service.refund(), nonce="at once").receipt, range(32)))
    assert len(set(found)) == 1 and service.jobs() == before


def test_answers_that_are_lost_on_the_way(service: Service) -> None:
    """A proxy that drops each first answer: the call arrives twice, and is one."""
    host, _, port = service.url.removeprefix("http://").partition(":")
    listener = socket.create_server(("127.0.0.1", 0))
    passed: list[bytes] = []

    def carry() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            with near, socket.create_connection((host, int(port))) as far:
                asked = received(near)
                far.sendall(asked)
                answer = b""
                while piece := far.recv(65536):
                    answer += piece
                passed.append(asked)
                if len(passed) % 2 == 0:
                    near.sendall(answer)

    threading.Thread(target=carry, daemon=True).start()
    with listener:
        through = client(f"http://127.0.0.1:{listener.getsockname()[1]}", token_file=service.at / "agent.token")
        made = through.propose("refund", service.refund(), nonce="lost answers")
    assert made.state == "pending" and len(passed) == 2 and passed[0] == passed[1]
    listed = service.one.ask("/proposals?state=pending", "watcher")[1]["proposals"]
    assert [one["nonce"] for one in listed].count("lost answers") == 1


def test_a_service_that_is_restarted(service: Service) -> None:
    """`wait` goes on over it."""
    agent = service.client()
    made = agent.propose("refund", service.refund(), nonce="restarted")
    service.one.environment["OPENEXEC_LISTEN"] = service.url.removeprefix("http://")
    waiting: list[openexec.Proposal] = []
    thread = threading.Thread(target=lambda: waiting.append(agent.wait(made.id, timeout_seconds=120, for_job=False)))
    thread.start()
    service.one.stop()
    service.one.start()
    service.approve(made.id)
    thread.join(120)
    assert waiting and waiting[0].state == "executed"
