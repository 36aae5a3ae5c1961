-- What must arrive at a URL of a tenant's.  Ids are in the order in which they came; 'next_attempt_at' is when it is due, 0 when it is over; 'log' holds the attempts, JSON objects with
-- commas between them.
CREATE TABLE core_deliveries (
    id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    user_id TEXT,
    project_id TEXT,
    mode TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    object TEXT NOT NULL,
    tries BIGINT NOT NULL,
    begun_at BIGINT NOT NULL,
    status TEXT NOT NULL,
    attempt_count BIGINT NOT NULL,
    status_code BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    completed_at BIGINT NOT NULL,
    payload TEXT NOT NULL DEFAULT '',
    log TEXT NOT NULL DEFAULT ''
);
CREATE INDEX core_deliveries_due ON core_deliveries (owner_id, next_attempt_at, id) WHERE status = 'pending';
CREATE INDEX core_deliveries_order ON core_deliveries (owner_id, created_at, id);
CREATE INDEX core_deliveries_done ON core_deliveries (completed_at) WHERE status <> 'pending';

-- Owners of deliveries that are not well: since when no attempt succeeded, and until when none is made.
CREATE TABLE core_endpoints (
    owner_id TEXT NOT NULL PRIMARY KEY,
    failing_since BIGINT NOT NULL,
    paused_until BIGINT NOT NULL
);
