# Remote objects for somebody who is logged in.
#
# Whoever connects is given a `Login` (the bootstrap capability) and nothing else. A login is a conversation of rounds,
# whichever mechanism it is by and however many factors it takes; at its end is a `Session`. With its login the client
# lends an object of its own, its `Mind`, by which it is told things. When the session ends, every object that came
# from it answers "logged out".
#
# What is built with is objects.capnp.bin, made by:
#   capnp compile -o- objects.capnp > objects.capnp.bin

@0xdb94a3ac7472b3da;

interface Login {
  offers @0 () -> (mechanisms :List(Text));
  # By what this connection can begin a login, in the order of the checkers.

  begin @1 (mechanism :Text, user :Text, supports :List(Text), mind :Mind) -> (step :Step);
  # Begins a login. `mechanism` may be empty: then the server asks for whatever it would take, side by side. `user` is
  # a name that is given before any question; few mechanisms need that. `supports` are the kinds of questions that can
  # be answered here (`Question.kind`); none: all that there are. `mind` may be absent.
}

struct Step {
  union {
    ask :group {
      round @0 :Round;
      conversation @1 :Conversation;
      # Where the answers go. It is the same object in every step of a login.
    }
    granted :group {
      session @2 :Session;
      told @3 :Data;
      # What the mechanism has to say last, such as the server's signature of SCRAM. Empty for most.
    }
    refused @4 :Refusal;
  }
}

enum Refusal {
  denied @0;
  # No. An unknown user and a wrong password are not told apart.
  changeNeeded @1;
  # The password must be changed first, elsewhere.
  tryLater @2;
  # Not now.
  unsupported @3;
  # Not by this mechanism, or not by what the client can answer.
}

interface Conversation {
  answer @0 (round :UInt16, answers :List(Answer)) -> (step :Step);
  # Answers the open round. Answers that do not fit it are an exception that says why; the round stays open, for a few
  # times.

  cancel @1 ();
  # Ends it. Letting go of the object does the same.
}

struct Round {
  number @0 :UInt16;
  title @1 :Words;
  instruction @2 :Words;
  notices @3 :List(Notice);
  questions @4 :List(Question);
  groups @5 :List(Group);
  # Alternatives: of the questions that name a group, those of one group are answered, all of them.
  feedback @6 :Feedback;
  # Why this is asked again; absent otherwise.
}

struct Words {
  # Something for a person to read.
  id @0 :Text;
  # For translators; empty for text that has none.
  text @1 :Text;
}

struct Notice {
  level @0 :Level;
  text @1 :Words;
}

enum Level {
  info @0;
  warning @1;
  error @2;
}

struct Question {
  name @0 :Text;
  kind @1 :Text;
  # `authname`, `passphrase`, `otp`, `token` and so on.
  prompt @2 :Words;
  echo @3 :Bool;
  # Whether a terminal may show what is typed.
  challenge :union {
    none @4 :Void;
    text @5 :Text;
    json @6 :Text;
    bytes @7 :Data;
  }
  default :union {
    absent @8 :Void;
    present @9 :Text;
  }
  group @10 :Text;
  # Empty: it is asked whichever group is chosen.
  optional @11 :Bool;
  options @12 :List(Words);
  # What a `choice` chooses from.
  min @13 :UInt32;
  max @14 :UInt32;
  # Bytes.
  charset @15 :Charset;
}

enum Charset {
  bytes @0;
  name @1;
  # UTF-8 without control characters.
  decimal @2;
  alphanumeric @3;
  hex @4;
}

struct Group {
  id @0 :Text;
  title @1 :Words;
  mechanism @2 :Text;
}

struct Feedback {
  question @0 :Text;
  # Empty: about none in particular.
  text @1 :Words;
  triesLeft @2 :Int32 = -1;
  # -1: not known.
}

struct Answer {
  question @0 :Text;
  union {
    value @1 :Data;
    choice @2 :UInt32;
    confirmed @3 :Bool;
    declined @4 :Void;
  }
}

interface Mind {
  # The client's own object. It is called one thing at a time, and one that does not answer is called no more.

  about @0 () -> (client :Text, language :Text);
  # What the client says of itself, when it logs in.

  notice @1 (text :Text);
  # Something for the person.

  expiring @2 (seconds :UInt32);
  # The session will end by itself.

  revoked @3 (reason :Text);
  # It has ended, and whatever came from it is dead.
}

interface Session {
  # Lasts until `logout`, or until nothing that came from it is held any more.

  whoami @0 () -> (who :Who);
  desk @1 () -> (desk :Desk);
  logout @2 ();
  # Answers when it is done.
}

struct Who {
  name @0 :Text;
  anonymous @1 :Bool;
  groups @2 :List(Text);
  proofs @3 :List(Text);
  # By what it was proven, in order.
}

interface Desk {
  list @0 () -> (names :List(Text));
  put @1 (name :Text, text :Text) -> (note :Note);
  # In place of what has that name.
  find @2 (name :Text) -> (note :Note);
  leave @3 (to :Text, name :Text, text :Text);
  # On somebody else's desk, where nothing has that name. They are told.
}

interface Note {
  read @0 () -> (text :Text);
  write @1 (text :Text);
  take @2 () -> (text :Text);
  # And it is gone.
}
