"""A destination for Tidegate: verifies each delivery, stores it once, answers, and does the work afterwards.

../../README.md says how to run it.
"""

import json
import os
import sqlite3
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook

# The largest body that is accepted, in bytes. Without a limit, anyone could fill the memory.
LARGEST_BODY = 10 * 1024 * 1024
# How long work that failed waits before it is tried again, in seconds.
RETRY_AFTER_S = 10

INBOX = os.environ.get("INBOX", "inbox.db")
something_to_do = threading.Event()


def connect() -> sqlite3.Connection:
    # `isolation_level=None`: transactions begin where the code says so.
    connection = sqlite3.connect(INBOX, timeout=10, isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    # A commit waits for the disk. The answer 2xx says that the event is stored.
    connection.execute("pragma synchronous = full")
    return connection


def prepare() -> None:
    """Creates the tables.

    Tidegate delivers at least once: after a crash or a lost answer the same event comes again, with the same
    webhook-id. The ids are kept in a database and not in memory, because a restart of this program must not forget
    them. Keep them as long as Tidegate can deliver an event again: as long as it keeps bodies, 30 days by default.
    """
    with connect() as connection:
        connection.execute(
            """create table if not exists inbox (
                webhook_id text primary key, body blob not null, received_at real not null,
                not_before real not null default 0, done_at real
            )"""
        )
        connection.execute("create table if not exists results (webhook_id text primary key, type text)")


def store(webhook_id: str, body: bytes) -> None:
    """Stores the event unless it is stored already. When this returns, the event survives a crash of the machine."""
    connection = connect()
    try:
        connection.execute(
            "insert into inbox (webhook_id, body, received_at) values (?, ?, ?) on conflict do nothing",
            (webhook_id, body, time.time()),
        )
    finally:
        connection.close()


def work(connection: sqlite3.Connection, webhook_id: str, body: bytes) -> None:
    """The work: put your own here. What it writes with `connection` is written exactly once."""
    # Parsed only here: until the signature was verified, the body could have been anyone's.
    event = json.loads(body)
    kind = event.get("type") or event.get("status")
    connection.execute("insert into results (webhook_id, type) values (?, ?)", (webhook_id, kind))


def finish_one(connection: sqlite3.Connection) -> bool:
    """Works on the oldest event that is not done, and returns whether there was one."""
    row = connection.execute(
        "select webhook_id, body from inbox where done_at is null and not_before <= ? order by received_at limit 1",
        (time.time(),),
    ).fetchone()
    if row is None:
        return False
    webhook_id, body = row
    connection.execute("begin immediate")
    try:
        work(connection, webhook_id, body)
        # In the same transaction as the work: after a crash there are both or none.
        connection.execute("update inbox set done_at = ? where webhook_id = ?", (time.time(), webhook_id))
        connection.execute("commit")
        print(f"done {webhook_id}", flush=True)
    except Exception as error:
        connection.execute("rollback")
        print(f"failed {webhook_id}: {error}; trying again in {RETRY_AFTER_S} s", file=sys.stderr, flush=True)
        # Later, so that an event whose work always fails does not keep the others waiting.
        again = (time.time() + RETRY_AFTER_S, webhook_id)
        connection.execute("update inbox set not_before = ? where webhook_id = ?", again)
    return True


def work_forever() -> None:
    connection = connect()
    while True:
        if not finish_one(connection):
            something_to_do.wait(timeout=RETRY_AFTER_S)
            something_to_do.clear()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A connection that says nothing for so long is closed, in seconds.
    timeout = 60
    webhook: Webhook

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length") or -1)
        if not 0 <= length <= LARGEST_BODY:
            self.close_connection = True
            return self.answer(411 if length < 0 else 413)
        # As bytes: the signature covers them, and parsing and writing them again would change them.
        body = self.rfile.read(length)
        try:
            self.webhook.verify(body, dict(self.headers), json_parse=False)
        # Any error, not only WebhookVerificationError: a header can be malformed in many ways.
        except Exception as error:
            print(f"refused: {error}", file=sys.stderr, flush=True)
            return self.answer(401)
        try:
            store(self.headers["webhook-id"], body)
        except sqlite3.Error as error:
            print(f"not stored: {error}", file=sys.stderr, flush=True)
            return self.answer(500)  # Tidegate delivers it again later.
        something_to_do.set()
        # Answered before the work is done: Tidegate waits 15 seconds, and work can take longer. What was received
        # before is answered 2xx too, or it would come again and again.
        self.answer(204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    secret = os.environ.get("SIGNING_SECRET")
    if not secret:
        sys.exit("set SIGNING_SECRET to the signing secret of the destination: whsec_…")
    Receiver.webhook = Webhook(secret)
    prepare()
    threading.Thread(target=work_forever, daemon=True).start()
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "9000"))), Receiver)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
