"""Single requests, for looking and checking; measuring is done by wrk and `bookends load`."""

import http.client
import json


def get(port, path, headers=None, timeout=10.0):
    """Status, headers and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.getheaders(), response.read()
    finally:
        connection.close()


def get_json(port, path, headers=None):
    return json.loads(get(port, path, headers)[2])


def is_ok(port, path):
    """Whether a server answers a path with 200 by now."""
    try:
        return get(port, path, timeout=1.0)[0] == 200
    except (OSError, http.client.HTTPException):
        return False
