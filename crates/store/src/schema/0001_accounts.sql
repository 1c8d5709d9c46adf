-- Accounts and everything that belongs to one.
--
-- This text is run as it is by SQLite and by PostgreSQL, so it keeps to what both read alike: BIGINT for
-- every number, time (unix seconds) and truth value (0 or 1), TEXT for the rest. Ids come from `counters`,
-- because the two have no common spelling for a generated key.

CREATE TABLE counters (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
-- `revision` counts changes; its row is also the lock that makes revisions commit in their order.
INSERT INTO counters (name, value) VALUES ('revision', 0), ('id', 0), ('audit', 0);

-- What each revision touched, so that a reader drops just that from its copy. Trimmed from below.
CREATE TABLE changes (
    revision BIGINT NOT NULL,
    kind     TEXT   NOT NULL,
    name     TEXT   NOT NULL,
    PRIMARY KEY (revision, kind, name)
);

CREATE TABLE accounts (
    id          BIGINT NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL UNIQUE,
    enabled     BIGINT NOT NULL CHECK (enabled IN (0, 1)),
    expires     BIGINT,
    must_change BIGINT NOT NULL CHECK (must_change IN (0, 1)),
    driver      TEXT,
    revision    BIGINT NOT NULL
);

CREATE TABLE credentials (
    id        BIGINT NOT NULL PRIMARY KEY,
    account   BIGINT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    kind      TEXT   NOT NULL,
    label     TEXT   NOT NULL,
    data      TEXT   NOT NULL,
    scope     TEXT,
    lookup    TEXT,
    created   BIGINT NOT NULL,
    expires   BIGINT,
    last_used BIGINT,
    counter   BIGINT NOT NULL
);
CREATE INDEX credentials_by_account ON credentials (account);
-- A certificate or a passkey names its account; this is how it is found.
CREATE INDEX credentials_by_lookup ON credentials (kind, lookup);

CREATE TABLE user_groups (
    id          BIGINT NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL UNIQUE,
    gid         BIGINT UNIQUE,
    description TEXT   NOT NULL
);

CREATE TABLE memberships (
    account BIGINT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    grp     BIGINT NOT NULL REFERENCES user_groups (id) ON DELETE CASCADE,
    admin   BIGINT NOT NULL CHECK (admin IN (0, 1)),
    PRIMARY KEY (account, grp)
);
CREATE INDEX memberships_by_group ON memberships (grp);

CREATE TABLE labels (
    account BIGINT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    label   TEXT   NOT NULL,
    PRIMARY KEY (account, label)
);

CREATE TABLE attributes (
    account  BIGINT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name     TEXT   NOT NULL,
    position BIGINT NOT NULL,
    value    TEXT   NOT NULL,
    PRIMARY KEY (account, name, position)
);

-- Login tokens of an account. A token bound to a group dies with the group instead of widening.
CREATE TABLE tokens (
    id        BIGINT NOT NULL PRIMARY KEY,
    account   BIGINT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    hash      TEXT   NOT NULL UNIQUE,
    label     TEXT   NOT NULL,
    grp       BIGINT REFERENCES user_groups (id) ON DELETE CASCADE,
    created   BIGINT NOT NULL,
    expires   BIGINT,
    last_used BIGINT
);
CREATE INDEX tokens_by_account ON tokens (account);
CREATE INDEX tokens_by_group ON tokens (grp);
