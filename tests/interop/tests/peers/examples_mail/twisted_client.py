"""Twisted's own POP3 and IMAP clients on a mailbox with two messages: twisted_client.py POP3-PORT IMAP-PORT.

The user and the password come on standard input.
"""

import sys

from twisted.internet import defer, endpoints, task
from twisted.mail import imap4, pop3

ports = list(map(int, sys.argv[1:]))
user, password = (word.encode() for word in sys.stdin.read().split("\n")[:2])


class Pop3(pop3.AdvancedPOP3Client):
    allowInsecureLogin = True

    def __init__(self):
        self.greeted = defer.Deferred()

    def serverGreeting(self, greeting):
        pop3.AdvancedPOP3Client.serverGreeting(self, greeting)
        self.greeted.callback(self)


class Imap(imap4.IMAP4Client):
    def __init__(self):
        imap4.IMAP4Client.__init__(self)
        self.greeted = defer.Deferred()

    def serverGreeting(self, capabilities):
        self.greeted.callback(self)


async def connect(reactor, port, protocol):
    endpoint = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port, timeout=20)
    client = await endpoints.connectProtocol(endpoint, protocol)
    await client.greeted
    return client


async def refused(attempt, kind):
    try:
        await attempt
    except kind:
        return
    raise AssertionError("let in")


async def main(reactor):
    client = await connect(reactor, ports[0], Pop3())
    await refused(client.login(user, b"wrong"), Exception)
    client = await connect(reactor, ports[0], Pop3())
    await client.login(user, password)
    assert (await client.stat())[0] == 2
    lines = await client.retrieve(0)
    assert b".a line with a dot" in lines, lines
    assert len(await client.listUID()) == 2
    await client.quit()

    client = await connect(reactor, ports[1], Imap())
    await refused(client.login(user, b"wrong"), imap4.IMAP4Exception)
    client.registerAuthenticator(imap4.PLAINAuthenticator(user))
    await client.authenticate(password)
    selected = await client.select("INBOX")
    assert selected["EXISTS"] == 2, selected
    found = await client.search(imap4.Query(subject="two"))
    assert list(found) == [2], found
    fetched = await client.fetchSpecific("2", headerType="TEXT", peek=True)
    assert "The second" in str(fetched), fetched
    structure = await client.fetchBodyStructure("1:2")
    assert sorted(structure) == [1, 2], structure
    envelopes = await client.fetchEnvelope("1:2")
    assert "two" in str(envelopes[2]), envelopes
    await client.addFlags("2", [r"\Answered"])
    flags = await client.fetchFlags("2")
    assert r"\Answered" in flags[2]["FLAGS"], flags
    await client.removeFlags("2", [r"\Answered"])
    listed = await client.list("", "*")
    assert any("INBOX" in entry[2] for entry in listed), listed
    await client.logout()
    print("done")


task.react(lambda reactor: defer.ensureDeferred(main(reactor)))
