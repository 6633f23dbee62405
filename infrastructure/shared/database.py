"""Asks the database service, for the services that depend on it."""

import http.client
import json

from shared.service import port


class DatabaseUnavailable(Exception):
    """No usable answer; the message says why, in one line."""


class DatabaseClient:
    def __init__(self):
        self._port = port("DATABASE_SERVICE_PORT", 8001)

    def ask(self, method, path, value=None):
        """The status and the JSON value of the answer. Raises DatabaseUnavailable."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=3)
        try:
            connection.request(method, path, None if value is None else json.dumps(value))
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DatabaseUnavailable(f"database service on port {self._port}: {reason}") from None
        finally:
            connection.close()
        if response.status >= 500:
            raise DatabaseUnavailable(f"database service on port {self._port}: status {response.status}")
        return response.status, answer
