"""The portal: rules 1 to 11."""

from twisted.cred import credentials, error
from twisted.internet import defer
from zope.interface import Interface, implementer

from stage import IMailbox, IOther, Realm, Refusing, checker_of, door, login, memory, outcome, password, scenario


class IAlpha(Interface):
    pass


class IBeta(Interface):
    pass


class IGeneral(Interface):
    pass


class ISpecific(IGeneral):
    pass


def credentials_of(*interfaces):
    @implementer(*interfaces)
    class Given:
        pass

    return Given()


def named(interface, name):
    return checker_of(interface, lambda _: name)


@scenario
def two_checkers_of_one_kind():
    at = door(None, memory(ada="countess"), memory(eve="apple"))
    return [login(at, password("ada", "countess")), login(at, password("eve", "apple"))]


@scenario
def what_is_listed():
    at = door(None, named(IAlpha, b"alpha"), named(IBeta, b"beta"), named(IAlpha, b"again"))
    return [interface.__name__[1:].lower() for interface in at.listCredentialsInterfaces()]


@scenario
def credentials_of_two_kinds():
    at = door(None, named(IAlpha, b"alpha"), named(IBeta, b"beta"))
    return [login(at, credentials_of(IAlpha, IBeta)), login(at, credentials_of(IBeta, IAlpha))]


@scenario
def a_general_checker_registered_first():
    at = door(None, named(IGeneral, b"general"), named(ISpecific, b"specific"))
    return login(at, credentials_of(ISpecific))


@scenario
def nobody_checks_this():
    at = door(None, memory(ada="countess"))
    return [login(at, credentials.Anonymous()), login(at, object())]


@scenario
def how_a_checker_may_answer():
    async def awaited(_):
        return b"ada"

    def broken(_):
        raise ValueError("the database is away")

    def waiting(_):
        return defer.succeed(b"ada")

    ways = [lambda _: b"ada", waiting, awaited, broken]
    return [login(door(None, checker_of(IAlpha, way)), credentials_of(IAlpha)) for way in ways]


@scenario
def how_a_realm_may_answer():
    class Waiting(Realm):
        def requestAvatar(self, *about):
            return defer.succeed(Realm.requestAvatar(self, *about))

    class Async(Realm):
        async def requestAvatar(self, *about):
            return Realm.requestAvatar(self, *about)

    said = []
    for realm in [Realm(), Waiting(), Async()]:
        results = []
        at = door(realm, memory(ada="countess"))
        at.login(password("ada", "countess"), None, IMailbox).addBoth(results.append)
        if hasattr(results[0], "close"):
            results[0].close()
            said.append("a coroutine that nobody awaits")
        else:
            said.append(outcome(defer.succeed(results[0])))
    return said


@scenario
def a_checker_that_returns_nothing():
    nothing = [None, False, ""]
    return [login(door(None, checker_of(IAlpha, lambda _, n=n: n)), credentials_of(IAlpha)) for n in nothing]


@scenario
def a_realm_that_returns_anything():
    class Says(Realm):
        def __init__(self, says):
            self.says = says

        def requestAvatar(self, *about):
            return self.says

    said = []
    for says in [7, (IOther, "avatar", None), (IMailbox, "avatar")]:
        results = []
        at = door(Says(says), memory(ada="countess"))
        at.login(password("ada", "countess"), None, IMailbox).addBoth(results.append)
        said.append("passed on" if results == [says] else "refused")
    return said


@scenario
def a_login_for_no_interface():
    class Any(Realm):
        def requestAvatar(self, avatar_id, mind, *interfaces):
            return None, avatar_id, self.logout

    at = door(Any(), memory(ada="countess"))
    return outcome(at.login(password("ada", "countess"), None))


@scenario
def a_realm_that_refuses():
    at = door(Refusing(error.LoginDenied("quota exceeded")), memory(ada="countess"))
    return login(at, password("ada", "countess"))


@scenario
def an_interface_that_the_realm_lacks():
    at = door(Refusing(NotImplementedError("no interface")), memory(ada="countess"))
    return login(at, password("ada", "countess"))


@scenario
def a_login_that_is_given_up():
    gone, realm = [], Realm()
    at = door(realm, checker_of(IAlpha, lambda _: defer.Deferred(lambda _: gone.append(True))))
    waiting = at.login(credentials_of(IAlpha), None, IMailbox)
    waiting.cancel()
    waiting.addErrback(lambda _: None)
    return {"the checker was told": bool(gone), "avatars": realm.avatars}


@scenario
def any_of_several_interfaces():
    class IHere(Interface):
        pass

    class IRelay(Interface):
        pass

    class Post(Realm):
        def requestAvatar(self, avatar_id, mind, *interfaces):
            chosen = IRelay if avatar_id == b"ada" and IRelay in interfaces else IHere
            return chosen, avatar_id, self.logout

    said = []
    for name in ["ada", "bob"]:
        at = door(Post(), memory(ada="x", bob="x"))
        results = []
        at.login(password(name, "x"), None, IHere, IRelay).addBoth(results.append)
        said.append(results[0][0].__name__[1:].lower())
    return said


@scenario
def what_the_mind_is_told():
    told, realm = [], Realm()
    login(door(realm, memory(ada="countess")), password("ada", "countess"), mind=told.append)
    _, mind = realm.seen[0]
    mind("a letter")
    return told


@scenario
def a_logout_that_is_called_twice():
    realm, results = Realm(), []
    at = door(realm, memory(ada="countess"))
    at.login(password("ada", "countess"), None, IMailbox).addBoth(results.append)
    results[0][2]()
    results[0][2]()
    return realm.logouts
