"""Several factors: the one checker of Twisted that asks for them."""

from twisted.conch import error as conch
from twisted.conch.checkers import SSHProtocolChecker
from twisted.cred import checkers, credentials
from twisted.internet import defer

from stage import Realm, checker_of, door, memory, password, scenario, word


def attempt(at, given):
    results = []
    at.login(given, None, credentials.ICredentials).addBoth(results.append)
    result = results[0]
    if not isinstance(result, tuple) and result.check(conch.NotEnoughAuthentication):
        return "more is asked"
    return word(result)


@scenario
def factors_of_two_connections():
    """A password on one connection, a key on another: does the second get in?"""
    both = SSHProtocolChecker()
    both.registerChecker(memory(ada="countess"))
    both.registerChecker(checker_of(credentials.ISSHPrivateKey, lambda given: given.username))
    both.areDone = lambda name: len(both.successfulCredentials[name]) == 2
    at = door(Realm(), both)
    key = credentials.SSHPrivateKey(b"ada", b"ssh-ed25519", b"blob", b"data", b"signature")
    one = attempt(at, password("ada", "countess"))
    two = attempt(at, key)
    return {"a password on one connection": one, "a key on another": two}
