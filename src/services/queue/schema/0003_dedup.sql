-- What the first answer showed, so that a duplicate is answered the same, also when the message is gone by then.
ALTER TABLE queue_dedup ADD COLUMN body TEXT;
ALTER TABLE queue_dedup ADD COLUMN attributes TEXT;
ALTER TABLE queue_dedup ADD COLUMN group_id TEXT;
ALTER TABLE queue_dedup ADD COLUMN visible_at BIGINT;
ALTER TABLE queue_dedup ADD COLUMN created_at BIGINT;
