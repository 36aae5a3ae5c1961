-- What edges follow (core/feed): each change of such a row has the next revision, in the order of commits.
-- 'swept': changes up to it are forgotten, for a snapshot says as much.
CREATE TABLE core_feed_head (
    id       INTEGER NOT NULL PRIMARY KEY,
    epoch    TEXT    NOT NULL,
    revision BIGINT  NOT NULL,
    swept    BIGINT  NOT NULL
);
INSERT INTO core_feed_head (id, epoch, revision, swept) VALUES (1, '', 0, 0);
CREATE TABLE core_feed (
    part     TEXT   NOT NULL,
    id       TEXT   NOT NULL,
    revision BIGINT NOT NULL,
    PRIMARY KEY (part, id)
);
CREATE INDEX core_feed_revision ON core_feed (revision);
