-- PostgreSQL: how much of a credential's window its replicas have taken, and of its burst allowance.
CREATE TABLE core_rate (
    name TEXT NOT NULL PRIMARY KEY,
    start_at BIGINT NOT NULL,
    taken BIGINT NOT NULL,
    got BIGINT NOT NULL,
    burst_spent BIGINT NOT NULL,
    burst_at BIGINT NOT NULL
);
