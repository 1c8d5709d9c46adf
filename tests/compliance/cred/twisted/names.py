"""The public names of twisted.cred."""

import inspect

from twisted.cred import checkers, credentials, error, portal, strcred

from stage import scenario


@scenario
def public_names():
    names = set()
    for module in [portal, checkers, credentials, error, strcred]:
        for name, value in vars(module).items():
            made_there = getattr(value, "__module__", None) == module.__name__
            if not name.startswith("_") and made_there and not inspect.ismodule(value):
                names.add(name)
    return sorted(names | {"ANONYMOUS"})
