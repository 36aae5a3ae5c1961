-- The rows of one tenant by themselves: what others have due does not stand before them.
CREATE INDEX core_due_of ON core_due (loop, COALESCE(tenant_id, ''), due_at, lease_until);
