CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    email TEXT NOT NULL,
    name TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    status TEXT NOT NULL,
    operator BOOLEAN NOT NULL,
    email_verified BOOLEAN NOT NULL,
    default_tenant_id TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX users_email ON users (email);

CREATE TABLE tenants (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    slug TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    plan TEXT NOT NULL,
    status TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX tenants_slug ON tenants (slug);

CREATE TABLE tenant_members (
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    role TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX tenant_members_user ON tenant_members (user_id);

-- Keys of users (user_id set; tenant_id set where pinned) and of projects (project_id and tenant_id set).
CREATE TABLE identity_keys (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT REFERENCES users (id),
    tenant_id TEXT REFERENCES tenants (id),
    project_id TEXT,
    mode TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    last4 TEXT NOT NULL,
    hash TEXT NOT NULL,
    old_hash TEXT,
    old_until BIGINT,
    scopes TEXT,
    allowed_ips TEXT,
    expires_at BIGINT,
    last_used BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX identity_keys_hash ON identity_keys (hash);
CREATE UNIQUE INDEX identity_keys_old_hash ON identity_keys (old_hash) WHERE old_hash IS NOT NULL;
CREATE INDEX identity_keys_user ON identity_keys (user_id, created_at, id);

CREATE TABLE password_resets (
    hash TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    expires_at BIGINT NOT NULL
);

-- Failed log-ins by address, known or not: five in fifteen minutes lock it for fifteen.
CREATE TABLE login_failures (
    email TEXT NOT NULL PRIMARY KEY,
    failures BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    locked_until BIGINT NOT NULL
);

CREATE TABLE mails (
    id TEXT NOT NULL PRIMARY KEY,
    address TEXT NOT NULL,
    subject TEXT NOT NULL,
    sealed TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
