"""The page on which the citizens of Nord City ask for things. It keeps nothing: the database service does.

GET  /           the page
GET  /requests   what it shows, as JSON
POST /requests   the page's form
"""

import html
import os
import sys
import urllib.parse

sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "..")))

from shared.database import DatabaseClient, DatabaseUnavailable
from shared.http_server import BadRequest, health, json_answer, page, see_other, serve
from shared.service import begin, log, port

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Nord City</title>
<h1>Nord City</h1>
<form method="post" action="/requests">
<input name="author" placeholder="Your name" required maxlength="1000">
<input name="text" placeholder="What should the city do?" required maxlength="1000" size="60">
<button>Ask</button>
</form>
<ul>
{items}
</ul>
"""
ITEM = "<li>{created_at} <b>{author}</b>: {text} ({state})</li>"


def item(request):
    shown = {name: html.escape(request[name]) for name in ("created_at", "author", "text")}
    return ITEM.format(state="taken" if request["taken"] else "new", **shown)


def unless_down(route):
    """Without the database service there is no answer, yet this service goes on."""

    def answer(body):
        try:
            return route(body)
        except DatabaseUnavailable as error:
            log.warning("No answer from the %s", error)
            return json_answer({"error": "the database service does not answer; try again soon"}, 503)

    return answer


def routes_over(database):
    def home(_body):
        _, requests = database.ask("GET", "/requests")
        return page(PAGE.format(items="\n".join(map(item, requests))))

    def as_json(_body):
        status, requests = database.ask("GET", "/requests")
        return json_answer(requests, status)

    def add(body):
        try:
            fields = urllib.parse.parse_qs(body.decode(), max_num_fields=10)
        except ValueError:
            raise BadRequest("the form can't be read") from None
        request = {name: fields.get(name, [""])[0] for name in ("author", "text")}
        status, answer = database.ask("POST", "/requests", request)
        return see_other("/") if status == 201 else json_answer(answer, status)

    return {
        ("GET", "/health"): health,
        ("GET", "/"): unless_down(home),
        ("GET", "/requests"): unless_down(as_json),
        ("POST", "/requests"): unless_down(add),
    }


def main():
    stop = begin()
    serve(port("WEB_SERVICE_PORT", 8003), routes_over(DatabaseClient()), "Web service started", stop)


if __name__ == "__main__":
    main()
