"""Two people in two browsers, a third too late, a no, and the table of it all: against the real service."""

import csv
import io
import urllib.request

from harness import Browser, Firefox, browser


def two_people(service, start):
    proposal = service.propose("refund", {"order": "8841", "amount": 4900, "currency": "EUR", "note": "Twice paid.\nSee order."}, "r1",
                               "The customer paid twice.\nPlease be quick \u202e")
    own = {name: start(name) for name in ("alice", "bob", "carol")}
    with browser(own["alice"]) as alice, browser(own["bob"]) as bob, browser(own["carol"]) as carol:
        for one in (alice, bob, carol):
            assert one.text("action") == "refund"
            assert "49.00 EUR" in one.text("payload"), one.text("payload")
            assert "2 more" in one.text("missing")
        assert '"agent-7"' in alice.text("asked")
        assert "\\u202e" in alice.text("words") and "\u202e" not in alice.driver.page_source
        alice.click("approve")
        alice.shows("outcome", "You approved it. The service says: pending.")
        assert service.state(proposal) == "pending"
        # For her it is decided, though it waits for others.
        alice.shows("place", "Decided. Nothing else waits")
        # What Bob looks at stays; that it changed stands beside it.
        bob.shows("notice", "others have approved it")
        assert bob.text("have") == "none"
        bob.find("anew").click()
        bob.shows("have", '"alice" until')
        assert bob.text("missing") == "1 more"
        bob.click("approve")
        bob.shows("outcome", "You approved it. The service says: execut")
        # Carol still sees what was there, and decides nothing.
        carol.shows("notice", "What you see has changed")
        assert carol.any_of("yes") and "2 more" in carol.text("missing")
        carol.click("approve")
        carol.shows("outcome", "it is no longer pending")
        assert service.state(proposal) == "executed"
        bob.find("to-decided").click()
        bob.shows("decisions", "executed")
        assert '"r1"' in bob.text("decisions"), bob.text("decisions")
        rows = table(own["bob"])
        assert rows[0][:4] == ["time", "decision", "action", "proposal"]
        assert rows[1][1:5] == ["approved", "refund", proposal, "executed"], rows
    assert table(own["carol"])[1:] == []


def table(tool):
    with urllib.request.urlopen(tool.address + "/decided.csv", timeout=20) as answer:
        assert answer.headers["Content-Disposition"].startswith("attachment")
        return list(csv.reader(io.StringIO(answer.read().decode())))


def a_no(service, start, kind=Browser):
    proposal = service.propose("echo", {"msg": "hi"}, f"no in {kind.__name__}")
    tool = start("carol")
    with browser(tool, kind) as carol:
        assert carol.text("action") == "echo"
        # Without a reason nothing is sent.
        carol.click("reject")
        assert service.state(proposal) == "pending"
        carol.find("why").send_keys("=1+1; not on a Friday")
        carol.click("reject")
        carol.shows("outcome", "You rejected it. The service says: rejected.")
        assert not carol.any_of("yes", "no")
        carol.click("onward")
        carol.shows("empty", "Nothing waits")
        assert service.state(proposal) == "rejected"
    assert table(tool)[1][-1] == "'=1+1\\u003b not on a Friday", table(tool)


def in_firefox(service, start):
    """A yes and a no, by the keyboard's and the pointer's way of that browser."""
    proposal = service.propose("echo", {"msg": "Gr\u00fc\u00dfe"}, "firefox")
    with browser(start("alice"), Firefox) as alice:
        assert "reads" in alice.text("payload") and "Gr\u00fc\u00dfe" in alice.text("payload")
        alice.click("approve")
        alice.shows("outcome", "You approved it. The service says: execut")
    assert service.state(proposal) == "executed"
    a_no(service, start, Firefox)
