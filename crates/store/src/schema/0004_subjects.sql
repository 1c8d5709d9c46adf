-- One row for each name that ever had a session: the lock under which its sessions begin and end, and the
-- revision at which they were last ended. A login that began before then gets none any more.
CREATE TABLE subjects (
    name  TEXT   NOT NULL PRIMARY KEY,
    ended BIGINT NOT NULL
);
