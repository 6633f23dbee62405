"""What every service does in the same way: read settings, log, and stop when asked."""

import logging
import os
import select
import signal
import socket
import sys
import threading
import time

INFRASTRUCTURE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# How long work under way may take after a request to stop.
GRACE_SECONDS = 0.4

log = logging.getLogger("nord_city")


def begin():
    """To be called first: from here on there is a log, one line a message, and a stop is a request."""
    if hasattr(sys.stdout, "reconfigure"):
        # Whatever the locale: a name in another script must not end a service.
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    logging.raiseExceptions = False  # nobody reads the log any more: not a reason to fill stderr with that
    logging.basicConfig(
        stream=sys.stdout,
        level=logging.INFO,
        format="%(asctime)s - %(levelname)s - %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
    )
    return StopRequest()


def whole_number(variable, default, largest):
    """The setting in `variable`, from 1 to `largest`; anything else ends the program with a sentence."""
    text = os.environ.get(variable, str(default))
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 9 and 1 <= int(text) <= largest):
        sys.exit(f"{variable} is not a whole number from 1 to {largest}; correct it in infrastructure/.env.")
    return int(text)


def port(variable, default):
    """The port number in `variable`."""
    return whole_number(variable, default, 65535)


def one_line(text):
    """`text` without anything that could break a line of the log or move a cursor."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


class StopRequest:
    """Becomes readable, as a socket does, on SIGTERM or SIGINT.

    The signal only writes a byte: nothing is interrupted at a place that did not expect it.
    """

    def __init__(self):
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def fileno(self):
        return self._receiver.fileno()

    def wait(self, other=()):
        """Waits for the request or one of `other`; whether it was the request."""
        return self in select.select([self, *other], [], [])[0]


def repeat(work, pause_seconds, stop):
    """Does `work` again and again, with a pause in between, until asked to stop. A mistake in it ends the program."""
    stopping = threading.Event()

    def loop():
        while not stopping.is_set():
            try:
                work()
            except Exception:
                log.exception("A mistake in the work that repeats")
                os._exit(1)  # the main thread would wait for ever
            stopping.wait(pause_seconds)

    # In a thread, so that a request to stop need not wait for an answer from the network.
    threading.Thread(target=loop, daemon=True).start()
    stop.wait()
    stopping.set()
    leave()


def leave():
    """Ends the program with status 0, after the work under way or the grace, whichever is shorter."""
    deadline = time.monotonic() + GRACE_SECONDS
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(max(0, deadline - time.monotonic()))
    log.info("Stopped")
    logging.shutdown()
    os._exit(0)  # an orderly exit would trip over threads that are still waiting for a slow peer
