"""Other pages in the same browser, and other programs on this machine: they get nothing. And what this test watches with, watches."""

import http.client
import http.server
import threading

from harness import Browser, Firefox, browser, until

ATTACK = """<!doctype html><title>evil</title><body><script>
const address = %r;
const tries = {};
const over = (name) => (value) => { tries[name] = String(value); };
fetch(address + '/list').then((answer) => answer.text()).then(over('cors'), () => over('cors')('refused'));
fetch(address + '/list', { mode: 'no-cors' }).then((answer) => over('opaque')(answer.type + answer.status), () => over('opaque')('refused'));
const body = JSON.stringify({ id: %r, view: 1 });
fetch(address + '/approve', { method: 'POST', mode: 'no-cors', body }).then((answer) => over('post')(answer.type), () => over('post')('refused'));
fetch(address + '/approve', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body }).then(over('json'), () => over('json')('refused'));
const frame = document.createElement('iframe');
frame.onload = () => { try { over('frame')(frame.contentDocument.body.textContent); } catch { over('frame')('closed'); } };
frame.src = address;
document.body.append(frame);
const script = document.createElement('script');
script.onload = () => over('script')('loaded');
script.onerror = () => over('script')('refused');
script.src = address + '/page.js';
document.body.append(script);
const opened = window.open(address);
window.tries = tries;
window.opened = opened;
</script>"""


def other_pages_in_the_same_browser(peer, start):
    """Even one that has learned the address, with the token."""
    proposal = peer.add({"amount": 1, "currency": "EUR"}, "o1")
    tool = start(peer)
    # What this page says itself: a form is sent and followed.
    page = (ATTACK % (tool.address, proposal)).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with browser(tool) as one:
        own = one.driver.current_window_handle
        one.driver.switch_to.new_window("tab")
        one.driver.get(f"http://127.0.0.1:{server.server_port}/")
        tries = until("all was tried", lambda: (found := one.script("return window.tries")) and len(found) == 6 and found)
        assert tries["cors"] == tries["json"] == tries["script"] == "refused", tries
        assert tries["opaque"] in ("refused", "opaque0") and tries["post"] in ("refused", "opaque"), tries
        assert tries["frame"] in ("closed", ""), tries
        # Nothing can be read of, or told to, the page that it opened.
        until("it is out of reach", lambda: one.script("try { return window.opened.document === undefined } catch { return true }"))
        assert peer.posted == []
        one.requests()
        one.asked = []
        one.driver.switch_to.window(own)
        one.driver.get(tool.address)
        until("the page is there", lambda: one.any_of("proposal"))
        # The errors are the other page's.
        one.driver.get_log("browser")
    server.shutdown()
    assert peer.posted == []


def other_programs(peer, start):
    proposal = peer.add({"amount": 1, "currency": "EUR"}, "o2")
    tool = start(peer)
    host, token = tool.origin.removeprefix("http://"), tool.address.rpartition("/")[2]

    def ask(method, path, **headers):
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.request(method, path, b"{}" if method == "POST" else None, headers)
        answer = connection.getresponse()
        return answer.status, sorted(answer.getheaders()), answer.read()

    nothing = ask("GET", "/")
    assert nothing[0] == 404
    json = {"Content-Type": "application/json"}
    for method, path, headers in (
        ("GET", f"/{token[:-1]}", {}), ("GET", f"/{'0' * 64}/proposal/{proposal}", {}), ("GET", f"/{token}/list", {"Host": "localhost"}),
        ("POST", "/approve", json), ("POST", f"/{token}/approve", json), ("POST", f"/{token}/approve", {**json, "Origin": "null"}),
        ("POST", f"/{token}/reject", {**json, "Origin": "http://localhost"}), ("DELETE", f"/{token}/", {}),
    ):
        assert ask(method, path, **headers) == nothing, (method, path)
    assert peer.posted == []


def what_watches_is_awake(peer, start):
    """A script, a style, a picture from elsewhere and a text as markup are refused, and this test would have seen them."""
    each_is_seen(peer, start, Browser)


def in_firefox(peer, start):
    each_is_seen(peer, start, Firefox)


def each_is_seen(peer, start, kind):
    peer.add({"amount": 1, "currency": "EUR"}, "o3")
    with browser(start(peer), kind) as one:
        one.script("""
            const add = (name, set) => { const e = document.createElement(name); set(e); document.body.append(e); };
            add('style', (e) => { e.textContent = 'body { opacity: 0 }'; });
            add('img', (e) => { e.src = 'http://127.0.0.1:9/x.png'; });
            fetch('http://127.0.0.1:9/').catch(() => {});
            try { document.querySelector('#why').innerHTML = '<b>x</b>'; } catch (error) { window.refused = String(error); }
            try { add('script', (e) => { e.textContent = 'window.pwned = 1'; }); } catch { }
            """)
        kinds = {"style-src-elem", "img-src", "connect-src", "require-trusted-types-for"}
        until("they are seen", lambda: kinds <= {line.split()[0] for line in one.script("return window.violations")})
        assert one.script("return [window.pwned, getComputedStyle(document.body).opacity]") == [None, "1"]
        assert one.script("return window.refused").startswith("TypeError")
        if kind is Browser:
            until("the request is seen", lambda: any(url.startswith("http://127.0.0.1:9/") for url in one.requests()))
        one.asked = [one.tool.address]
        one.script("window.violations = []")
        one.errors()
