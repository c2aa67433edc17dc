-- Whose a key is, asked the other way round: an account shows its keys.
CREATE INDEX api_key_of ON api_key (account_id);
