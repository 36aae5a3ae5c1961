CREATE TABLE vpcs (
    id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    user_id TEXT,
    project_id TEXT,
    mode TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    name TEXT NOT NULL,
    cidr_block TEXT NOT NULL,
    network_id TEXT NOT NULL,
    vxlan_id BIGINT NOT NULL,
    status TEXT NOT NULL,
    tags TEXT
);
CREATE UNIQUE INDEX vpcs_name ON vpcs (tenant_id, mode, name);
CREATE INDEX vpcs_order ON vpcs (tenant_id, mode, created_at, id);
CREATE UNIQUE INDEX vpcs_vxlan ON vpcs (vxlan_id);

CREATE TABLE subnets (
    id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    user_id TEXT,
    project_id TEXT,
    mode TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    vpc_id TEXT NOT NULL REFERENCES vpcs (id),
    name TEXT NOT NULL,
    cidr_block TEXT NOT NULL,
    availability_zone TEXT NOT NULL,
    gateway_ip TEXT NOT NULL,
    status TEXT NOT NULL,
    tags TEXT
);
CREATE UNIQUE INDEX subnets_name ON subnets (vpc_id, name);
CREATE UNIQUE INDEX subnets_cidr ON subnets (vpc_id, cidr_block);
CREATE INDEX subnets_order ON subnets (vpc_id, created_at, id);

-- Addresses in use, as numbers; the key is what keeps two instances from having one address.
CREATE TABLE subnet_addresses (
    subnet_id TEXT NOT NULL REFERENCES subnets (id),
    ip BIGINT NOT NULL,
    instance_id TEXT NOT NULL,
    PRIMARY KEY (subnet_id, ip)
) /*lite: WITHOUT ROWID */;
CREATE UNIQUE INDEX subnet_addresses_instance ON subnet_addresses (instance_id);

-- The next address to try, so that a released one rests a while; and the next VXLAN id.
CREATE TABLE network_counters (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
