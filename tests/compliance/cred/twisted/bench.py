"""Twisted's side of `cargo xtask bench cred`.

    main.py --bench portal CASE SECONDS [FILE]   logins in a loop; prints {"rate": 1/s, "cpu": µs each}
    main.py --bench pop3 USERS                   serves POP3 as the page on Cred sketches it; prints its port
"""

import json
import time

from twisted.cred import checkers, credentials
from twisted.cred.portal import IRealm, Portal
from zope.interface import implementer

import seed

USERS = 1000


@implementer(IRealm)
class Realm:
    def requestAvatar(self, avatar_id, mind, *interfaces):
        return interfaces[0], avatar_id, self.logout

    def logout(self):
        pass


def memory(users=USERS):
    guard = checkers.InMemoryUsernamePasswordDatabaseDontUse()
    for user in range(1, users + 1):
        guard.addUser(b"u%d" % user, b"secret%d" % user)
    return guard, users


def of_file(path, cache):
    with open(path, "rb") as file:
        users = sum(1 for _ in file)
    return checkers.FilePasswordDB(path, cache=cache), users


def portal(case, seconds, path=None):
    guard, users = memory() if case == "memory" else of_file(path, case == "file-cached")
    at = Portal(Realm(), [guard])
    # All of them in turn, in the order in which they come.
    turns = [1 + number * 7919 % users for number in range(users)]
    names = [(b"u%d" % user, b"secret%d" % user) for user in turns]
    seen = []

    def enter(number):
        name, word = names[number % users]
        at.login(credentials.UsernamePassword(name, word), None, seed.IMailbox).addCallbacks(ended, seen.append)

    def ended(result):
        result[2]()

    # Not one login is a batch where each reads a large file.
    batch = 1 if case == "file" else 200
    for number in range(batch):
        enter(number)
    begun, used, done, until = time.perf_counter(), time.process_time(), 0, time.perf_counter() + float(seconds)
    while time.perf_counter() < until:
        for number in range(done, done + batch):
            enter(number)
        done += batch
    took, used = time.perf_counter() - begun, time.process_time() - used
    assert not seen, seen[0]
    print(json.dumps({"rate": done / took, "cpu": used / done * 1e6}))


@implementer(IRealm)
class Mail:
    def requestAvatar(self, avatar_id, mind, *interfaces):
        if seed.IMailbox in interfaces:
            return seed.IMailbox, seed.Mailbox(), self.logout
        raise NotImplementedError("no interface")

    def logout(self):
        pass


class Server(seed.POP3):
    """The sketch, with a greeting, and with an answer to a wrong password."""

    def connectionMade(self):
        self.successResponse("ready")

    def do_PASS(self, password):
        user, self._userIs = self._userIs, None
        if user is None:
            return self.failResponse("USER required before PASS")
        waiting = self.authenticateUserPASS(user, password)
        waiting.addCallbacks(self._cbMailbox, lambda _: self.failResponse("Authentication failed"), [user])


def pop3(users):
    from twisted.internet import protocol, reactor

    guard, _ = memory(int(users))
    at = Portal(Mail(), [guard])

    class Factory(protocol.Factory):
        noisy = False

        def buildProtocol(self, address):
            return Server(at)

    port = reactor.listenTCP(0, Factory(), interface="127.0.0.1", backlog=1024)
    print(port.getHost().port, flush=True)
    reactor.run()


def main(words):
    {"portal": portal, "pop3": pop3}[words[0]](*words[1:])
