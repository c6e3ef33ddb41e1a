"""What changes while it is looked at: the page says so, and moves nothing."""

from harness import browser, until

# What is looked at, and how far it is scrolled.
LOOKED_AT = "return [document.querySelector('#proposal').textContent, scrollY, document.querySelector('#action').getBoundingClientRect().top]"


def held(one, happens, words):
    """What is shown stays as it is while something happens, and the notice says it."""
    one.script("window.scrollTo(0, 300)")
    before = one.script(LOOKED_AT)
    happens()
    one.shows("notice", words)
    assert one.script(LOOKED_AT) == before, "what was looked at has changed"


def a_proposal_that_changes(service, start):
    proposal = service.propose("echo", {"msg": "x " * 500}, "c1")
    with browser(start("alice")) as one:
        held(one, lambda: service.tool("withdraw", "--yes", proposal), "it was pending, and is withdrawn now")
        one.find("anew").click()
        one.shows("hindrance", "it is no longer pending: it is withdrawn")
        assert one.text("notice") == "" and not one.any_of("yes", "no")


def a_service_that_goes_and_comes_back(service, start):
    service.propose("echo", {"msg": "x " * 500}, "c2")
    tool = start("alice")
    with browser(tool) as one:
        held(one, service.kill, "the service at")
        one.click("approve")
        one.shows("outcome", "Not done: it is signed; show it again: ")
        one.shows("outcome", "nothing was handed in")
        service.start()
        until("the notice goes", lambda: one.text("notice") == "")
        one.click("approve")
        one.shows("outcome", "You approved it. The service says: execut")
        one.click("onward")
        one.shows("empty", "Nothing waits")
        # What comes later is announced, and shown when somebody asks for it.
        service.propose("echo", {"msg": "later"}, "c3")
        one.shows("notice", "1 wait")
        assert one.any_of("empty")
        one.find("anew").click()
        one.shows("payload", "later")
        held(one, tool.end, "openexec-approve has ended")
        one.click("approve")
        one.shows("outcome", "nothing can be decided here")
    service.tool("withdraw", "--all", "--yes")


def refusals(peer, start):
    """The service's noes, in words."""
    peer.add({"amount": 1, "currency": "EUR"}, "s1")
    with browser(start(peer)) as one:
        for status, code, words in (
            (401, "unauthenticated", "does not know this token"), (403, "caller_not_allowed", "needs the right `approve`"),
            (403, "approval_key_not_authorized", "may not decide about this action"), (403, "approver_is_proposer", "you proposed this yourself"),
            (409, "not_pending", "somebody was quicker"), (429, "pending_full", "as often as one key may"),
            (503, "clock_behind", "does not believe its clock"),
        ):
            peer.refusals["/approvals"] = (status, {"code": code, "detail": "d\u202e"})
            one.click("approve")
            one.shows("outcome", words)
            assert f"{status} {code}: d\\u202e" in one.text("outcome")
        # It can be tried again.
        del peer.refusals["/approvals"]
        one.click("approve")
        one.shows("outcome", "You approved it")
    peer.refusals["/proposals?state=pending"] = (403, {"code": "caller_not_allowed", "detail": "no"})
    with browser(start(peer)) as one:
        one.shows("empty", "this token may not do that")
        peer.add({"amount": 2, "currency": "EUR"}, "s2")
        del peer.refusals["/proposals?state=pending"]
        one.shows("notice", "1 wait")


def one_that_cannot_be_shown(peer, start):
    """It keeps its place, and nobody from the others."""
    bad, good = (peer.add({"amount": 1, "currency": "EUR"}, nonce) for nonce in ("bad", "good"))
    peer.refusals[f"/proposals/{bad}"] = (200, peer.proposals[good])
    with browser(start(peer)) as one:
        one.shows("empty", "another proposal than was asked for")
        assert one.text("place") == "1 of 2 that wait" and not one.any_of("previous")
        one.find("next").click()
        one.shows("place", "2 of 2")
        one.find("previous").click()
        one.shows("empty", "cannot be shown")
        one.find("look").click()
        one.shows("place", "1 of 2")
        one.find("next").click()
        one.click("approve")
        one.shows("outcome", "You approved it")
    assert [body["action_hash"] for _, body in peer.posted] == [good]


def a_click_that_comes_too_soon(peer, start):
    """Neither the page nor, if that is passed by, the process takes it."""
    proposal = peer.add({"amount": 1, "currency": "EUR"}, "soon")
    with browser(start(peer)) as one:
        said = one.script("""
            const id = arguments[0];
            document.querySelector('#look').click();
            return new Promise((done) => {
              const watch = new MutationObserver(() => {
                document.querySelector('#approve').click();
                document.querySelector('#why').value = 'x';
                document.querySelector('#reject').click();
              });
              watch.observe(document.querySelector('#payload'), { childList: true });
              setTimeout(async () => {
                const shown = await (await fetch('proposal/' + id)).json();
                const body = JSON.stringify({ id, view: shown.view });
                const answer = await fetch('approve', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
                done(await answer.json());
              }, 400);
            });""", proposal)
        assert "sooner than anybody could look" in said["refused"], said
        assert peer.posted == [], peer.posted
        one.click("approve")
        one.shows("outcome", "You approved it")
    assert len(peer.posted) == 1
