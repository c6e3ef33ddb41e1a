"""requests with a generator as its body: POSTs standard input to a URL, prints status and body."""
import sys

import requests

pieces = iter(lambda: sys.stdin.buffer.read(1000), b"")
answer = requests.post(sys.argv[1], data=pieces, headers={"Content-Type": "application/json"}, timeout=30)
print(answer.status_code)
print(answer.text)
