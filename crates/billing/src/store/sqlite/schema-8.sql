-- The messages that were given up, so that the oldest are found and those that wait are counted without them.
CREATE INDEX outbox_dead ON outbox (seq) WHERE next_at IS NULL;
