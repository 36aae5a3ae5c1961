-- One row per request that changed something or must be remembered, in the order of commits: audit,
-- events and idempotency read it.
CREATE TABLE journal (
    seq /*lite: INTEGER PRIMARY KEY AUTOINCREMENT */ /*pg: BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY */,
    id TEXT NOT NULL,
    at BIGINT NOT NULL,
    tenant_id TEXT,
    project_id TEXT,
    mode TEXT NOT NULL,
    actor TEXT,
    user_id TEXT,
    key_id TEXT,
    action TEXT,
    object_kind TEXT,
    object_id TEXT,
    outcome TEXT,
    status BIGINT NOT NULL,
    ip TEXT,
    user_agent TEXT,
    request_id TEXT,
    trace_id TEXT,
    events TEXT,
    idem_scope TEXT,
    idem_key TEXT,
    idem_print TEXT,
    idem_answer TEXT,
    idem_until BIGINT
);
CREATE INDEX journal_tenant ON journal (tenant_id, seq);
CREATE /*pg: UNIQUE */ INDEX journal_idem ON journal (/*pg: idem_scope, idem_key */ /*lite: seq */) WHERE idem_key IS NOT NULL;

CREATE TABLE core_keys (
    id TEXT NOT NULL PRIMARY KEY,
    purpose TEXT NOT NULL,
    wrapped TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE core_quota (
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL,
    used BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, name)
) /*lite: WITHOUT ROWID */;

CREATE TABLE core_due (
    loop TEXT NOT NULL,
    id TEXT NOT NULL,
    due_at BIGINT NOT NULL,
    lease_by TEXT,
    lease_until BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    PRIMARY KEY (loop, id)
) /*lite: WITHOUT ROWID */;
CREATE INDEX core_due_at ON core_due (loop, due_at);
