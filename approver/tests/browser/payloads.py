"""Sixty payloads, and as many words, that would run, hide, reorder or look like something else: each is shown whole, as what it is."""

import json
import re
import sys

from harness import ROOT, Browser, Firefox, browser, until

sys.path.insert(0, str(ROOT / "tests" / "terminal"))
from hostile import HOSTILE as TEXTS  # noqa: E402

SOURCE = (ROOT / "approver/src/reading.rs").read_text()
RANGES = [(int(first, 16), int(last, 16)) for first, last in re.findall(r"\('\\u\{(\w+)\}', '\\u\{(\w+)\}'\)", SOURCE)]
RUN = "window.pwned=1"
MARKUP = [
    f"<script>{RUN}</script>", f"<img src=x onerror={RUN}>", f"<svg onload={RUN}>", f"</div><script>{RUN}</script>", f"javascript:{RUN}",
    f"\"><script>{RUN}</script>", f"'-{RUN}-'", f"<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>", f"{{{{{RUN}}}}}",
    f"<style>*{{display:none}}</style>", "<link rel=stylesheet href=//evil.example/x.css>", "<base href=//evil.example>", "&lt;script&gt;",
    "<plaintext>", "<!--", "]]>", "<meta http-equiv=refresh content='0;url=//evil.example'>", "__proto__", "constructor", "</textarea><b>",
    "<template>", "<button id=approve>Approve</button>", "<input autofocus onfocus=window.pwned=1>", "\u2028window.pwned=1", "`${window.pwned=1}`",
]


def kinds():
    for markup in MARKUP:
        yield {"note": markup, markup: [markup, {markup: markup}], "amount": 4900, "currency": "EUR"}
    for text in list(dict.fromkeys(TEXTS))[:20]:
        yield {"note": text, "x": [text, {text: "z"}], "amount": 4900, "currency": "EUR"}
    # Amounts that are none: another letter, a text, a currency of nobody, more than a double holds.
    for amount, currency in ((4900, "\u0415UR"), ("49.00 EUR", "EUR"), (4900, "EUR\u200b"), (4900, " EUR"), (4900, "EUR\n1.00 EUR"), ("9" * 400, "EUR")):
        yield {"amount": amount, "currency": currency, "note": "reads\n49.00 EUR"}
    yield {"note": "x" * 1_000_000}
    yield {"note": "a\n" * 20_000 + "the end"}
    yield {"note": "\u202e" * 50_000}
    yield {"a": " " * 100_000 + "hidden"}
    yield {"a": [0] * 5000, "z": "last"}
    yield {"k" * 5000: "v" * 5000}
    # Five thousand values, as deep as the service takes them.
    deep = list(range(80))
    for level in range(61):
        deep = [deep, *range(80)] if level % 2 else {"deep": deep, **{f"k{number}": number for number in range(80)}}
    yield {"nested": deep}
    yield {"\u202eevil": 1, "evil": 2, "\u0435vil": 3}
    yield {}


def is_shown(char):
    return " " <= char <= "~" or char == "\n" or any(first <= ord(char) <= last for first, last in RANGES)


# What is on the page: each exact line where it stands, and whether anybody can see it.
LOOK = """
const lines = [...document.querySelectorAll('#payload > .exact')];
const rectangles = lines.map((line) => line.getBoundingClientRect());
return {
  text: lines.map((line) => line.textContent).join(''),
  ordered: rectangles.every((r, i) => i === 0 || r.top >= rectangles[i - 1].bottom - 1),
  visible: rectangles.every((r) => r.height > 5 && r.width > 100) && lines.every((line) => line.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })),
  inside: lines.every((line) => line.scrollWidth <= line.clientWidth) && document.documentElement.scrollWidth <= innerWidth,
  same: document.querySelector('#payload').children.length < 2000 ? lines.every((line) => line.innerText === line.textContent) : true,
  kinds: [...new Set([...document.querySelectorAll('#payload *, #words-lines *')].map((e) => e.tagName))],
  amounts: [...document.querySelectorAll('.amount .text')].map((e) => e.textContent),
  all: document.querySelector('#proposal').textContent,
  pwned: window.pwned,
};
"""


def every_kind(peer, start):
    asked = list(kinds())
    assert len(asked) >= 60, len(asked)
    each_is_shown(peer, start, asked, Browser)


def in_firefox(peer, start):
    """Every fourth of them: what differs between browsers is drawing, and the policy."""
    each_is_shown(peer, start, [payload for payload in list(kinds())[::4] if len(str(payload)) < 10_000], Firefox)


def each_is_shown(peer, start, asked, kind):
    proposals = {}
    for number, payload in enumerate(asked):
        words = (MARKUP + TEXTS)[number % len(MARKUP + TEXTS)]
        approvals = {"have": [{"key": words, "until": "2999-01-01T00:00:00Z"}], "missing": {"count": 2, "groups": {words: 1}}}
        said = {"justification": words, "caller": words, "approvals": approvals, "blocked": words}
        proposals[peer.add(payload, f"n{number}", **said)] = payload
    seen = set()
    with browser(start(peer), kind) as one:
        for place, (proposal, payload) in enumerate(proposals.items(), 1):
            until("it is shown", lambda: one.text("place").startswith(f"{place} of {len(proposals)}"))
            looked = one.script(LOOK)
            where = f"{json.dumps(payload)[:200]}: {looked['text'][:400]}"
            assert json.loads(looked["text"]) == payload, where
            assert looked["text"] not in seen, f"looks like another: {where}"
            seen.add(looked["text"])
            assert looked["ordered"] and looked["visible"] and looked["inside"] and looked["same"], (looked, where)
            assert all(map(is_shown, looked["all"])), where
            assert set(looked["kinds"]) <= {"DIV", "SPAN"}, looked["kinds"]
            assert looked["pwned"] is None, where
            is_money = payload.get("amount") == 4900 and payload.get("currency") == "EUR"
            assert looked["amounts"] == (["49.00 EUR"] if is_money else []), (looked["amounts"], where)
            assert one.is_ready("approve") or until("it can be decided", lambda: one.is_ready("approve"))
            if place < len(proposals):
                one.find("next").click()
    assert peer.posted == []
