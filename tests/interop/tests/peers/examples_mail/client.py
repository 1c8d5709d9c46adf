"""Python's own POP3 and IMAP clients on a mailbox with two messages: client.py POP3-PORT IMAP-PORT.

The user and the password come on standard input. Leaves the mailbox as it was, but for flags.
"""

import imaplib
import poplib
import sys

pop3, imap = map(int, sys.argv[1:])
user, password = sys.stdin.read().split("\n")[:2]


def refused(attempt):
    try:
        attempt()
    except (poplib.error_proto, imaplib.IMAP4.error) as error:
        return str(error)
    raise AssertionError("let in")


def pop():
    return poplib.POP3("127.0.0.1", pop3, timeout=20)


def said(name, secret):
    client = pop()
    client.user(name)
    return refused(lambda: client.pass_(secret))


unknown, wrong = said("nobody", "wrong"), said(user, "wrong")
assert unknown == wrong and "[AUTH]" in wrong, (unknown, wrong)
client = pop()
assert "PLAIN" in client.capa()["SASL"], client.capa()
client.user(user)
client.pass_(password)
count, size = client.stat()
assert count == 2, count
_, lines, octets = client.retr(1)
assert b".a line with a dot" in lines, lines
assert len(client.uidl()[1]) == 2
assert b"Subject: two" in client.top(2, 0)[1]
client.dele(1)
client.rset()
# One session at a time has the mailbox.
other = pop()
other.user(user)
assert "[IN-USE]" in refused(lambda: other.pass_(password))
other.quit()
client.quit()

box = imaplib.IMAP4("127.0.0.1", imap, timeout=20)
assert "AUTHENTICATIONFAILED" in refused(lambda: box.login(user, "wrong"))
assert "AUTHENTICATIONFAILED" in refused(lambda: box.login("nobody", "wrong"))
box.authenticate("PLAIN", lambda _: f"\0{user}\0{password}".encode())
assert box.select("INBOX") == ("OK", [b"2"])
status, found = box.search(None, "SUBJECT", '"two"')
assert (status, found) == ("OK", [b"2"]), found
status, parts = box.fetch("2", "(UID ENVELOPE BODYSTRUCTURE BODY.PEEK[TEXT])")
assert b"The second" in parts[0][1], parts
status, flags = box.store("2", "+FLAGS", r"(\Flagged)")
assert rb"\Flagged" in flags[0], flags
status, listed = box.list()
assert any(b"INBOX" in line for line in listed), listed
status, appended = box.append("INBOX", r"(\Seen)", None, b"Subject: three\r\n\r\nx\r\n")
assert status == "OK", appended
box.noop()
status, found = box.uid("SEARCH", None, "SUBJECT three")
box.uid("STORE", found[0].decode(), "+FLAGS", r"(\Deleted)")
assert box.expunge()[0] == "OK"
assert box.select("INBOX") == ("OK", [b"2"])
box.logout()
print("done")
