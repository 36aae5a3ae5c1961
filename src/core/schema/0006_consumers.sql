-- How far each consumer of events has read the journal: all rows up to seq, and so many events of the
-- next one; and which process runs it.
CREATE TABLE core_cursor (
    consumer TEXT NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL,
    part BIGINT NOT NULL,
    lease_by TEXT NOT NULL,
    lease_until BIGINT NOT NULL
);
