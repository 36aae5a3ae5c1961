-- Who was invited to a tenant and is not registered yet.  Used and withdrawn ones have no time left
-- (expires_at 0) and stay for a week, for they count.
CREATE TABLE tenant_invites (
    id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    email TEXT NOT NULL,
    role TEXT NOT NULL,
    hash TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX tenant_invites_hash ON tenant_invites (hash);
CREATE INDEX tenant_invites_tenant ON tenant_invites (tenant_id, created_at, id);
CREATE INDEX tenant_invites_email ON tenant_invites (email, created_at);
