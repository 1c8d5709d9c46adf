"""What scenarios share: words for outcomes, realms that count, and checkers that do as told."""

from twisted.cred import checkers, credentials, error, portal
from twisted.internet import defer
from zope.interface import Interface, implementer


def scenario(function):
    function.scenario = True
    return function


class IMailbox(Interface):
    """What a protocol asks for."""


class IOther(Interface):
    """What it did not ask for."""


class Realm:
    """Gives every avatar, counts them and their ends, and tells whom and what it saw."""

    def __init__(self):
        self.avatars = self.logouts = 0
        self.seen = []

    def requestAvatar(self, avatar_id, mind, *interfaces):
        self.avatars += 1
        self.seen.append((avatar_id, mind))
        return interfaces[0], avatar_id, self.logout

    def logout(self):
        self.logouts += 1


class Refusing:
    """A realm that fails in one way."""

    def __init__(self, failure):
        self.failure = failure

    def requestAvatar(self, avatar_id, mind, *interfaces):
        raise self.failure


def checker_of(interface, check):
    """A checker of one kind of credentials that is one function."""

    @implementer(checkers.ICredentialsChecker)
    class Checker:
        credentialInterfaces = (interface,)

        def requestAvatarId(self, given):
            return check(given)

    return Checker()


def memory(**users):
    return checkers.InMemoryUsernamePasswordDatabaseDontUse(
        **{name: password.encode() for name, password in users.items()}
    )


def password(name, word):
    return credentials.UsernamePassword(name.encode(), word.encode())


def login(door, given, *interfaces, mind=None):
    """The outcome of a login, in a word or two."""
    return outcome(door.login(given, mind, *(interfaces or (IMailbox,))))


def outcome(waiting):
    results = []
    waiting.addBoth(results.append)
    if not results:
        return "waits"
    return word(results[0])


def word(result):
    if isinstance(result, tuple):
        name = result[1]
        return f"granted {name.decode() if isinstance(name, bytes) else name}"
    failure = result
    for kind, said in [
        (error.UnauthorizedLogin, "refused"),
        (error.UnhandledCredentials, "unsupported"),
        (error.LoginDenied, "try later"),
        (error.LoginFailed, "refused"),
        (defer.CancelledError, "cancelled"),
    ]:
        if failure.check(kind):
            return said
    return "broke"


def door(realm=None, *guards):
    return portal.Portal(realm or Realm(), guards)
