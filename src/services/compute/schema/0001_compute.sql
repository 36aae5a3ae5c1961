CREATE TABLE images (
    id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    user_id TEXT,
    project_id TEXT,
    mode TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    status TEXT NOT NULL,
    status_reason TEXT,
    digest TEXT,
    size_bytes BIGINT NOT NULL,
    progress BIGINT NOT NULL,
    tags TEXT
);
CREATE UNIQUE INDEX images_name ON images (tenant_id, mode, name);
CREATE INDEX images_order ON images (tenant_id, mode, created_at, id);

CREATE TABLE instances (
    id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    user_id TEXT,
    project_id TEXT,
    mode TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    name TEXT NOT NULL,
    image TEXT NOT NULL,
    instance_type TEXT NOT NULL,
    driver TEXT NOT NULL,
    status TEXT NOT NULL,
    status_reason TEXT,
    vpc_id TEXT NOT NULL,
    subnet_id TEXT NOT NULL,
    private_ip TEXT NOT NULL,
    ports TEXT,
    env TEXT,
    cmd TEXT,
    user_data TEXT,
    restart_policy TEXT NOT NULL,
    cpu_limit BIGINT NOT NULL,
    memory_limit BIGINT NOT NULL,
    disk_limit BIGINT NOT NULL,
    network_limit BIGINT NOT NULL,
    metadata TEXT,
    labels TEXT,
    node TEXT NOT NULL,
    started_at BIGINT,
    exit_code BIGINT,
    restart_count BIGINT NOT NULL,
    image_id TEXT NOT NULL REFERENCES images (id),
    want TEXT NOT NULL,
    boot BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    deadline_at BIGINT NOT NULL,
    gateway_ip TEXT NOT NULL,
    dns_ip TEXT NOT NULL,
    vpc_cidr TEXT NOT NULL,
    subnet_cidr TEXT NOT NULL
);
CREATE UNIQUE INDEX instances_name ON instances (tenant_id, mode, name);
CREATE INDEX instances_order ON instances (tenant_id, mode, created_at, id);
CREATE INDEX instances_vpc ON instances (vpc_id);
CREATE INDEX instances_image ON instances (image_id);

-- What was deleted: shown as terminated for an hour; and the proof, for the reconciler, that a host may destroy
-- what it still has.  An instance that has neither a row nor a grave is never destroyed.
CREATE TABLE instance_graves (
    id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    mode TEXT NOT NULL,
    project_id TEXT,
    vpc_id TEXT NOT NULL,
    last_revision BIGINT NOT NULL,
    body TEXT NOT NULL,
    deleted_at BIGINT NOT NULL,
    destroyed BOOLEAN NOT NULL
);
CREATE INDEX instance_graves_age ON instance_graves (deleted_at);
