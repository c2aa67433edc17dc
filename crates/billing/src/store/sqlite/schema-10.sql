-- What a request used beyond tokens in and out, by what it was charged, and what of that was not held.
ALTER TABLE usage ADD COLUMN beyond BIGINT NOT NULL DEFAULT 0 CHECK (beyond >= 0);
ALTER TABLE usage ADD COLUMN basis TEXT CHECK (basis IN ('stated', 'at_least', 'counted', 'input', 'hold'));
ALTER TABLE usage ADD COLUMN cache_written BIGINT;
ALTER TABLE usage ADD COLUMN reasoning BIGINT;
ALTER TABLE usage ADD COLUMN images BIGINT;
CREATE INDEX usage_request ON usage (request_id, seq);

-- The lines about the cells of a request. A hold is one request's, whichever grant pays; a lease is one grant's. A hold's
-- generation has bits above the 40th. That is not said as a range (>=): SQLite would look up the range, which is all holds there
-- are, instead of the one. So the index of charges is made anew too.
CREATE INDEX journal_hold ON journal (node, incarnation, generation) WHERE generation >> 40 > 0;
CREATE INDEX journal_lease ON journal (grant_id, generation) WHERE generation >> 40 = 0;
DROP INDEX charge_of_hold;
CREATE INDEX charge_of_hold ON charge (grant_id, generation) WHERE generation >> 40 > 0;
