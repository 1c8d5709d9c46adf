-- Sessions name their subject by text and not by account: most checkers vouch for people who have no
-- account here.
CREATE TABLE sessions (
    hash      TEXT   NOT NULL PRIMARY KEY,
    subject   TEXT   NOT NULL,
    service   TEXT   NOT NULL,
    peer      TEXT   NOT NULL,
    data      TEXT   NOT NULL,
    created   BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    expires   BIGINT NOT NULL
);
CREATE INDEX sessions_by_subject ON sessions (subject, created);
CREATE INDEX sessions_by_expiry ON sessions (expires);

-- The recent part of the audit, for queries. The durable record is a file.
CREATE TABLE audit (
    id        BIGINT NOT NULL PRIMARY KEY,
    at        BIGINT NOT NULL,
    attempt   TEXT   NOT NULL,
    claimed   TEXT   NOT NULL,
    subject   TEXT,
    service   TEXT   NOT NULL,
    peer      TEXT   NOT NULL,
    checker   TEXT,
    mechanism TEXT,
    outcome   TEXT   NOT NULL,
    reason    TEXT   NOT NULL,
    detail    TEXT   NOT NULL
);
