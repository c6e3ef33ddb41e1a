"""A worker over SQL: worker.py QUEUE COMMAND [ARGUMENT...] runs the command for each job, with the job on its standard
input, until none waits. Exit status 0 is `executed`, and 65, 67 or 68 `failed` (as in docs/workers.md); after any other
nobody knows, and it is `indeterminate`. What the command prints becomes the result, if it is a JSON object.

Needs psycopg 3 (Debian: python3-psycopg). libpq's variables say where the database is: PGHOST, PGUSER, PGDATABASE,
PGPASSFILE.

Two rules. A job counts as taken only after a commit of which the server did not warn: otherwise a failover may give it to
another. And what became of it is settled here only by its report: until that is in, this asks again, never the command.
"""

import json
import shutil
import subprocess
import sys
import time

import psycopg


# A report holds as much, with the words around it.
RESULT_BYTES_MAX = 256 * 1024 - 100
RESULT_VALUES_MAX = 128 * 1024 - 17
REFUSED = '{"refused":"what the command printed was refused as a result"}'


class Warned(Exception):
    """The server took it, and a failover may lose it."""


class Database:
    """One connection, made anew after every failure."""

    def __init__(self):
        self.connection = None
        self.warned = []

    def call(self, sql, *parameters):
        """The rows of one statement, which is a transaction of its own."""
        try:
            if self.connection is None:
                self.connection = psycopg.connect(autocommit=True, application_name="openexec-worker")
                self.connection.add_notice_handler(self.notice)
                # The functions want it, whatever the database is set to.
                self.connection.execute("SET default_transaction_isolation = 'read committed'")
            self.warned.clear()
            rows = self.connection.execute(sql, parameters).fetchall()
        except psycopg.Error:
            self.connection = None
            raise
        if self.warned:
            raise Warned("; ".join(self.warned))
        return rows

    def notice(self, said):
        if said.severity_nonlocalized not in ("NOTICE", "INFO", "LOG", "DEBUG"):
            self.warned.append(said.message_primary)


def perform(command, job):
    """Runs the command. Give the job's id to the far side as its idempotency key: an operator may release a job."""
    done = subprocess.run(command, input=job.encode(), stdout=subprocess.PIPE)
    printed = done.stdout.decode(errors="replace").replace("\0", "\ufffd")
    outcomes = {0: "executed", 65: "failed", 67: "failed", 68: "failed"}
    return outcomes.get(done.returncode, "indeterminate"), result_of(printed)


def no(again):
    """What a no means: to a job that an operator gave back, nothing of the try before."""
    return "indeterminate" if again else "failed"


def is_plain(value, depth=32):
    """Whether the service takes it: not too deep, numbers that every reader takes for the same, text that is Unicode."""
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, (int, float)):
        return abs(value) < 2**53
    if isinstance(value, dict):
        value = [*value, *value.values()]
    return value is None or depth > 0 and all(is_plain(item, depth - 1) for item in value)


def values_in(value):
    """As the service counts: an object as 16."""
    if isinstance(value, dict):
        return 16 + sum(map(values_in, value.values()))
    return 1 + sum(map(values_in, value)) if isinstance(value, list) else 1


def result_of(printed):
    """What was printed, if it is an object that a report may hold; otherwise the end of it, as text."""
    try:
        result = json.loads(printed)
    except (ValueError, RecursionError):
        result = None
    if isinstance(result, dict) and is_plain(result) and values_in(result) <= RESULT_VALUES_MAX:
        text = json.dumps(result)
        # 1e-05 and 1e-06 are longer in canonical form.
        if len(text) + 3 * text.count("e-0") <= RESULT_BYTES_MAX:
            return text
    return json.dumps({"printed": printed[-4000:]} if printed else {})


def report(database, queue, job_id, outcome, result):
    """Reports until it is in. The same report again is no mistake."""
    while True:
        try:
            database.call("SELECT openexec.complete(%s, %s, %s, %s)", queue, job_id, outcome, result)
            return
        except (psycopg.errors.RaiseException, psycopg.DataError) as error:
            # Refused for what it says: the outcome alone will do, unless another report stands already.
            print(f"{job_id}: the report was refused: {error}", file=sys.stderr)
            if result == REFUSED:
                return
            result = REFUSED
        except (Warned, psycopg.Error) as error:
            print(f"{job_id}: {error}; reporting again", file=sys.stderr)
            time.sleep(1)


def main():
    queue, command = sys.argv[1], sys.argv[2:]
    # One that cannot be started would use up the whole queue.
    if not command or shutil.which(command[0]) is None:
        sys.exit(f"there is no such command: {' '.join(command)}")
    database = Database()
    while True:
        try:
            rows = database.call("SELECT id, job, again FROM openexec.take(%s)", queue)
        except (Warned, psycopg.OperationalError) as error:
            # If a job was taken, it stays so: `openexec-postgres jobs` names it, and an operator releases it.
            sys.exit(f"whether a job was taken is not known: {error}")
        if not rows:
            return
        job_id, job, again = rows[0]
        try:
            outcome, result = perform(command, job)
        except OSError as error:
            report(database, queue, job_id, no(again), json.dumps({"reason": f"the command was not started: {error}"}))
            sys.exit(f"the command was not started: {error}")
        report(database, queue, job_id, no(again) if outcome == "failed" else outcome, result)


if __name__ == "__main__":
    main()
