"""What Twisted's protocols do with each outcome of a login, and with the avatars that they got."""

import base64
import hashlib
import re

from twisted.conch import telnet
from twisted.cred import credentials, error
from twisted.internet import defer
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.mail import imap4, pop3, smtp
from twisted.protocols import ftp
from twisted.python.failure import Failure
from twisted.web import resource
from twisted.web.guard import BasicCredentialFactory, HTTPAuthSessionWrapper
from twisted.web.test.requesthelper import DummyRequest
from zope.interface import implementer

from stage import IOther, Realm, Refusing, checker_of, door, memory, scenario

NAME, WORD = "ada", "countess"


class Wire(StringTransport):
    """A telnet transport that agrees to everything."""

    def will(self, option):
        return defer.succeed(None)

    def wont(self, option):
        return defer.succeed(None)


@implementer(telnet.ITelnetProtocol)
class Shell(telnet.TelnetProtocol):
    pass


class Avatars(Realm):
    """Gives avatars that the protocol at hand can use."""

    def __init__(self, avatar):
        Realm.__init__(self)
        self.avatar = avatar

    def requestAvatar(self, avatar_id, mind, *interfaces):
        self.avatars += 1
        return interfaces[0], self.avatar(), self.logout


class WrongInterface(Avatars):
    def requestAvatar(self, *about):
        _, avatar, logout = Avatars.requestAvatar(self, *about)
        return IOther, avatar, logout


class Spoken:
    """A conversation with a protocol over a string."""

    def __init__(self, protocol, *lines, end=b"\r\n", say=None):
        self.protocol, self.wire = protocol, Wire()
        protocol.makeConnection(self.wire)
        for line in lines:
            self.wire.clear()
            (say or protocol.dataReceived)(line.encode() + end)

    def heard(self):
        return self.wire.value().decode().strip().splitlines()[-1:]

    def leave(self):
        self.protocol.connectionLost(Failure(ConnectionDone()))


def by_pop3(at):
    server = pop3.POP3()
    server.portal = at
    return Spoken(server, f"USER {NAME}", f"PASS {WORD}")


def by_imap(at):
    server = imap4.IMAP4Server()
    server.portal = at
    return Spoken(server, f"1 LOGIN {NAME} {WORD}")


def by_smtp(at):
    server = smtp.ESMTP(chal={b"PLAIN": imap4.PLAINCredentials})
    server.host, server.portal = "mail.example", at
    plain = base64.b64encode(f"\0{NAME}\0{WORD}".encode()).decode()
    return Spoken(server, "EHLO here", "AUTH PLAIN", plain)


def by_ftp(at):
    server = ftp.FTP()
    server.factory, server.portal = ftp.FTPFactory(at), at
    # Its clock is the reactor's, which does not run here: it would wait with the second line for ever.
    server.setTimeout = lambda *_: None
    return Spoken(server, f"USER {NAME}", f"PASS {WORD}", end=b"", say=server.lineReceived)


def by_telnet(at):
    return Spoken(telnet.AuthenticatingTelnetProtocol(at), NAME, WORD, end=b"\n")


TALKS = {"pop3": by_pop3, "imap": by_imap, "smtp": by_smtp, "ftp": by_ftp, "telnet": by_telnet}

AVATAR = {"pop3": pop3.Mailbox, "imap": object, "smtp": object, "ftp": object, "telnet": Shell}


def guard(word=WORD):
    def check(given):
        # FTP gives text, the others bytes.
        said = given.password if isinstance(given.password, bytes) else given.password.encode()
        if said != word.encode():
            raise error.UnauthorizedLogin()
        return NAME.encode()

    return checker_of(credentials.IUsernamePassword, check)


def doors(avatar):
    return {
        "bad password": door(Avatars(avatar), guard("another")),
        "no checker": door(Avatars(avatar)),
        "LoginDenied": door(Refusing(error.LoginDenied("quota exceeded")), guard()),
        "no interface": door(Refusing(NotImplementedError("no interface")), guard()),
        "another interface": door(WrongInterface(avatar), guard()),
    }


def reply(talk):
    text = " ".join(talk.heard())
    return re.sub(r"\s+", " ", text).strip()


def outcomes(name):
    return {what: reply(TALKS[name](at)) for what, at in doors(AVATAR[name]).items()}


@scenario
def outcomes_by_pop3():
    return outcomes("pop3")


@scenario
def outcomes_by_imap():
    return outcomes("imap")


@scenario
def outcomes_by_smtp():
    return outcomes("smtp")


@scenario
def outcomes_by_ftp():
    return outcomes("ftp")


@scenario
def outcomes_by_telnet():
    """Telnet asks again whatever it was."""
    return outcomes("telnet")


@scenario
def outcomes_by_http():
    said = {}
    for what, at in doors(resource.Resource).items():
        request = DummyRequest([b""])
        proof = base64.b64encode(f"{NAME}:{WORD}".encode())
        request.requestHeaders.addRawHeader(b"authorization", b"Basic " + proof)
        wrapper = HTTPAuthSessionWrapper(at, [BasicCredentialFactory(b"there")])
        try:
            request.render(wrapper)
            said[what] = str(request.responseCode or 200)
        except Exception as broken:
            said[what] = f"raises {type(broken).__name__}"
    return said


@scenario
def avatars_of_an_interface_that_was_refused():
    """Avatars made and logged out, when a realm gives what the protocol did not ask for."""
    counts = {}
    for name, talk in TALKS.items():
        realm = WrongInterface(AVATAR[name])
        talk(door(realm, guard())).leave()
        counts[name] = [realm.avatars, realm.logouts]
    return counts


@scenario
def avatars_of_clients_that_had_left():
    """Avatars made and logged out, when the checker succeeds after the client has gone."""
    counts = {}
    for name, talk in TALKS.items():
        realm, waiting = Avatars(AVATAR[name]), defer.Deferred()
        spoken = talk(door(realm, checker_of(credentials.IUsernamePassword, lambda _, w=waiting: w)))
        spoken.leave()
        waiting.callback(NAME.encode())
        counts[name] = [realm.avatars, realm.logouts]
    return counts


@scenario
def avatars_of_clients_that_leave():
    """Avatars made and logged out, when a client that is logged in goes."""
    counts = {}
    for name, talk in TALKS.items():
        realm = Avatars(AVATAR[name])
        spoken = talk(door(realm, guard()))
        try:
            spoken.leave()
        except Exception as broken:
            counts[name] = f"raises {type(broken).__name__}"
            continue
        counts[name] = [realm.avatars, realm.logouts]
    return counts


@scenario
def pop3_auth_of_two_rounds():
    server = pop3.POP3()
    server.portal = door(Avatars(pop3.Mailbox), guard())

    class Factory:
        challengers = {b"LOGIN": imap4.LOGINCredentials}

        def cap_IMPLEMENTATION(self):
            return "x"

    server.factory = Factory()
    spoken = Spoken(server, "AUTH LOGIN", base64.b64encode(NAME.encode()).decode())
    return reply(spoken)


@scenario
def apop_over_pop3():
    """The right proof and a wrong one, with the password at hand."""
    said = []
    for word in [b"countess", b"babbage"]:
        server = pop3.POP3()
        server.magic = b"<1896.697170952@mail.example>"
        server.portal = door(Avatars(pop3.Mailbox), memory(ada="countess"))
        proof = hashlib.md5(server.magic + word).hexdigest()
        said.append(reply(Spoken(server, f"APOP {NAME} {proof}")))
    return said
