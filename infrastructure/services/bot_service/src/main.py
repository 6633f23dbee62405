"""Tells the people on duty in Nord City what was asked for. Its messenger is the log: no token is needed."""

import os
import sys

sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "..")))

from shared.database import DatabaseClient, DatabaseUnavailable
from shared.service import begin, log, repeat, whole_number


def main():
    stop = begin()
    database = DatabaseClient()
    pause_seconds = whole_number("BOT_POLL_SECONDS", 5, 3600)

    def poll():
        try:
            status, requests = database.ask("POST", "/requests/take")
        except DatabaseUnavailable as error:
            log.warning("No answer from the %s; next try in %d s", error, pause_seconds)
            return
        if status != 200:
            log.error("The database service refuses: status %d", status)
            return
        for request in requests:
            log.info("To the people on duty: %s asks: %s", request["author"], request["text"])
        log.info("Polled the database service: %d new", len(requests))

    log.info("Bot polling started, every %d s", pause_seconds)
    repeat(poll, pause_seconds, stop)


if __name__ == "__main__":
    main()
