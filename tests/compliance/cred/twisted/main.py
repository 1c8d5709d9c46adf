"""What Twisted Cred does, as lines of JSON: first its version, then one line for each scenario.

    python main.py            every scenario
    python main.py NAME...    some
    python main.py --bench    see bench.py

Scenarios are functions without arguments that give a value JSON can say, at once: transports are strings,
and time stands still. The tests beside this folder play the same with Countersign and compare.
"""

import json
import platform
import sys

import twisted

import checkers
import credentials
import factors
import files
import names
import portal
import protocols
import seed
import strings

MODULES = [portal, checkers, files, credentials, factors, protocols, strings, seed, names]


def scenarios():
    for module in MODULES:
        for name, value in list(vars(module).items()):
            if callable(value) and getattr(value, "scenario", False):
                yield name, value


def main(wanted):
    say({"twisted": twisted.__version__, "python": platform.python_version()})
    for name, play in scenarios():
        if wanted and name not in wanted:
            continue
        try:
            say({"scenario": name, "outcome": play()})
        except Exception as error:  # a scenario that broke is a failure of its test only
            say({"scenario": name, "broke": f"{type(error).__name__}: {error}"})


def say(line):
    print(json.dumps(line, sort_keys=True), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bench"]:
        import bench

        bench.main(sys.argv[2:])
    else:
        main(set(sys.argv[1:]))
