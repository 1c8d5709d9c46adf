-- Keys that all nodes of a deployment share: of cookies, form tokens, passkeys. Made once, never sent.
CREATE TABLE secrets (
    name TEXT NOT NULL PRIMARY KEY,
    data TEXT NOT NULL
);

-- Failures by user and source. An empty text stands for any: every user from a source, every source of a
-- user. Times are milliseconds, because delays are shorter than a second at first.
CREATE TABLE throttles (
    who      TEXT   NOT NULL,
    source   TEXT   NOT NULL,
    failures BIGINT NOT NULL,
    until_ms BIGINT NOT NULL,
    last_ms  BIGINT NOT NULL,
    PRIMARY KEY (who, source)
);
CREATE INDEX throttles_by_last ON throttles (last_ms);
