"""The HTTP clients of Python's own library and of requests, and what each hears."""

import http.cookiejar
import sys
import urllib.error
import urllib.parse
import urllib.request

import requests
from requests.auth import HTTPBasicAuth, HTTPDigestAuth

which, base = sys.argv[1:]
user, password = sys.stdin.read().splitlines()


def opener(handler, password):
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password("notebooks", base, user, password)
    none = urllib.request.ProxyHandler({})
    return urllib.request.build_opener(none, handler(passwords))


def refused(open_it):
    try:
        open_it()
    except urllib.error.HTTPError as error:
        return error.code
    except ValueError as error:
        # urllib's word for a challenge after it has answered one.
        return str(error)
    return None


def urllib_says(path, handler, proof):
    right = opener(handler, password)
    for _ in range(3):
        text = right.open(base + path, timeout=20).read().decode()
        assert text.startswith(f"{user} by {proof}\n"), text
    form = urllib.parse.urlencode({"note": "by urllib"}).encode()
    assert right.open(base + path, data=form, timeout=20).status == 204
    assert "- by urllib\n" in right.open(base + path, timeout=20).read().decode()
    wrong = refused(lambda: opener(handler, "wrong").open(base + path, timeout=20))
    assert wrong == 401, wrong


def requests_say(path, auth, proof):
    with requests.Session() as session:
        session.trust_env = False
        session.auth = auth(user, password)
        for count in range(1, 4):
            reply = session.get(base + path, timeout=20)
            assert reply.status_code == 200, reply.text
            assert reply.text.startswith(f"{user} by {proof}\n"), reply.text
            if auth is HTTPDigestAuth:
                # One challenge, and a nonce that is counted on.
                assert len(reply.history) == (1 if count == 1 else 0), reply.history
                sent = reply.request.headers["Authorization"]
                assert f"nc={count:08x}" in sent, sent
        reply = session.post(base + path, data={"note": "by requests"}, timeout=20)
        assert reply.status_code == 204, reply.text
        session.auth = auth(user, "wrong")
        assert session.get(base + path, timeout=20).status_code == 401
        session.auth = None
        assert session.get(base + path, timeout=20).status_code == 401


if which == "urllib":
    urllib_says("/basic", urllib.request.HTTPBasicAuthHandler, "password")
    urllib_says("/digest", urllib.request.HTTPDigestAuthHandler, "DIGEST")
    jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    browser = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)
    assert refused(lambda: browser.open(base + "/me", timeout=20)) == 401
    form = {"username": user, "password": password, "return_to": "/me"}
    page = browser.open(base + "/login", data=urllib.parse.urlencode(form).encode(), timeout=20)
    assert page.url == base + "/me" and f"<h1>{user}</h1>" in page.read().decode(), page.url
    assert browser.open(base + "/logout", data=b"", timeout=20).url == base + "/"
    assert refused(lambda: browser.open(base + "/me", timeout=20)) == 401
else:
    requests_say("/basic", HTTPBasicAuth, "password")
    requests_say("/digest", HTTPDigestAuth, "DIGEST")

print("done")
