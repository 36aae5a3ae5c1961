-- Whose a due row is: turns go round the tenants.
ALTER TABLE core_due ADD COLUMN tenant_id TEXT;
DROP INDEX core_due_at;
CREATE INDEX core_due_at ON core_due (loop, due_at, lease_until, tenant_id);
