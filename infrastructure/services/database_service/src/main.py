"""Keeps what the citizens of Nord City ask for, in an SQLite file, and answers over HTTP.

GET  /requests        all of them, the newest first (at most 100)
POST /requests        {"author": ..., "text": ...} adds one
POST /requests/take   hands out those nobody has taken yet, once
"""

import contextlib
import json
import os
import sqlite3
import sys

sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "..")))

from shared.http_server import BadRequest, json_answer, serve
from shared.service import INFRASTRUCTURE, begin, log, one_line, port

TABLE = """CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
    author TEXT NOT NULL,
    text TEXT NOT NULL,
    taken INTEGER NOT NULL DEFAULT 0
)"""
COLUMNS = "id, created_at, author, text, taken"
LONGEST_TEXT = 1000


class Requests:
    """The table. A connection for each question: SQLite's locks keep threads and processes apart."""

    def __init__(self, file):
        self._file = file
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with self._open() as database:
            database.execute(TABLE)

    @contextlib.contextmanager
    def _open(self):
        with contextlib.closing(sqlite3.connect(self._file, timeout=3)) as database:
            database.row_factory = sqlite3.Row
            with database:
                yield database

    def count(self):
        with self._open() as database:
            return database.execute("SELECT count(*) FROM requests").fetchone()[0]

    def newest(self):
        with self._open() as database:
            rows = database.execute(f"SELECT {COLUMNS} FROM requests ORDER BY id DESC LIMIT 100")
            return [_as_json(row) for row in rows]

    def add(self, author, text):
        with self._open() as database:
            added = database.execute(
                "INSERT INTO requests (author, text) VALUES (?, ?)", (author, text)
            ).lastrowid
            return _as_json(
                database.execute(f"SELECT {COLUMNS} FROM requests WHERE id = ?", (added,)).fetchone()
            )

    def take(self):
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")  # two who ask at once must not get the same
            rows = database.execute(f"SELECT {COLUMNS} FROM requests WHERE NOT taken ORDER BY id").fetchall()
            database.execute("UPDATE requests SET taken = 1 WHERE NOT taken")
            return [{**_as_json(row), "taken": True} for row in rows]


def _as_json(row):
    return {**dict(row), "taken": bool(row["taken"])}


def words(value, name):
    """The member `name` of a request, as one line. Raises BadRequest."""
    text = one_line(value[name]) if isinstance(value, dict) and isinstance(value.get(name), str) else ""
    if not 1 <= len(text) <= LONGEST_TEXT:
        raise BadRequest(f'"{name}" must be a text of 1 to {LONGEST_TEXT} characters')
    return text


def unless_locked(route):
    """A file that is locked, full or gone is a failure of the moment, told without a stack."""

    def answer(body):
        try:
            return route(body)
        except sqlite3.Error as error:
            log.error("The database file can't be used: %s", error)
            return json_answer({"error": "the database file can't be used"}, 503)

    return answer


def routes_over(requests):
    def health(_body):
        return json_answer({"status": "ok", "requests": requests.count()})

    def newest(_body):
        return json_answer(requests.newest())

    def add(body):
        try:
            value = json.loads(body)
        except ValueError:
            raise BadRequest("the body is not JSON") from None
        return json_answer(requests.add(words(value, "author"), words(value, "text")), 201)

    def take(_body):
        return json_answer(requests.take())

    return {
        ("GET", "/health"): unless_locked(health),
        ("GET", "/requests"): unless_locked(newest),
        ("POST", "/requests"): unless_locked(add),
        ("POST", "/requests/take"): unless_locked(take),
    }


def main():
    stop = begin()
    number = port("DATABASE_SERVICE_PORT", 8001)
    file = os.environ.get("DATABASE_FILE") or "data/nord_city.sqlite"
    try:
        requests = Requests(os.path.join(INFRASTRUCTURE, file))
        log.info("Database connected, %d requests in %s", requests.count(), file)
    except (OSError, sqlite3.Error) as error:
        sys.exit(f"Cannot use {file} as the database: {error}. DATABASE_FILE names another one.")
    serve(number, routes_over(requests), "Database service started", stop)


if __name__ == "__main__":
    main()
