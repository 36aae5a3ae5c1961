-- How many messages a box holds, by ten minutes of their creation, so that neither counting nor finding out whether any is past
-- its retention reads messages.  Written in the transaction that writes the message.  On PostgreSQL each connection has rows of its
-- own, so that senders to a queue do not wait for each other.
CREATE TABLE queue_counts (
    box_id TEXT NOT NULL,
    bucket BIGINT NOT NULL,
    shard BIGINT NOT NULL,
    messages BIGINT NOT NULL,
    PRIMARY KEY (box_id, bucket, shard)
) /*lite: WITHOUT ROWID */;

INSERT INTO queue_counts (box_id, bucket, shard, messages)
    SELECT box_id, created_at / 600000000, 0, count(*) FROM queue_messages GROUP BY box_id, created_at / 600000000;
