"""A driver that stays, in Python: one process that verifies many logins of Countersign, each in a thread, and may
ask for more than a password. One file, Python 3.8 or newer, nothing else. The contract is docs/protocols/driver.md.

    import countersign_driver as driver

    def login(login):
        if login.stored == str(len(login.secret)):
            return driver.accept()
        return driver.refuse("wrong length")

    driver.serve(login)

What a login function raises fails that login, and is in the server's log. `print` goes to standard error there.
"""

import json
import queue
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

__all__ = ["Cancelled", "Login", "accept", "fail", "question", "refuse", "serve"]

VERSION = 1


class Cancelled(Exception):
    """Nobody waits for this login any more: whatever is answered decides nothing."""


def accept(*, driver=None, user=None, stored=None, groups=None):
    """Yes. What is given is to be changed of the account; groups are numbers, or texts such as "*100"."""
    said = {"type": "accept", "driver": driver, "user": user, "stored": stored}
    if groups is not None:
        said["groups"] = [str(group) for group in groups]
    return {name: value for name, value in said.items() if value is not None}


def refuse(reason=""):
    """No, with the reason for the operator, without secrets."""
    return {"type": "refuse", "reason": reason}


def fail(reason=""):
    """It could not be found out, with the reason for the operator, without secrets."""
    return {"type": "fail", "reason": reason}


def question(name, kind, prompt, **more):
    """A question of a round: `optional=True`, `options=[…]`, `default="…"`, `challenge="…"`."""
    return {"name": name, "kind": kind, "prompt": prompt, **more}


class Login:
    """A login to be verified: `user`, `secret`, `stored` (or None), `now` (seconds since 1970), and `asks`, the
    kinds of questions that can be asked now."""

    def __init__(self, server, message):
        self._server = server
        self.id = message["id"]
        self.user = message["user"]
        self.secret = message["secret"]
        self.stored = message.get("stored")
        self.now = message.get("now", 0)
        self.asks = message.get("asks", [])
        self.cancelled = False
        self._answers = queue.SimpleQueue()

    def __repr__(self):
        return f"<Login {self.id} of {self.user!r}>"

    def ask(self, *questions, title=None, instruction=None):
        """Asks, waits, and returns the answers by name: a text, True or False, an option's index, or None."""
        if self.cancelled:
            raise Cancelled
        asked = {"title": title, "instruction": instruction, "questions": list(questions)}
        asked = {name: value for name, value in asked.items() if value is not None}
        self._server.say({"type": "ask", "id": self.id, "round": asked})
        answers = self._answers.get()
        if answers is None:
            raise Cancelled
        return answers

    def log(self, severity, text):
        """A line for the server's log: "error", "warn", "info" or "debug", and a text without secrets."""
        self._server.say({"type": "log", "severity": severity, "about": self.id, "text": str(text)})

    def _cancel(self):
        self.cancelled = True
        self._answers.put(None)


class _Server:
    def __init__(self, verify, output):
        self._verify = verify
        self._output = output
        self._lock = threading.Lock()
        self._open = {}

    def say(self, message):
        line = json.dumps(message, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        with self._lock:
            self._output.write(line)
            self._output.flush()

    def run(self, lines, threads):
        with ThreadPoolExecutor(threads) as pool:
            for line in lines:
                message = json.loads(line)
                kind, number = message.get("type"), message.get("id")
                if kind == "hello":
                    self.say({"type": "hello", "version": VERSION})
                elif kind == "login":
                    login = Login(self, message)
                    with self._lock:
                        self._open[number] = login
                    pool.submit(self._one, login)
                elif kind in ("answers", "cancel"):
                    with self._lock:
                        login = self._open.get(number)
                    if login is not None and kind == "answers":
                        login._answers.put(message["answers"])
                    elif login is not None:
                        login._cancel()
            with self._lock:
                left = list(self._open.values())
            for login in left:
                login._cancel()

    def _one(self, login):
        try:
            answer = fail("cancelled") if login.cancelled else self._verify(login)
            if not isinstance(answer, dict) or answer.get("type") not in ("accept", "refuse", "fail"):
                answer = fail("the driver's function gave no answer")
        except Cancelled:
            answer = fail("cancelled")
        except Exception as error:  # this login's end, and no other's
            # Neither the message nor the values: they may have secrets in them.
            where = traceback.extract_tb(error.__traceback__)[-1]
            answer = fail(f"{type(error).__name__} in line {where.lineno} of {where.filename}")
        with self._lock:
            del self._open[login.id]
        if login.cancelled:
            answer = {"type": "cancelled"}
        self.say({**answer, "id": login.id})


def serve(verify, threads=100):
    """Serves logins until standard input ends. `threads` is how many at a time: not fewer than the server's
    `logins`, or those that are too many wait."""
    output, sys.stdout = sys.stdout.buffer, sys.stderr
    _Server(verify, output).run(sys.stdin.buffer, threads)
