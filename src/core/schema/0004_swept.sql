-- Up to which row of the journal a part of it has been swept: events and audit have days of their own.
CREATE TABLE core_swept (
    part TEXT NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL
);
