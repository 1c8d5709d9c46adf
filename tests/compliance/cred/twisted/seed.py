"""The examples of the page on Cred, as they are there as far as today's Python runs them.

`print` is a function, `implements` a decorator, strings that are sent are bytes, and what the sketch of
POP3 leaves out ("# ...") is filled in with the least that runs: lines become calls of `do_`.
"""

from twisted.cred import credentials, error
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet import defer
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.protocols import basic
from twisted.python.failure import Failure
from twisted.spread import pb
from zope.interface import Interface, implementer

from stage import scenario


class IMailbox(Interface):
    """Interface specification for mailbox."""

    def deleteMessage(index):
        pass


class POP3(basic.LineReceiver):
    _userIs = mbox = _onLogout = None

    def __init__(self, portal):
        self.portal = portal

    def lineReceived(self, line):
        command, _, rest = line.partition(b" ")
        do = getattr(self, "do_" + command.decode(), None)
        if do is None:
            self.failResponse("no such command")
        elif rest:
            do(rest)
        else:
            do()

    def successResponse(self, text=""):
        self.sendLine(b"+OK " + text.encode())

    def failResponse(self, text):
        self.sendLine(b"-ERR " + text.encode())

    def do_QUIT(self):
        self.successResponse("bye")
        self.transport.loseConnection()

    def connectionLost(self, reason):
        if self._onLogout is not None:
            self._onLogout()
            self._onLogout = None

    def do_DELE(self, i):
        # uses self.mbox, which is set after login
        if self.mbox is None:
            self.failResponse("log in first")
            return
        i = int(i) - 1
        self.mbox.deleteMessage(i)
        self.successResponse()

    def do_USER(self, user):
        self._userIs = user
        self.successResponse("USER accepted, send PASS")

    def do_PASS(self, password):
        if self._userIs is None:
            self.failResponse("USER required before PASS")
            return
        user = self._userIs
        self._userIs = None
        d = defer.maybeDeferred(self.authenticateUserPASS, user, password)
        d.addCallback(self._cbMailbox, user)

    def authenticateUserPASS(self, user, password):
        if self.portal is not None:
            return self.portal.login(credentials.UsernamePassword(user, password), None, IMailbox)
        raise error.UnauthorizedLogin()

    def _cbMailbox(self, ial, user):
        interface, avatar, logout = ial
        if interface is not IMailbox:
            self.failResponse("Authentication failed")
            return
        self.mbox = avatar
        self._onLogout = logout
        self.successResponse("Authentication succeeded")


@implementer(IMailbox)
class Mailbox:
    def __init__(self):
        self.deleted = []

    def deleteMessage(self, index):
        self.deleted.append(index)


@implementer(IRealm)
class MailRealm:
    def __init__(self):
        self.mailboxes, self.logouts = [], 0

    def requestAvatar(self, avatarId, mind, *interfaces):
        if IMailbox in interfaces:
            self.mailboxes.append(Mailbox())
            return IMailbox, self.mailboxes[-1], self.logout
        raise NotImplementedError("no interface")

    def logout(self):
        self.logouts += 1


def mail(*lines):
    realm = MailRealm()
    portal = Portal(realm)
    checker = InMemoryUsernamePasswordDatabaseDontUse()
    checker.addUser(b"guest", b"password")
    portal.registerChecker(checker)
    server, wire = POP3(portal), StringTransport()
    server.makeConnection(wire)
    heard = []
    for line in lines:
        wire.clear()
        server.dataReceived(line.encode() + b"\r\n")
        said = wire.value().decode().strip()
        heard.append(said.split(" ")[0] if said else "nothing at all")
    server.connectionLost(Failure(ConnectionDone()))
    deleted = [index for mailbox in realm.mailboxes for index in mailbox.deleted]
    return {"heard": heard, "deleted": deleted, "mailboxes": len(realm.mailboxes), "logouts": realm.logouts}


@scenario
def seed_pop3():
    return mail("USER guest", "PASS password", "DELE 2", "QUIT")


@scenario
def seed_pop3_out_of_order():
    return mail("PASS password", "DELE 1", "USER guest", "PASS password", "PASS password", "QUIT")


@scenario
def seed_pop3_with_a_wrong_password():
    return mail("USER guest", "PASS wrong")


class SimplePerspective(pb.Avatar):
    said = []

    def perspective_echo(self, text):
        self.said.append(f"echoing {text}")
        return text

    def logout(self):
        self.said.append("logged out")


@implementer(IRealm)
class SimpleRealm:
    def requestAvatar(self, avatarId, mind, *interfaces):
        if pb.IPerspective in interfaces:
            avatar = SimplePerspective()
            return pb.IPerspective, avatar, avatar.logout
        else:
            raise NotImplementedError("no interface")


@scenario
def seed_remote_object():
    """Deployed as on the page, but over the two ends of a string, and with bytes."""
    del SimplePerspective.said[:]
    portal = Portal(SimpleRealm())
    checker = InMemoryUsernamePasswordDatabaseDontUse()
    checker.addUser(b"guest", b"password")
    portal.registerChecker(checker)
    results = []
    portal.login(credentials.UsernamePassword(b"guest", b"password"), None, pb.IPerspective).addBoth(results.append)
    _, avatar, logout = results[0]
    echoed = avatar.perspective_echo("hello")
    logout()
    refused = []
    portal.login(credentials.UsernamePassword(b"guest", b"wrong"), None, pb.IPerspective).addErrback(refused.append)
    return {"echoed": echoed, "said": list(SimplePerspective.said), "wrong": "refused" if refused else "granted"}
