"""Dies of an exception whose traceback is longer than twenty lines."""


def load(depth):
    if depth == 0:
        raise ValueError("no such table: users")
    (load_even if depth % 2 == 0 else load_odd)(depth - 1)


def load_even(depth):
    load(depth)


def load_odd(depth):
    load(depth)


print("connecting", flush=True)
load(10)
