#!/bin/sh
# A driver that stays: the right password has as many characters as are stored for the user, and a second question asks
# how many, where somebody can be asked.

. "$(dirname "$0")/countersign-driver.sh"

login() {
    length=$(printf '%s' "$secret" | LC_ALL=C.UTF-8 wc -m | tr -d ' ')
    if [ "$stored" != "$length" ]; then
        refuse "wrong length"
    elif ! can_ask echo-prompt; then
        accept
    elif ask length echo-prompt "How many characters" && [ "$answer" = "$length" ]; then
        accept
    else
        refuse "counted wrong"
    fi
}

serve
