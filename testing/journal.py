"""Writes what happens to it into the file $JOURNAL, and takes its time to stop: journal.py NAME [SECONDS]"""
import os
import signal
import sys
import time

name = sys.argv[1]
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 0
STOP = {signal.SIGTERM, signal.SIGUSR1}


def note(what):
    with open(os.environ["JOURNAL"], "a") as journal:
        journal.write(f"{name} {what}\n")


signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
note("started")
print(f"{name} is up", flush=True)
number = signal.sigwait(STOP)
note("stopping")
time.sleep(seconds)
note("stopped")
print(f"{name} got {signal.Signals(number).name}", flush=True)
