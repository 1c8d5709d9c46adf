"""neon, the HTTP library of Subversion's time and of davfs2, which checks `rspauth` in `Authentication-Info`."""

import ctypes
import http.server
import sys
import threading

library, port = sys.argv[1:]
user, password = sys.stdin.read().splitlines()
neon = ctypes.CDLL(library)

POINTERS = ("ne_session_create", "ne_request_create", "ne_get_error", "ne_get_status")
for name in POINTERS:
    getattr(neon, name).restype = ctypes.c_void_p
neon.ne_get_error.restype = ctypes.c_char_p

# ne_auth_creds of ne_auth.h: buffers of 256 bytes.
CREDENTIALS = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.POINTER(ctypes.c_char * 256),
    ctypes.POINTER(ctypes.c_char * 256),
)
DIGEST = 1 << 7


class Status(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("major", "minor", "code", "class_")]


def gets(port, password, times):
    """The results and statuses of so many requests of a session."""

    def credentials(_, realm, attempt, name, secret):
        assert realm == b"notebooks", realm
        name.contents.value, secret.contents.value = user.encode(), password.encode()
        return attempt

    keep = CREDENTIALS(credentials)
    session = ctypes.c_void_p(neon.ne_session_create(b"http", b"127.0.0.1", int(port)))
    neon.ne_add_server_auth(session, DIGEST, keep, None)
    found = []
    for _ in range(times):
        request = ctypes.c_void_p(neon.ne_request_create(session, b"GET", b"/digest"))
        result = neon.ne_request_dispatch(request)
        status = ctypes.cast(neon.ne_get_status(request), ctypes.POINTER(Status)).contents.code
        found.append((result, status, neon.ne_get_error(session).decode()))
        neon.ne_request_destroy(request)
    neon.ne_session_destroy(session)
    return found


for result, status, error in gets(port, password, 3):
    # NE_OK: whoever answered knew the key.
    assert (result, status) == (0, 200), (result, status, error)
for result, status, error in gets(port, "wrong", 1):
    # NE_AUTH.
    assert result == 3, (result, status, error)


class Impostor(http.server.BaseHTTPRequestHandler):
    """Lets everybody in, and does not know the key: what neon says of it shows that it looks."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        known = "Authorization" in self.headers
        self.send_response(200 if known else 401)
        if known:
            cnonce = self.headers["Authorization"].split('cnonce="')[1].split('"')[0]
            info = f'qop=auth, rspauth="{"0" * 32}", cnonce="{cnonce}", nc=00000001'
            self.send_header("Authentication-Info", info)
        else:
            challenge = 'Digest realm="notebooks", nonce="n", qop="auth", algorithm=MD5'
            self.send_header("WWW-Authenticate", challenge)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Impostor) as impostor:
    threading.Thread(target=impostor.serve_forever, daemon=True).start()
    [(result, _, error)] = gets(impostor.server_port, password, 1)
    # NE_ERROR.
    assert result == 1, (result, error)
    impostor.shutdown()
print("done")
