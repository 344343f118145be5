"""What schemathesis is told beside its configuration: how to end answers that have no end of their own, and whose game it is."""

import os
import re

import requests
import requests.adapters
import schemathesis

# What is of a game.
OF_A_GAME = re.compile(r"/api/(state|propose|choose|images/.*)$")
# A start of it, where there is somebody to play on.
START = os.environ.get("HERALD_START", "")
# Bytes of an event stream that are enough to see what it is.
ENOUGH = 4096
BUILD = requests.adapters.HTTPAdapter.build_response


def build_response(self, request, raw):
    """As it was, but an event stream is over after its first events, and a connection that has become a socket is closed."""
    response = BUILD(self, request, raw)
    upgraded = response.status_code == 101
    if upgraded or response.headers.get("content-type", "").startswith("text/event-stream"):
        first = b"" if upgraded else next(raw.stream(ENOUGH), b"")
        response._content, response._content_consumed = first, True
        # It is not to be used for another request.
        raw.close()
    return response


requests.adapters.HTTPAdapter.build_response = build_response


@schemathesis.hook
def before_call(context, case, kwargs):
    """Gives the session of the examples its game, which another session that was started may have taken."""
    if START and OF_A_GAME.search(case.operation.path):
        requests.get(START, headers={"Authorization": os.environ["HERALD_AUTHORIZATION"]}, timeout=20)
