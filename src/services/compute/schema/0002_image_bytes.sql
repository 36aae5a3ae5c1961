-- The bytes of a tenant's own images count from now on: so do those that are there.
INSERT INTO core_quota (tenant_id, name, used)
    SELECT tenant_id, 'image_bytes', SUM(size_bytes) FROM images WHERE source <> 'recipe' AND size_bytes > 0 GROUP BY tenant_id;
