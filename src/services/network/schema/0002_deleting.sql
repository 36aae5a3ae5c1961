-- What is deleted is shown until the last instance in it has gone from its host.  Its name is free at once.
ALTER TABLE vpcs ADD COLUMN status_reason TEXT;
ALTER TABLE vpcs ADD COLUMN deleted_at BIGINT NOT NULL DEFAULT 0;
DROP INDEX vpcs_name;
CREATE UNIQUE INDEX vpcs_name ON vpcs (tenant_id, mode, name, (CASE WHEN deleted_at = 0 THEN '' ELSE id END));
CREATE INDEX vpcs_deleted ON vpcs (deleted_at) WHERE deleted_at > 0;

ALTER TABLE subnets ADD COLUMN status_reason TEXT;
ALTER TABLE subnets ADD COLUMN deleted_at BIGINT NOT NULL DEFAULT 0;
DROP INDEX subnets_name;
CREATE UNIQUE INDEX subnets_name ON subnets (vpc_id, name, (CASE WHEN deleted_at = 0 THEN '' ELSE id END));
CREATE INDEX subnets_deleted ON subnets (deleted_at) WHERE deleted_at > 0;

-- An address whose instance is being deleted: it is taken, and holds up no deletion.
ALTER TABLE subnet_addresses ADD COLUMN leaving BOOLEAN NOT NULL DEFAULT FALSE;
