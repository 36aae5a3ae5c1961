-- An instance that is deleted is shown until its host has ended it, an image until its last instance has gone.  Their names are
-- free at once.
ALTER TABLE instances ADD COLUMN deleted_at BIGINT NOT NULL DEFAULT 0;
DROP INDEX instances_name;
CREATE UNIQUE INDEX instances_name ON instances (tenant_id, mode, name, (CASE WHEN deleted_at = 0 THEN '' ELSE id END));
DROP INDEX instances_vpc_name;
CREATE UNIQUE INDEX instances_vpc_name
    ON instances (vpc_id, lower(name /*pg: COLLATE "C" */), (CASE WHEN deleted_at = 0 THEN '' ELSE id END));
CREATE INDEX instances_deleted ON instances (deleted_at) WHERE deleted_at > 0;

ALTER TABLE images ADD COLUMN deleted_at BIGINT NOT NULL DEFAULT 0;
DROP INDEX images_name;
CREATE UNIQUE INDEX images_name ON images (tenant_id, mode, name, (CASE WHEN deleted_at = 0 THEN '' ELSE id END));
CREATE INDEX images_deleted ON images (deleted_at) WHERE deleted_at > 0;
