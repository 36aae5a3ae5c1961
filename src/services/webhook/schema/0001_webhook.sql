-- Where a tenant's events are sent.  'sealed' is the secret that signs, 'old_sealed' the one before it, which signs too until old_until.
CREATE TABLE webhooks (
    id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    user_id TEXT,
    project_id TEXT,
    mode TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    url TEXT NOT NULL,
    events TEXT NOT NULL,
    retry_policy TEXT NOT NULL,
    enabled BOOLEAN NOT NULL,
    description TEXT,
    disabled_at BIGINT NOT NULL,
    disabled_reason TEXT,
    sealed TEXT NOT NULL,
    old_sealed TEXT,
    old_until BIGINT NOT NULL
);
CREATE INDEX webhooks_order ON webhooks (tenant_id, mode, created_at, id);
CREATE INDEX webhooks_enabled ON webhooks (tenant_id, mode, id) WHERE enabled;
