"""What the tests of the page share: a service, people with keys, the tool, and real browsers."""

import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "python"))
from service import private_key, ready  # noqa: E402

PATIENCE_SECONDS = 60
PEOPLE = ("alice", "bob", "carol")
TENANT = "acme"
ACTIONS = {
    "actions": [
        {
            "action": "refund",
            "summary": "Pays a customer back.",
            "payload_schema": {
                "type": "object",
                "properties": {
                    "order": {"type": "string", "minLength": 1, "maxLength": 40},
                    "amount": {"type": "integer", "minimum": 1, "maximum": 5000000, "x-display": "money",
                               "x-currency": "currency", "x-exponents": {"EUR": 2, "JPY": 0}},
                    "currency": {"enum": ["EUR", "JPY"]},
                    "note": {"type": "string", "maxLength": 4000, "x-display": "text"},
                },
                "required": ["order", "amount", "currency"],
                "additionalProperties": False,
            },
        }
    ]
}


def until(what, happened):
    """What `happened` gives, once it is true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := happened()):
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)
    return found


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def private(path, text):
    path.touch(0o600)
    path.write_text(text)
    return path


class Service:
    """The real one: two people for a refund, one for everything else, and an agent that proposes."""

    def __init__(self, binary, scratch):
        self.binary, self.scratch = os.path.abspath(binary), scratch
        (scratch / "outbox").mkdir()
        keys = []
        for name in PEOPLE:
            key = private_key(scratch / f"{name}.pem")
            public = subprocess.run(["openssl", "pkey", "-in", key, "-pubout"], check=True, capture_output=True, text=True).stdout
            keys.append({"name": name, "public_key": public, "person": name})
        private(scratch / "keys.json", json.dumps({"keys": keys, "required": {"refund": 2, "*": 1}}))
        private(scratch / "actions.json", json.dumps(ACTIONS))
        callers = [{"name": "agent-7", "person": "nobody", "may": ["propose"]}]
        callers += [{"name": f"{name}-desk", "person": name, "may": ["approve"]} for name in PEOPLE]
        callers += [{"name": "reader", "person": "auditor", "may": ["read"]}]
        for caller in callers:
            token = f"openexec_{os.urandom(32).hex()}"
            private(scratch / f"{caller['name']}.token", token + "\n")
            caller["token_sha256"] = hashlib.sha256(token.encode()).hexdigest()
        private(scratch / "callers.json", json.dumps({"callers": callers}))
        self.agent = (scratch / "agent-7.token").read_text().strip()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "OPENEXEC_MODE": "clawshield", "CLAWSHIELD_TENANT_ID": TENANT, "OPENEXEC_KEYS_FILE": str(scratch / "keys.json"),
            "OPENEXEC_CALLERS_FILE": str(scratch / "callers.json"), "OPENEXEC_ACTIONS_FILE": str(scratch / "actions.json"),
            "OPENEXEC_OUTBOX_DIR": str(scratch / "outbox"), "OPENEXEC_DB_URL": f"file:{scratch}/store",
            "OPENEXEC_LISTEN": f"127.0.0.1:{self.port}", "OPENEXEC_LOG": "off",
        }
        self.tool("init")
        self.start()

    def tool(self, *arguments):
        done = subprocess.run([self.binary, *arguments], env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self):
        self.process = subprocess.Popen([self.binary], env=self.environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ready(self.process, self.scratch / "store" / "LOCK")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers["Authorization"] = f"Bearer {self.agent}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def propose(self, action, payload, nonce, why="They asked nicely."):
        """An asynchronous proposal: its id."""
        body = {"action": action, "payload": payload, "nonce": nonce, "justification": why}
        status, answer = until("it is recorded", lambda: self.proposed(body))
        assert status == 202, answer
        return answer["id"]

    def proposed(self, body):
        status, answer = self.ask("POST", "/execute", body, Prefer="respond-async")
        return (status, answer) if status != 503 else None

    def state(self, proposal):
        return self.ask("GET", f"/proposals/{proposal}")[1]["state"]


class Tool:
    """`openexec-approve page` of one person."""

    def __init__(self, binary, url, key, *more):
        command = [os.path.abspath(binary), "page", "--url", url, "--key", str(key), *more]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http://127.0.0.1:"), self.address
        self.origin = self.address.rsplit("/", 1)[0]

    def end(self):
        self.process.kill()
        self.process.wait()


class Browser:
    """One of a person's own. What the page may not do is found when it is left."""

    def __init__(self, dark=False, width=1100, height=900):
        self.recorder = Recorder()
        self.driver = self.started(width, height)
        self.asked = []
        self.watch()
        if dark:
            self.darken()
        if width < 500:
            self.resize(width, height)

    def started(self, width, height):
        options = webdriver.ChromeOptions()
        options.binary_location = os.environ.get("OPENEXEC_CHROMIUM", "/usr/bin/chromium")
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
                         "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
                         f"--window-size={width},{height}", "--lang=en", f"--proxy-server={self.recorder.address}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        service = webdriver.ChromeService(executable_path=os.environ.get("OPENEXEC_CHROMEDRIVER", "/usr/bin/chromedriver"))
        return webdriver.Chrome(options=options, service=service)

    def watch(self):
        # Before any script of the page, and beyond its policy.
        self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": VIOLATIONS})

    def darken(self):
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})

    def resize(self, width, height):
        # A window is not made that narrow.
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def open(self, tool):
        self.tool = tool
        self.driver.get(tool.address)
        until("the page says something", lambda: self.any_of("empty", "proposal"))

    def find(self, name):
        return self.driver.find_element(By.ID, name)

    def text(self, name):
        return self.find(name).text

    def any_of(self, *names):
        return next((name for name in names if self.find(name).is_displayed()), None)

    def is_ready(self, name):
        button = self.find(name)
        return button.is_displayed() and button.get_attribute("aria-disabled") is None

    def click(self, name):
        until(f"{name} can be clicked", lambda: self.is_ready(name))
        # As far up as a person would have it: a notice may lie over the lower edge.
        self.script("arguments[0].scrollIntoView({block: 'center'})", self.find(name))
        self.find(name).click()

    def shows(self, name, words):
        until(f"{name} says {words!r}, not {self.text(name)!r}", lambda: words in self.text(name))

    def script(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    def screenshot(self, path):
        self.driver.save_screenshot(str(path))

    def requests(self):
        """Every address that was asked for so far. The browser's own go through the proxy, as all would that leave this machine."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                parameters = message["params"]
                self.asked.append(parameters.get("request", parameters)["url"])
        return self.asked

    def check(self):
        """Nothing was asked for elsewhere, nothing was refused by the policy, and nothing failed."""
        requests = self.requests()
        assert requests, "no request was seen: the log is not what it was"
        for url in requests:
            assert url == self.tool.address or url.startswith(self.tool.address + "/"), f"asked for {url}"
        assert not self.page_left(), self.recorder.asked
        violations = self.script("return window.violations")
        assert violations == [], violations
        errors = self.errors()
        assert errors == [], errors

    def page_left(self):
        """What was asked for beyond this machine; the browser asks its maker for things of its own, and it opens connections on
        which it then asks nothing."""
        return [line for line in self.recorder.asked if line and not any(maker in line for maker in MAKERS)]

    def errors(self):
        severe = [entry for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        return [entry for entry in severe if not self.is_expected(entry)]

    def is_expected(self, entry):
        # The process that the page belongs to may have been ended.
        return "ERR_CONNECTION_REFUSED" in entry["message"]

    def close(self):
        with contextlib.suppress(WebDriverException):
            self.driver.quit()
        self.recorder.end()


class Firefox(Browser):
    """Its driver tells less: requests are those that the page's own records name, beside what the proxy saw."""

    def started(self, width, height):
        options = webdriver.FirefoxOptions()
        options.binary_location = os.environ.get("OPENEXEC_FIREFOX", "/usr/bin/firefox-esr")
        options.set_capability("webSocketUrl", True)
        for argument in ("-headless", f"--width={width}", f"--height={height}"):
            options.add_argument(argument)
        host, port = self.recorder.address.split(":")
        for name, value in {"type": 1, "http": host, "http_port": int(port), "ssl": host, "ssl_port": int(port)}.items():
            options.set_preference(f"network.proxy.{name}", value)
        service = webdriver.FirefoxService(executable_path=os.environ["OPENEXEC_GECKODRIVER"], log_output=os.devnull)
        return webdriver.Firefox(options=options, service=service)

    def watch(self):
        self.driver.script.pin(f"() => {{ {VIOLATIONS} }}")

    def darken(self):
        raise NotImplementedError("Chromium is looked at in the dark")

    def requests(self):
        self.asked += self.script("return [location.href, ...performance.getEntriesByType('resource').map((entry) => entry.name)]")
        return self.asked

    def errors(self):
        return []


class Recorder:
    """A proxy that takes nothing anywhere, and remembers what it was asked for."""

    def __init__(self):
        self.asked = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                with client, contextlib.suppress(OSError):
                    client.settimeout(5)
                    self.asked.append(client.recv(4096).split(b"\r\n")[0].decode(errors="replace"))

    def end(self):
        self.listener.close()


MAKERS = ("mozilla", "firefox", "google", "gvt1")
VIOLATIONS = """
window.violations = [];
document.addEventListener('securitypolicyviolation', (event) => window.violations.push(`${event.effectiveDirective} ${event.blockedURI}`));
"""


@contextlib.contextmanager
def browser(tool, kind=Browser, **looks):
    one = kind(**looks)
    try:
        one.open(tool)
        yield one
        one.check()
    finally:
        one.close()


@contextlib.contextmanager
def tools():
    """Starts the tool as often as is asked for, and ends all."""
    started = []

    def start(*arguments):
        started.append(Tool(*arguments))
        return started[-1]

    try:
        yield start
    finally:
        for tool in started:
            tool.end()


def beside(work):
    """Runs it in a thread; what it raises comes out at the end."""
    result = {}

    def run():
        try:
            result["value"] = work()
        except BaseException as error:  # noqa: BLE001
            result["error"] = error

    thread = threading.Thread(target=run)
    thread.start()

    def end():
        thread.join()
        if "error" in result:
            raise result["error"]
        return result["value"]

    return end
