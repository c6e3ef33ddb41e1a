"""For everybody: by keyboard alone, on 360 pixels, in the dark, and judged by axe-core."""

import datetime
import os
import pathlib

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from harness import ROOT, browser, until

ASK = {"order": "8841", "amount": 4900, "currency": "EUR",
       "note": "The customer paid twice.\nSee order 8840: the same basket,\ntwo minutes apart."}
WHY = "Order 8841 was charged twice, and the customer wrote to us.\nGrüße, your shop agent"


def press(one, key, times=1):
    for _ in range(times):
        ActionChains(one.driver).send_keys(key).perform()


def focused(one):
    """What has the focus, which anybody must be able to see."""
    found = one.script("""
        const element = document.activeElement, style = getComputedStyle(element);
        return [element.id || element.tagName, style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2];""")
    assert found[1] or found[0] in ("BODY", "action", "outcome", "empty-title", "decided-title"), f"nobody sees that {found[0]} has the focus"
    return found[0]


def tab_to(one, name):
    for _ in range(40):
        press(one, Keys.TAB)
        if focused(one) == name:
            return
    raise AssertionError(f"{name} is not reached by the keyboard")


def by_keyboard_alone(peer, start):
    first, second = peer.add(ASK, "k1"), peer.add(ASK, "k2")
    with browser(start(peer)) as one:
        assert focused(one) == "action"
        tab_to(one, "approve")
        until("it can be decided", lambda: one.is_ready("approve"))
        top = "return document.querySelector('#action').getBoundingClientRect().top + scrollY"
        before = one.script(top)
        press(one, Keys.ENTER)
        one.shows("outcome", "You approved it")
        assert focused(one) == "outcome"
        # The head knows of it: nobody takes it for one that still waits.
        one.shows("place", "Decided. 1 more waits")
        assert not one.any_of("previous", "next") and one.script(top) == before, "what was looked at has moved"
        tab_to(one, "onward")
        press(one, Keys.SPACE)
        until("the next is there", lambda: one.text("place") == "1 of 1 that wait" and focused(one) == "action")
        tab_to(one, "why")
        press(one, "not on a Friday")
        tab_to(one, "reject")
        until("it can be decided", lambda: one.is_ready("reject"))
        press(one, Keys.ENTER)
        one.shows("outcome", "You rejected it")
        one.shows("place", "Decided. Nothing else waits")
        one.script("document.activeElement.blur()")
        tab_to(one, "to-decided")
        press(one, Keys.ENTER)
        one.shows("decisions", "not on a Friday")
    assert [(path, body.get("exec_id") or body["action_hash"]) for path, body in peer.posted] == [("/approvals", first), ("/rejections", second)]


def axe(one):
    source = (pathlib.Path(os.environ["OPENEXEC_AXE"])).read_text()
    found = one.driver.execute_async_script(source + """
        const done = arguments[arguments.length - 1];
        axe.run(document, { resultTypes: ['violations', 'incomplete'] }).then(done, (error) => done(String(error)));""")
    assert isinstance(found, dict), found
    findings = [(finding["id"], node["html"][:120], node.get("failureSummary", "")) for finding in found["violations"] for node in finding["nodes"]]
    assert not findings, findings
    assert len(found["passes"]) > 15, "axe looked at nothing"


def looks(peer, start):
    """Every size and theme: nothing scrolls sideways, axe finds nothing, and the documents' pictures are made."""
    now = datetime.datetime.now(datetime.UTC)
    asked, until_then = (f"{now + datetime.timedelta(minutes=minutes):%FT%T}" for minutes in (-12, 980))
    peer.add(ASK, "l1", justification=WHY, approvals={"have": [{"key": "bob", "until": f"{until_then}Z"}], "missing": {"count": 1, "groups": {}}},
             expires_at=f"{until_then}.000000Z", asked_at=f"{asked}.000000Z")
    peer.add({"x" * 300: ["y" * 3000, {"deep": [[[[[[["z " * 300]]]]]]]}]}, "l2", justification="w" * 500)
    tool = start(peer)
    for name, how in (("light", {}), ("dark", {"dark": True}), ("narrow", {"width": 360, "height": 780})):
        with browser(tool, **how) as one:
            background = one.script("return getComputedStyle(document.body).backgroundColor")
            is_dark = sum(map(int, background[4:-1].split(","))) < 150
            assert is_dark == (name == "dark"), background
            until("it can be decided", lambda: one.is_ready("approve"))
            picture(one, name)
            while True:
                narrow(one)
                axe(one)
                if not one.any_of("next"):
                    break
                one.find("next").click()
                until("the next is there", lambda: one.text("place").startswith("2 of") and one.is_ready("approve"))
            one.find("to-decided").click()
            until("the list is there", lambda: one.any_of("decided"))
            narrow(one)
            axe(one)
            peer.refusals["/proposals?state=pending"] = (503, {"code": "store_unavailable", "detail": "w" * 900})
            one.find("to-waiting").click()
            until("it says why", lambda: one.any_of("empty"))
            narrow(one)
            axe(one)
            del peer.refusals["/proposals?state=pending"]


SIZES = """
return [innerWidth, document.documentElement.scrollWidth, document.title,
  [...document.querySelectorAll('body *')].filter((e) => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0).map((e) => `${e.id} ${e.className} ${e.tagName} ${e.scrollWidth}`)];
"""


def narrow(one):
    wide = one.script("""
        return [...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > window.innerWidth + 1).map((e) => e.id || e.className || e.tagName);""")
    assert wide == [] and one.script("return document.documentElement.scrollWidth <= window.innerWidth"), f"it scrolls sideways: {wide} {one.script(SIZES)}"
    small = one.script("""
        return [...document.querySelectorAll('button')].filter((button) => button.checkVisibility())
          .map((button) => [button.id, button.getBoundingClientRect()]).filter(([, r]) => r.height < 40 || r.width < 40).map(([id]) => id);""")
    assert small == [], f"too small to touch: {small}"
    apart = one.script("""
        const [yes, no] = ['approve', 'reject'].map((id) => document.getElementById(id).getBoundingClientRect());
        return yes.height === 0 || no.height === 0 || no.top - yes.bottom;""")
    assert apart is True or apart > 100, f"yes and no are {apart} pixels apart"


def picture(one, name):
    """The whole page, for the documents."""
    if not os.environ.get("OPENEXEC_WRITE_SCREENSHOTS") or name == "narrow":
        return
    one.resize(820, 900)
    one.resize(820, one.script("return Math.ceil(document.querySelector('#approve').getBoundingClientRect().bottom + scrollY + 28)"))
    one.script("window.scrollTo(0, 0)")
    until("it can be decided", lambda: one.is_ready("approve"))
    one.screenshot(ROOT / f"docs/approve-{name}.png")
    one.resize(1100, 900)
