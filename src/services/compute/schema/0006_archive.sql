-- What was imported can be kept as it came.
ALTER TABLE images ADD COLUMN archive_id TEXT;
ALTER TABLE images ADD COLUMN archive_bytes BIGINT NOT NULL DEFAULT 0;
