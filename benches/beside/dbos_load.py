"""Durable workflows of one step, as fast as so many threads can: run.py starts it.

    python3 dbos_load.py URL THREADS SECONDS

Prints one line of JSON: workflows finished a second, and the median of one in ms.
"""

import json
import statistics
import sys
import threading
import time

from dbos import DBOS, SetWorkflowID

url, threads, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
DBOS(config={"name": "beside", "system_database_url": url, "log_level": "ERROR", "run_admin_server": False})


@DBOS.step()
def step(payload):
    return {"echo": payload}


@DBOS.workflow()
def execute(payload):
    return step(payload)


DBOS.launch()
end = time.monotonic() + seconds
times = []


def work(thread):
    number = 0
    while time.monotonic() < end:
        number += 1
        began = time.monotonic()
        with SetWorkflowID(f"{time.time_ns()}-{thread}-{number}"):
            execute({"amount": number, "note": "a payload of ordinary size"})
        times.append(time.monotonic() - began)


workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
began = time.monotonic()
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
took = time.monotonic() - began
print(json.dumps({"rate": len(times) / took, "p50_ms": statistics.median(times) * 1000}))
sys.stdout.flush()
DBOS.destroy()
