"""A client of examples/objects that knows the schema, and nothing of the server's language.

    client.py SCHEMA HOST:PORT CASE [CERTIFICATE], with a name and a password on standard input, or in a file
    `input` beside the schema
"""

import asyncio
import base64
import hashlib
import hmac
import os
import ssl
import sys

import capnp

capnp.remove_import_hook()
schema = capnp.load(sys.argv[1])
given = sys.stdin.read() or open(os.path.join(os.path.dirname(sys.argv[1]), "input")).read()
NAME, PASSWORD = given.split("\n")[:2]


class Mind(schema.Mind.Server):
    """The client's own object."""

    def __init__(self):
        self.heard = []
        self.more = asyncio.Event()

    def hear(self, *what):
        self.heard.append(what)
        self.more.set()

    async def hears(self, kind):
        while True:
            for what in self.heard:
                if what[0] == kind:
                    return what[1]
            self.more.clear()
            await asyncio.wait_for(self.more.wait(), 10)

    async def about(self, **kwargs):
        return "pycapnp " + capnp.__version__, "sv-SE"

    async def notice(self, text, **kwargs):
        self.hear("notice", text)

    async def expiring(self, seconds, **kwargs):
        self.hear("expiring", seconds)

    async def revoked(self, reason, **kwargs):
        self.hear("revoked", reason)


class Client:
    """A connection."""

    async def connect():
        client = Client()
        host, port = sys.argv[2].split(":")
        context = None
        if len(sys.argv) > 4:
            context = ssl.create_default_context(cafile=sys.argv[4])
        client.stream = await capnp.AsyncIoStream.create_connection(host=host, port=port, ssl=context)
        client.rpc = capnp.TwoPartyClient(client.stream)
        client.login = client.rpc.bootstrap().cast_as(schema.Login)
        client.mind = Mind()
        return client

    async def begin(self, mechanism):
        return (await self.login.begin(mechanism=mechanism, mind=self.mind)).step

    async def by_password(self, name, password):
        """Whatever is asked is answered by name, as a client does that knows questions and no mechanism."""
        step = await self.begin("password")
        known = {"username": name.encode(), "password": password.encode()}
        while step.which() == "ask":
            answers = [{"question": q.name, "value": known[q.name]} for q in step.ask.round.questions]
            step = (await step.ask.conversation.answer(step.ask.round.number, answers)).step
        return step


async def fails(call, words):
    try:
        await call
    except capnp.KjException as error:
        assert words in str(error), error
        return
    raise AssertionError("it should have failed: " + words)


async def password():
    client = await Client.connect()
    offers = list((await client.login.offers()).mechanisms)
    assert "password" in offers, offers
    for name, wrong in ((NAME, "wrong"), ("nobody", PASSWORD)):
        step = await client.by_password(name, wrong)
        assert step.which() == "refused" and step.refused == "denied", step
    step = await client.by_password(NAME, PASSWORD)
    assert step.which() == "granted", step
    session = step.granted.session
    who = (await session.whoami()).who
    assert who.name == NAME and list(who.proofs) == ["password"], who
    assert await client.mind.hears("notice") == "Välkommen, " + NAME
    desk = (await session.desk()).desk
    note = (await desk.put("one", "the first")).note
    await note.write("the first, mended")
    assert list((await desk.list()).names) == ["one"]
    found = (await desk.find("one")).note
    assert (await found.read()).text == "the first, mended"
    await fails(desk.find("two"), "there is no such note")
    await session.logout()
    assert await client.mind.hears("revoked") == "logged out"
    for call in (session.whoami(), session.desk(), desk.list(), note.read(), found.take()):
        await fails(call, "logged out")
    # The same connection, a new session; what is dead stays so.
    step = await client.by_password(NAME, PASSWORD)
    desk = (await step.granted.session.desk()).desk
    assert (await (await desk.find("one")).note.take()).text == "the first, mended"
    await fails(note.read(), "logged out")


async def rounds():
    """SCRAM-SHA-256 (RFC 7677): two rounds, and the server's signature comes with the success."""
    client = await Client.connect()
    step = await client.begin("SCRAM-SHA-256")
    token = lambda text: [{"question": "token", "value": text.encode()}]
    first = f"n={NAME},r=" + base64.b64encode(os.urandom(18)).decode()
    assert step.ask.round.questions[0].kind == "token"
    conversation = step.ask.conversation
    await fails(conversation.answer(7, token("x")), "7")
    step = (await conversation.answer(step.ask.round.number, token("n,," + first))).step
    challenge = bytes(step.ask.round.questions[0].challenge.bytes).decode()
    field = dict(part.split("=", 1) for part in challenge.split(","))
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), base64.b64decode(field["s"]), int(field["i"]))
    mac = lambda key, text: hmac.digest(key, text, "sha256")
    bare = "c=biws,r=" + field["r"]
    message = ",".join((first, challenge, bare)).encode()
    key = mac(salted, b"Client Key")
    signature = mac(hashlib.sha256(key).digest(), message)
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
    step = (await conversation.answer(step.ask.round.number, token(f"{bare},p={proof}"))).step
    assert step.which() == "granted", step
    server = base64.b64encode(mac(mac(salted, b"Server Key"), message)).decode()
    assert bytes(step.granted.told).decode() == "v=" + server
    assert list((await step.granted.session.whoami()).who.proofs) == ["SCRAM-SHA-256"]


async def anonymous():
    client = await Client.connect()
    step = await client.begin("ANONYMOUS")
    trace = [{"question": q.name, "value": b"pycapnp"} for q in step.ask.round.questions]
    step = (await step.ask.conversation.answer(step.ask.round.number, trace)).step
    who = (await step.granted.session.whoami()).who
    assert who.anonymous and who.name == "", who


async def minds():
    """Two people; one is told of what the other does."""
    ada, bob = await Client.connect(), await Client.connect()
    at_ada = (await ada.by_password(NAME, PASSWORD)).granted.session
    at_bob = (await bob.by_password("bob", "b")).granted.session
    await ada.mind.hears("notice")
    ada.mind.heard.clear()
    desk = (await at_bob.desk()).desk
    await desk.leave(NAME, "lunch", "at noon?")
    assert await ada.mind.hears("notice") == "bob left you `lunch`"
    lunch = (await (await (await at_ada.desk()).desk.find("lunch")).note.take()).text
    assert lunch == "at noon?"


async def vanish():
    """In the middle of a login, and in a session: the process is gone without a word."""
    client, other = await Client.connect(), await Client.connect()
    step = await client.begin("password")
    assert step.which() == "ask"
    step = await other.by_password(NAME, PASSWORD)
    assert step.which() == "granted"
    print("done", flush=True)
    os._exit(0)


async def stay():
    """Until the server ends."""
    client = await Client.connect()
    step = await client.by_password(NAME, PASSWORD)
    session = step.granted.session
    print("in", flush=True)
    assert await client.mind.hears("revoked") == "the server ends"
    try:
        await session.whoami()
        raise AssertionError("it is over")
    except capnp.KjException:
        pass


async def main():
    await asyncio.wait_for(globals()[sys.argv[3]](), 30)
    print("done", flush=True)


asyncio.run(capnp.run(main()))
