#!/usr/bin/env python3
"""What people would take instead, beside OpenExec: one run, one machine, in turn.

    python3 benches/beside/run.py BINARY [--python-service DIR] [--seconds N] [--rounds N]

BINARY is the release build. DIR is a checkout of the Python service that OpenExec replaces, with its
requirements installed for this Python; without it that row is left out. The workflow library is DBOS (PyPI)
over PostgreSQL (Debian's, started here in a directory of its own, fsync on). Run it as root: PostgreSQL
gets a user of its own. Needs `wrk`, `postgresql` and the packages in benches/beside/requirements.txt.

Each row does the same thing: takes a new name (nonce, or workflow id) and a small payload, makes it durable,
runs a step that returns the payload, makes the result durable, answers. HTTP services are loaded by wrk with
a new nonce for each request; the library is called in its own process, by as many threads as connections,
so that it pays for no HTTP. Prints a row for each, with the ratio to OpenExec in the same round, as the
median of the rounds.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).parent
CONNECTIONS = (1, 32)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def process(command, ready, **options):
    """A server until the block ends; `ready` is an address that answers once it serves."""
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        deadline = time.monotonic() + 60
        while True:
            if started.poll() is not None:
                sys.exit(f"{command[0]} ended with {started.returncode}")
            try:
                urllib.request.urlopen(ready, timeout=5).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    sys.exit(f"{command[0]} does not answer")
                time.sleep(0.05)
        yield
    finally:
        started.kill()
        started.wait()


def wrk(port, connections, seconds):
    """Executions a second and the median in ms. Any answer but 200 is a failure of the run."""
    script = HERE / "execute.lua"
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--latency", "--timeout", "30s",
               "-s", str(script), f"http://127.0.0.1:{port}", "--", f"{os.getpid()}-{time.time_ns()}"]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        sys.exit(said)
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])
    value, unit = re.search(r"50%\s+([\d.]+)(us|ms|s)", said).groups()
    return rate, float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def openexec(binary, connections, seconds):
    with tempfile.TemporaryDirectory() as store:
        port = free_port()
        environment = {"OPENEXEC_DB_URL": f"file:{store}/store", "OPENEXEC_LOG": "off",
                       "OPENEXEC_LISTEN": f"127.0.0.1:{port}"}
        with process([binary], f"http://127.0.0.1:{port}/ready", env=environment, cwd=store):
            return wrk(port, connections, seconds)


def python_service(checkout, connections, seconds):
    with tempfile.TemporaryDirectory() as scratch:
        port = free_port()
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OPENEXEC_DB_URL": f"sqlite:///{scratch}/db"}
        command = [sys.executable, "-m", "uvicorn", "main:app", "--port", str(port), "--log-level", "error"]
        with process(command, f"http://127.0.0.1:{port}/ready", env=environment, cwd=checkout):
            return wrk(port, connections, seconds)


@contextlib.contextmanager
def postgresql():
    """A server of our own on a Unix socket, as Debian configures it: fsync on, synchronous_commit on."""
    programs = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    directory = pathlib.Path(tempfile.mkdtemp())
    try:
        shutil.chown(directory, "postgres")
        as_postgres = ["runuser", "-u", "postgres", "--"]
        quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": directory}
        subprocess.run([*as_postgres, programs / "initdb", "-D", directory / "data", "-A", "trust"], **quiet)
        options = f"-k {directory} -c listen_addresses="
        control = [*as_postgres, programs / "pg_ctl", "-D", directory / "data", "-w", "-l", directory / "log"]
        subprocess.run([*control, "-o", options, "start"], **quiet)
        try:
            yield f"postgresql://postgres@/postgres?host={directory}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **quiet)
    finally:
        shutil.rmtree(directory)


def workflows(url, connections, seconds):
    """The library, in a process of its own: see dbos_load.py."""
    command = [sys.executable, HERE / "dbos_load.py", url, str(connections), str(seconds)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found = json.loads(said.stdout.splitlines()[-1])
    return found["rate"], found["p50_ms"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--python-service", type=pathlib.Path)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    binary = os.path.abspath(arguments.binary)
    figures = {}
    with postgresql() as url:
        contenders = {"OpenExec": lambda c, s: openexec(binary, c, s)}
        if arguments.python_service:
            contenders["the Python service"] = lambda c, s: python_service(arguments.python_service, c, s)
        contenders["DBOS over PostgreSQL"] = lambda c, s: workflows(url, c, s)
        for _ in range(arguments.rounds):
            for connections in CONNECTIONS:
                for name, measure in contenders.items():
                    figures.setdefault((name, connections), []).append(measure(connections, arguments.seconds))
    print("| connections | what | executions/s | p50 ms | OpenExec does |")
    print("| --- | --- | --- | --- | --- |")
    for (name, connections), rounds in sorted(figures.items(), key=lambda row: row[0][1]):
        rate, p50 = (statistics.median(values) for values in zip(*rounds))
        ours = figures["OpenExec", connections]
        ratio = statistics.median(a[0] / b[0] for a, b in zip(ours, rounds))
        print(f"| {connections} | {name} | {rate:,.0f} | {p50:.2f} | {ratio:.1f} x |")


if __name__ == "__main__":
    main()
