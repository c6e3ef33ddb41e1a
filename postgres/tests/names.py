#!/usr/bin/env python3
"""A name server (RFC 1035) whose answers fit into no datagram: each is asked for once more, over TCP.

    names.py ADDRESS NAME=ADDRESS...      answers at port 53 of ADDRESS; says so once it does
"""

import ipaddress
import socket
import struct
import sys
import threading

A, IN = 1, 1
# An answer that was recursive, as it was asked to be; and one that was cut short.
ANSWER, CUT = 0x8180, 0x8380
TTL_S = 60


def asked(question):
    """The name and the type, and what stands behind both."""
    labels, at = [], 12
    while question[at]:
        end = at + 1 + question[at]
        labels.append(question[at + 1:end].decode())
        at = end
    return ".".join(labels), struct.unpack_from(">H", question, at + 1)[0], at + 5


def answer(question, known, is_whole):
    name, kind, end = asked(question)
    address = known.get(name) if kind == A and is_whole else None
    head = struct.pack(">HHHHH", ANSWER if is_whole else CUT, 1, int(address is not None), 0, 0)
    text = question[:2] + head + question[12:end]
    if address is not None:
        packed = ipaddress.IPv4Address(address).packed
        text += struct.pack(">HHHIH", 0xC00C, A, IN, TTL_S, len(packed)) + packed
    return text


def over_tcp(listener, known):
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb") as stream:
            while len(length := stream.read(2)) == 2:
                text = answer(stream.read(struct.unpack(">H", length)[0]), known, True)
                stream.write(struct.pack(">H", len(text)) + text)
                stream.flush()


def main():
    place = (sys.argv[1], 53)
    known = dict(word.split("=") for word in sys.argv[2:])
    listener = socket.create_server(place)
    threading.Thread(target=over_tcp, args=(listener, known), daemon=True).start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(place)
        print("answers", flush=True)
        while True:
            question, whence = datagrams.recvfrom(512)
            datagrams.sendto(answer(question, known, False), whence)


if __name__ == "__main__":
    main()
