-- How many requests an account made today, or this month.
CREATE INDEX usage_at ON usage (account_id, at);
