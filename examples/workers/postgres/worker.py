"""A worker over SQL: worker.py QUEUE COMMAND [ARGUMENT...] runs the command for each job, with the job on its standard
input, until none waits. Exit status 0 is `executed`, and 65, 67 or 68 `failed` (as in docs/workers.md); after any other
nobody knows, and it is `indeterminate`. What the command prints becomes the result, if it is a JSON object.

Needs psycopg 3 (Debian: python3-psycopg). libpq's variables say where the database is: PGHOST, PGUSER, PGDATABASE,
PGPASSFILE.

Two rules. A job counts as taken only after a commit of which the server did not warn: otherwise a failover may give it to
another. And what became of it is settled here only by its report: until that is in, this asks again, never the command.
"""

import json
import subprocess
import sys
import time

import psycopg


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
        except psycopg.OperationalError:
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
    done = subprocess.run(command, input=job, stdout=subprocess.PIPE, text=True)
    try:
        result = json.loads(done.stdout)
    except ValueError:
        result = None
    if not isinstance(result, dict):
        result = {"printed": done.stdout[-4000:]} if done.stdout else {}
    outcomes = {0: "executed", 65: "failed", 67: "failed", 68: "failed"}
    return outcomes.get(done.returncode, "indeterminate"), json.dumps(result)


def report(database, queue, job_id, outcome, result):
    """Reports until it is in. The same report again is no mistake."""
    while True:
        try:
            database.call("SELECT openexec.complete(%s, %s, %s, %s)", queue, job_id, outcome, result)
            return
        except (Warned, psycopg.OperationalError) as error:
            print(f"{job_id}: {error}; reporting again", file=sys.stderr)
            time.sleep(1)


def main():
    queue, command = sys.argv[1], sys.argv[2:]
    database = Database()
    while True:
        try:
            rows = database.call("SELECT id, job FROM openexec.take(%s)", queue)
        except (Warned, psycopg.OperationalError) as error:
            # If a job was taken, it stays so: `openexec-postgres jobs` names it, and an operator releases it.
            sys.exit(f"whether a job was taken is not known: {error}")
        if not rows:
            return
        job_id, job = rows[0]
        report(database, queue, job_id, *perform(command, job))


if __name__ == "__main__":
    main()
