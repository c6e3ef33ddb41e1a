#!/usr/bin/env python3
"""Another user tries to connect to the service's socket from the moment that it is there, with a umask
that closes nothing, and with a second between its making and its mode.

    exposed.py BINARY
"""

import os
import shutil
import socket
import stat
import sys

import common
from common import Report, Server, expect, until

NOBODY = 65_534


def sockets(directory):
    for above, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(above, name)
            try:
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    yield path
            except OSError:
                continue


def try_for_ever(directory, found):
    """In a process of its own: tells of each socket that took it."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    while True:
        for path in sockets(directory):
            with socket.socket(socket.AF_UNIX) as client:
                try:
                    client.connect(path)
                    os.write(found, path.encode() + b"\n")
                except OSError:
                    continue


def closed_before_it_is_open(binary, base):
    directory = os.path.join(base, "open")
    os.makedirs(directory)
    os.chmod(base, 0o755)
    os.chmod(directory, 0o777)
    connected, found = os.pipe()
    os.set_blocking(connected, False)
    child = os.fork()
    if child == 0:
        try:
            try_for_ever(directory, found)
        finally:
            os._exit(1)
    slow = ["strace", "-f", "-qqq", "-o", os.path.join(base, "trace"), "-e", "trace=/chmod",
            "-e", "inject=/chmod:delay_enter=1000000"]
    os.umask(0)
    server = Server(binary, directory, prefix=slow)
    os.umask(0o022)
    try:
        unfinished = lambda: [path for path in sockets(directory) if path != server.socket]  # noqa: E731
        until("a socket before its mode is set", unfinished, server)
        server.must_be_ready()
        expect(stat.S_IMODE(os.stat(server.socket).st_mode) == 0o660, "the socket's mode")
        expect(os.waitpid(child, os.WNOHANG) == (0, 0), "the other user gave up")
        try:
            who = os.read(connected, 4096).decode()
        except BlockingIOError:
            who = ""
        expect(not who, f"another user connected to {who.split()[:1]}")
    finally:
        os.kill(child, 9)
        server.kill()


def main():
    common.need("strace")
    base = common.scratch()
    report = Report()
    try:
        report.case("closed before it is open", closed_before_it_is_open, sys.argv[1], base)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    report.end()


if __name__ == "__main__":
    main()
