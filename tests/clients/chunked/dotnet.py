"""What .NET's HttpClient puts on the wire for PostAsJsonAsync: POSTs standard input to a URL, prints status and body.

Not .NET itself, which Debian does not have. The head is in HttpClient's order, a chunk is what its buffer of 4 KiB
held, sizes are in upper case, and the last chunk comes in a write of its own (ChunkedEncodingWriteStream)."""
import http.client
import socket
import sys
import urllib.parse

url = urllib.parse.urlsplit(sys.argv[1])
stream = socket.create_connection((url.hostname, url.port))
head = (f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nTransfer-Encoding: chunked\r\n"
        "Content-Type: application/json; charset=utf-8\r\n\r\n")
stream.sendall(head.encode())
while piece := sys.stdin.buffer.read(4096):
    stream.sendall(b"%X\r\n" % len(piece))
    stream.sendall(piece + b"\r\n")
stream.sendall(b"0\r\n\r\n")
answer = http.client.HTTPResponse(stream)
answer.begin()
print(answer.status)
print(answer.read().decode())
