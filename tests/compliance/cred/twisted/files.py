"""FilePasswordDB, with each of its options."""

import hashlib
import os
import tempfile

from twisted.cred import checkers, credentials

from stage import door, login, password, scenario


def said(text, tries, **options):
    """What a file says about names and passwords."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "users")
        with open(path, "w") as file:
            file.write(text)
        at = door(None, checkers.FilePasswordDB(path, **options))
        return [login(at, password(*given)) for given in tries]


@scenario
def file_plain():
    text = "ada:countess\nbob:\n"
    return said(text, [("ada", "countess"), ("ada", "x"), ("eve", "countess"), ("Ada", "countess"), ("bob", "")])


@scenario
def file_delimiter():
    return said("ada;count:ess\n", [("ada", "count:ess"), ("ada", "count")], delim=b";")


@scenario
def file_fields():
    text = "1000:/home/ada:countess:ada\n"
    return said(text, [("ada", "countess"), ("1000", "/home/ada")], usernameField=3, passwordField=2)


@scenario
def file_case():
    return said("Ada:countess\n", [("ADA", "countess"), ("ada", "countess"), ("ada", "COUNTESS")], caseSensitive=False)


@scenario
def file_hash():
    def sha256(name, given, stored):
        return hashlib.sha256(given).hexdigest().encode()

    text = f"ada:{hashlib.sha256(b'countess').hexdigest()}\n"
    return said(text, [("ada", "countess"), ("ada", "babbage")], hash=sha256)


@scenario
def file_two_lines_for_one_user():
    text, tries = "ada:first\nada:second\n", [("ada", "first"), ("ada", "second")]
    return {"uncached": said(text, tries), "cached": said(text, tries, cache=True)}


@scenario
def file_short_lines():
    return said("nobody\n\n:\nada:countess\n", [("nobody", ""), ("ada", "countess")])


@scenario
def file_trailing_blanks():
    return said("ada:countess  \n", [("ada", "countess  "), ("ada", "countess")])


@scenario
def file_comments():
    return said("#ada:countess\n", [("#ada", "countess"), ("ada", "countess")])


@scenario
def file_that_cannot_be_read():
    at = door(None, checkers.FilePasswordDB("/nonexistent/users"))
    return login(at, password("ada", "countess"))


def replaced(older):
    """A cached file that is replaced by one of another size, with an older time or the same one."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "users")
        with open(path, "w") as file:
            file.write("ada:countess\n")
        os.utime(path, (1_000_000_000, 1_000_000_000))
        at = door(None, checkers.FilePasswordDB(path, cache=True))
        before = login(at, password("ada", "countess"))
        with open(path + ".new", "w") as file:
            file.write("ada:a new one\n")
        when = 1_000_000_000 - (10 if older else 0)
        os.utime(path + ".new", (when, when))
        os.replace(path + ".new", path)
        return [before, login(at, password("ada", "countess")), login(at, password("ada", "a new one"))]


@scenario
def file_replaced_within_its_second():
    return replaced(older=False)


@scenario
def file_replaced_by_an_older_one():
    return replaced(older=True)


@scenario
def file_hashed_for_a_challenge():
    """A store of hashes cannot serve a challenge: is that known before anybody tries?"""
    with tempfile.NamedTemporaryFile() as file:
        guard = checkers.FilePasswordDB(file.name, hash=lambda name, given, stored: given)
        return credentials.IUsernameHashedPassword in guard.credentialInterfaces
