"""strcred: what --auth says, takes and refuses."""

import contextlib
import io
import tempfile

from twisted.cred import credentials, strcred
from twisted.python import usage

from stage import door, login, password, scenario


class Options(usage.Options, strcred.AuthOptionMixin):
    supportedInterfaces = None


class OnlyAnonymous(usage.Options, strcred.AuthOptionMixin):
    supportedInterfaces = (credentials.IAnonymous,)


def printed(words, options=Options):
    out, code = io.StringIO(), None
    # Where it writes is a variable of the class.
    asked = type("Asked", (options,), {"authOutput": out})
    try:
        asked().parseOptions(words)
    except SystemExit as end:
        code = end.code or 0
    return {"text": out.getvalue(), "code": code}


def refused(string, options=Options):
    try:
        with contextlib.redirect_stderr(io.StringIO()) as complaint:
            options().parseOptions(["--auth", string])
    except usage.UsageError as error:
        return f"refused: {error}"
    except TypeError as error:
        # Its message is formatted with a tuple of interfaces.
        return f"raises TypeError: {error}"
    return f"taken{'; ' if complaint.getvalue() else ''}{complaint.getvalue().strip()}"


@scenario
def help_auth():
    return printed(["--help-auth"])


@scenario
def help_auth_type():
    return printed(["--help-auth-type", "memory"])


@scenario
def help_auth_type_that_the_program_cannot_use():
    said = printed(["--help-auth-type", "memory"], OnlyAnonymous)
    return [said["text"].strip().splitlines()[-1].strip(), said["code"]]


@scenario
def auth_of_unknown_type():
    return refused("passwd:/etc/passwd")


@scenario
def auth_that_the_program_cannot_use():
    return refused("memory:ada:countess", OnlyAnonymous)


@scenario
def auth_memory_with_a_word_too_few():
    return refused("memory:ada:s3cret:bob")


@scenario
def auth_file_that_is_not_there():
    return refused("file:/nonexistent/users")


@scenario
def auth_file_without_a_name():
    try:
        return refused("file")
    except ValueError:
        return "raises ValueError"


@scenario
def auth_memory_over_a_protocol():
    guard = strcred.makeChecker("memory:ada:countess")
    return login(door(None, guard), password("ada", "countess"))


@scenario
def auth_file_over_a_protocol():
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("ada:countess\n")
        file.flush()
        return login(door(None, strcred.makeChecker(f"file:{file.name}")), password("ada", "countess"))


@scenario
def auth_twice():
    """Two strings of one kind: who can log in?"""
    options = Options()
    options.parseOptions(["--auth", "memory:ada:countess", "--auth", "memory:eve:apple"])
    at = door(None, *options["credCheckers"])
    names = [("ada", "countess"), ("eve", "apple")]
    return [login(at, credentials.UsernamePassword(*given)) for given in names]
