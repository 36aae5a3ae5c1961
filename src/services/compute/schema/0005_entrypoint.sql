-- What a launch says of an image's entrypoint.
ALTER TABLE instances ADD COLUMN entrypoint TEXT;
