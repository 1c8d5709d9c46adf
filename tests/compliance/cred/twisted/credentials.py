"""Credentials that are conversations: CRAM-MD5 and Digest."""

import hashlib
import hmac
import random
import time

from twisted.cred import _digest, credentials, error

from stage import door, login, memory, scenario


def cram(name, word):
    given = credentials.CramMD5Credentials("mail.example")
    challenge = given.getChallenge()
    proof = hmac.new(word.encode(), challenge, "md5").hexdigest()
    given.setResponse(f"{name} {proof}".encode())
    return given


@scenario
def cram_md5():
    at = door(None, memory(ada="countess"))
    tries = [("ada", "countess"), ("ada", "babbage"), ("eve", "countess")]
    return [login(at, cram(*given)) for given in tries]


@scenario
def cram_md5_challenges():
    """Whether whoever knows the state of a generator that is not for secrets knows the challenge."""
    challenges, now = [], time.time
    try:
        time.time = lambda: 1_000_000_000
        for _ in range(2):
            random.seed(7)
            challenges.append(credentials.CramMD5Credentials("mail.example").getChallenge())
    finally:
        time.time = now
    return "foreseen" if challenges[0] == challenges[1] else "not foreseen"


def digest(factory, name, word, nonce=None):
    """The header of a client, to the challenge of a server."""
    challenge = factory.getChallenge("192.0.2.1")
    nonce = challenge["nonce"] if nonce is None else nonce

    def md5(text):
        return hashlib.md5(text.encode()).hexdigest()

    ha1, ha2 = md5(f"{name}:there:{word}"), md5("GET:/")
    response = md5(f"{ha1}:{nonce if isinstance(nonce, str) else nonce.decode()}:00000001:c:auth:{ha2}")
    fields = {
        "username": name,
        "realm": "there",
        "nonce": nonce if isinstance(nonce, str) else nonce.decode(),
        "opaque": challenge["opaque"] if isinstance(challenge["opaque"], str) else challenge["opaque"].decode(),
        "uri": "/",
        "nc": "00000001",
        "cnonce": "c",
        "response": response,
    }
    return (", ".join(f'{key}="{value}"' for key, value in fields.items()) + ", qop=auth").encode()


def answered(at, factory, header):
    try:
        return login(at, factory.decode(header, b"GET", "192.0.2.1"))
    except error.LoginFailed:
        return "refused"


@scenario
def http_digest():
    at, factory = door(None, memory(ada="countess")), credentials.DigestCredentialFactory(b"md5", b"there")
    tries = [("ada", "countess"), ("ada", "babbage"), ("eve", "countess")]
    return [answered(at, factory, digest(factory, *given)) for given in tries]


@scenario
def http_digest_replayed():
    at, factory = door(None, memory(ada="countess")), credentials.DigestCredentialFactory(b"md5", b"there")
    header = digest(factory, "ada", "countess")
    return [answered(at, factory, header) for _ in range(3)]


@scenario
def http_digest_algorithms():
    return sorted(name.decode() for name in _digest.algorithms)
