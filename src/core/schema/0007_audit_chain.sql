-- The audit's chain, a row for some entries of a tenant that lie behind each other in the journal:
-- what each entry was, and a hash over that and the row before.
CREATE TABLE core_audit_block (
    tenant_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    entries /*lite: BLOB */ /*pg: BYTEA */ NOT NULL,
    hash TEXT NOT NULL,
    signature TEXT NOT NULL,
    PRIMARY KEY (tenant_id, number)
);

-- Where a tenant's chain begins since its oldest entries have been swept: the last block that is
-- gone, and up to which row of the journal all is.
CREATE TABLE core_audit_anchor (
    tenant_id TEXT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL,
    hash TEXT NOT NULL,
    swept_seq BIGINT NOT NULL,
    swept_at BIGINT NOT NULL,
    signature TEXT NOT NULL
);
