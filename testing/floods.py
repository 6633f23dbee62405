"""Prints numbered lines of 100 bytes: floods.py COUNT [NAME], without an end for a COUNT of 0."""
import os
import sys

count = int(sys.argv[1])
name = (sys.argv[2] if len(sys.argv) > 2 else "flood")[:20]
number = 0


def write(data):
    while data:
        data = data[os.write(1, data):]


while count == 0 or number < count:
    last = number + 1000 if count == 0 else min(number + 1000, count)
    lines = [f"{name} {n:09d} " for n in range(number, last)]
    write("".join(line + "x" * (99 - len(line)) + "\n" for line in lines).encode())
    number = last
