-- Bytes that are kept as files.  A row that was dropped stays until its file is gone: it is the proof that it may go.
CREATE TABLE core_blobs (
    id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    size BIGINT NOT NULL,
    sha256 TEXT,
    md5 TEXT,
    created_at BIGINT NOT NULL,
    dropped_at BIGINT NOT NULL
);
CREATE INDEX core_blobs_dropped ON core_blobs (dropped_at) WHERE dropped_at > 0;
