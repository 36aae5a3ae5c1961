-- Version of the API in the key's first use.
ALTER TABLE identity_keys ADD COLUMN api_version TEXT;
