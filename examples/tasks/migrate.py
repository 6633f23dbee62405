"""Makes the table that the order service works on. Safe to run again."""

import os
import sqlite3

path = os.path.join(os.environ.get("DATA_DIR", "."), "orders.sqlite")
with sqlite3.connect(path) as database:
    database.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, placed_at TEXT DEFAULT CURRENT_TIMESTAMP)")
print(f"{path} is up to date")
