#!/usr/bin/env python3
"""A driver that stays: the right password has as many characters as are stored for the user, and a second question
asks how many, where somebody can be asked."""

import countersign_driver as driver


def login(login):
    length = str(len(login.secret))
    if login.stored != length:
        return driver.refuse("wrong length")
    if "echo-prompt" in login.asks:
        asked = driver.question("length", "echo-prompt", "How many characters")
        if login.ask(asked)["length"] != length:
            return driver.refuse("counted wrong")
    return driver.accept()


driver.serve(login)
