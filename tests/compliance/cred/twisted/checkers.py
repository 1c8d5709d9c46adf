"""Checkers that hold users in memory, and anonymous ones."""

from twisted.cred import checkers, credentials

from stage import Realm, door, login, memory, password, scenario


@scenario
def users_in_memory():
    at = door(None, memory(ada="countess", bob=""))
    tries = [("ada", "countess"), ("ada", "babbage"), ("ADA", "countess"), ("ada", ""), ("eve", "countess"), ("bob", "")]
    return [login(at, password(*given)) for given in tries]


@scenario
def users_added_as_text():
    # As the page on Cred deploys it: addUser("guest", "password").
    guard = checkers.InMemoryUsernamePasswordDatabaseDontUse()
    guard.addUser("guest", "password")
    return login(door(None, guard), password("guest", "password"))


@scenario
def anonymous():
    realm = Realm()
    with_it = login(door(realm, checkers.AllowAnonymousAccess(), memory(ada="countess")), credentials.Anonymous())
    name = realm.seen[0][0]
    without = login(door(None, memory(ada="countess")), credentials.Anonymous())
    return {
        "allowed": with_it.split()[0],
        "not allowed": without,
        "an empty name": name in ("", b""),
        "nothing at all": name is None,
    }


@scenario
def work_for_an_unknown_user():
    checked = []

    class Counted(credentials.UsernamePassword):
        def checkPassword(self, word):
            checked.append(word)
            return credentials.UsernamePassword.checkPassword(self, word)

    counts = []
    for name in [b"ada", b"eve"]:
        del checked[:]
        login(door(None, memory(ada="countess")), Counted(name, b"wrong"))
        counts.append(len(checked))
    return counts
