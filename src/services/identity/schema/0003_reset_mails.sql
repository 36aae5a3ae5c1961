-- Mails that set a new password, by user: three within an hour of the first.
CREATE TABLE reset_mails (
    user_id TEXT NOT NULL PRIMARY KEY REFERENCES users (id),
    mails BIGINT NOT NULL,
    first_at BIGINT NOT NULL
);
CREATE INDEX tenant_members_order ON tenant_members (tenant_id, created_at, user_id);
