"""Cyrus SASL's library as a client: cyrus.py PROTOCOL PORT MECHANISM [CA].

PROTOCOL is pop3, imap, smtp or json. The name and the password come on standard input. With CA, the certificate of
the server, the connection is in TLS, and the login is bound to it by the hash of that certificate (RFC 5929). Ends with
0: let in; 4: refused. Everything else is a mistake.
"""

import base64
import ctypes as c
import hashlib
import json
import socket
import ssl
import sys
import urllib.error
import urllib.request

# sasl.h
OK, CONTINUE = 0, 1
CB_LIST_END, CB_USER, CB_AUTHNAME, CB_PASS = 0, 0x4001, 0x4002, 0x4004
CHANNEL_BINDING = 21


class Callback(c.Structure):
    _fields_ = [("id", c.c_ulong), ("proc", c.c_void_p), ("context", c.c_void_p)]


class Secret(c.Structure):
    _fields_ = [("len", c.c_ulong), ("data", c.c_ubyte * 256)]


class Binding(c.Structure):
    _fields_ = [("name", c.c_char_p), ("critical", c.c_int), ("len", c.c_ulong), ("data", c.c_char_p)]


Simple = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_int, c.POINTER(c.c_char_p), c.POINTER(c.c_uint))
Password = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p, c.c_int, c.POINTER(c.POINTER(Secret)))


class Sasl:
    """One login, a message at a time."""

    def __init__(self, service, mechanism, user, password, certificate):
        self.lib = c.CDLL("libsasl2.so.2")
        self.mechanism, self.user = mechanism, user.encode()
        self.secret = Secret(len(password.encode()))
        c.memmove(self.secret.data, password.encode(), self.secret.len)
        self.simple, self.password = Simple(self.give_name), Password(self.give_password)
        functions = [(CB_USER, self.simple), (CB_AUTHNAME, self.simple), (CB_PASS, self.password)]
        entries = [Callback(id, c.cast(function, c.c_void_p), None) for id, function in functions]
        self.callbacks = (Callback * 4)(*entries, Callback(CB_LIST_END, None, None))
        self.conn, self.result = c.c_void_p(), CONTINUE
        self.expect(self.lib.sasl_client_init(None))
        new = self.lib.sasl_client_new
        self.expect(new(service, b"localhost", None, None, self.callbacks, 0, c.byref(self.conn)))
        if certificate is not None:
            hashed = hashlib.sha256(certificate).digest()
            self.binding = Binding(b"tls-server-end-point", 0, len(hashed), hashed)
            self.expect(self.lib.sasl_setprop(self.conn, CHANNEL_BINDING, c.byref(self.binding)))

    def expect(self, result, wanted=(OK,)):
        if result not in wanted:
            self.lib.sasl_errdetail.restype = c.c_char_p
            raise SystemExit(f"Cyrus SASL: {result}: {self.lib.sasl_errdetail(self.conn)}")

    def give_name(self, _context, _id, result, length):
        result[0] = self.user
        if length:
            length[0] = len(self.user)
        return OK

    def give_password(self, _conn, _context, _id, secret):
        secret[0] = c.pointer(self.secret)
        return OK

    def first(self):
        out, length, chosen = c.c_void_p(), c.c_uint(), c.c_char_p()
        name = self.mechanism.encode()
        start = self.lib.sasl_client_start
        args = (self.conn, name, None, c.byref(out), c.byref(length), c.byref(chosen))
        self.result = start(*args)
        self.expect(self.result, (OK, CONTINUE))
        return c.string_at(out.value, length.value) if out.value is not None else None

    def next(self, heard):
        """The answer to a message; None: the server has not proven itself, or spoke out of turn."""
        out, length = c.c_void_p(), c.c_uint()
        step = self.lib.sasl_client_step
        self.result = step(self.conn, heard, len(heard), None, c.byref(out), c.byref(length))
        self.expect(self.result, (OK, CONTINUE))
        return c.string_at(out.value, length.value) if out.value is not None else b""


def encoded(message):
    return base64.b64encode(message).decode() or "="


class Lines:
    """POP3, IMAP and SMTP, which differ in words."""

    WORDS = {
        # greeted, STARTTLS, AUTH, go on, in, refused
        "pop3": ("", "STLS", "AUTH {}", "+ ", "+OK", "-ERR"),
        "imap": ("", "s STARTTLS", "a AUTHENTICATE {}", "+ ", "a OK", "a NO"),
        "smtp": ("EHLO client.test", "STARTTLS", "AUTH {}", "334 ", "235", "535"),
    }

    def __init__(self, protocol, port, ca):
        self.words = self.WORDS[protocol]
        self.socket = socket.create_connection(("localhost", port), timeout=20)
        self.file, self.certificate = self.socket.makefile("rb"), None
        self.hear()
        if ca:
            self.say(self.words[1])
            while not self.hear().startswith(("+OK", "s OK", "220")):
                pass
            context = ssl.create_default_context(cafile=ca)
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
            self.file = self.socket.makefile("rb")
            self.certificate = self.socket.getpeercert(binary_form=True)
        if self.words[0]:
            self.say(self.words[0])
            while self.hear()[3:4] == "-":
                pass

    def say(self, line):
        self.socket.sendall(line.encode() + b"\r\n")

    def hear(self):
        line = self.file.readline().decode().rstrip("\r\n")
        if not line:
            raise SystemExit("the server has left")
        return line

    def login(self, sasl):
        command = self.words[2].format(sasl.mechanism)
        first = sasl.first()
        self.say(command if first is None else f"{command} {encoded(first)}")
        while True:
            line = self.hear()
            if line.startswith(self.words[4]):
                return True
            if line.startswith(self.words[5]):
                return False
            if line.startswith(self.words[3]):
                answer = sasl.next(base64.b64decode(line[len(self.words[3]):]))
                self.say(base64.b64encode(answer).decode())


class Json:
    """Rounds of tokens over HTTP."""

    certificate = None

    def __init__(self, port):
        self.login_at = f"http://127.0.0.1:{port}/v1/login"

    def call(self, address, body):
        request = urllib.request.Request(address, json.dumps(body).encode())
        request.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as reply:
            return json.load(reply)

    def login(self, sasl):
        token = lambda message: {"token": {"base64": base64.b64encode(message).decode()}}
        first = sasl.first()
        begin = {"mechanism": sasl.mechanism, "supports": ["token"]}
        if first is not None:
            begin["answers"] = token(first)
        reply = self.call(self.login_at, begin)
        while reply["status"] == "ask":
            heard = reply["round"]["questions"][0]["challenge"]["base64"]
            answers = token(sasl.next(base64.b64decode(heard)))
            answer = {"round": reply["round"]["number"], "answers": answers}
            reply = self.call(f"{self.login_at}/{reply['id']}", answer)
        if reply["status"] not in ("granted", "denied") or reply.get("reason") == "unsupported":
            raise SystemExit(f"{reply}")
        return reply["status"] == "granted"


protocol, port, mechanism, *ca = sys.argv[1:]
user, password = sys.stdin.read().split("\n")[:2]
server = Json(int(port)) if protocol == "json" else Lines(protocol, int(port), *(ca or [None]))
sasl = Sasl(protocol.encode(), mechanism, user, password, server.certificate)
let_in = server.login(sasl)
if let_in and sasl.result != OK:
    raise SystemExit("let in, and the server has not proven itself")
print("let in" if let_in else "refused")
sys.exit(0 if let_in else 4)
