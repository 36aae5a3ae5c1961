-- The text of a mail, sealed as core seals columns; in the rows that are there 'sealed' has it.
ALTER TABLE mails ADD COLUMN text TEXT;
