"""Leaves a process behind that is in no group of ours and keeps the port: escapes.py PORT"""
import os
import signal
import socket
import sys
import time

listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen()
away, tell = os.pipe()
pid = os.fork()
if pid == 0:
    os.setsid()
    os.write(tell, b".")
    null = os.open("/dev/null", os.O_RDWR)
    for fd in 0, 1, 2:
        os.dup2(null, fd)
    time.sleep(1000)
    os._exit(0)
os.read(away, 1)  # before that it is in our group still
print("escaped", pid, flush=True)
signal.pause()
