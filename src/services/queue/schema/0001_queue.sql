-- A queue's messages hang on its box.  Purging gives the queue a new box and deleting it leaves the old one
-- behind: both cost one row now, and the box is emptied afterwards, a bounded number of rows at a time.
CREATE TABLE queues (
    id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    user_id TEXT,
    project_id TEXT,
    mode TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    fifo BOOLEAN NOT NULL,
    visibility_timeout BIGINT NOT NULL,
    delay_seconds BIGINT NOT NULL,
    retention_days BIGINT NOT NULL,
    max_message_size BIGINT NOT NULL,
    dead_letter_queue_id TEXT,
    max_receives BIGINT NOT NULL,
    tags TEXT,
    box_id TEXT NOT NULL
);
CREATE UNIQUE INDEX queues_name ON queues (tenant_id, mode, name);
CREATE INDEX queues_order ON queues (tenant_id, mode, created_at, id);
CREATE INDEX queues_dead_letter ON queues (dead_letter_queue_id) WHERE dead_letter_queue_id IS NOT NULL;

CREATE TABLE queue_messages (
    seq /*lite: INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT */ /*pg: BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY */,
    id TEXT NOT NULL,
    box_id TEXT NOT NULL,
    body TEXT NOT NULL,
    attributes TEXT,
    group_id TEXT,
    visible_at BIGINT NOT NULL,
    received_count BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX queue_messages_due ON queue_messages (box_id, visible_at, seq);
CREATE INDEX queue_messages_group ON queue_messages (box_id, group_id, seq) WHERE group_id IS NOT NULL;

CREATE TABLE queue_dedup (
    box_id TEXT NOT NULL,
    dedup_id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    until_at BIGINT NOT NULL,
    PRIMARY KEY (box_id, dedup_id)
) /*lite: WITHOUT ROWID */;
CREATE INDEX queue_dedup_age ON queue_dedup (box_id, until_at);

CREATE TABLE queue_dead_boxes (
    box_id TEXT NOT NULL PRIMARY KEY,
    queue_id TEXT NOT NULL
);
CREATE INDEX queue_dead_boxes_queue ON queue_dead_boxes (queue_id);
