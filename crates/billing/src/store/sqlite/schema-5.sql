-- Which request a hold was for. Only holds: a lease is spent by many requests, and a charge of it tells of all.
-- 2^40 is the least generation of a hold.
CREATE INDEX charge_of_hold ON charge (grant_id, generation) WHERE generation >= 1099511627776;

-- How often an event was applied, and what it failed at last. The column of its status is made anew, for two more words.
ALTER TABLE event ADD COLUMN attempts BIGINT NOT NULL DEFAULT 1 CHECK (attempts >= 0);
ALTER TABLE event ADD COLUMN last_error TEXT;
ALTER TABLE event ADD COLUMN last_at BIGINT;
UPDATE event SET last_at = received_at;
DROP INDEX event_by_status;
DROP INDEX event_waiting;
ALTER TABLE event RENAME COLUMN status TO status_before;
ALTER TABLE event ADD COLUMN status TEXT NOT NULL DEFAULT 'review'
  CHECK (status IN ('applied', 'ignored', 'unmatched', 'waiting', 'conflict', 'review', 'failed', 'parked'));
UPDATE event SET status = status_before;
ALTER TABLE event DROP COLUMN status_before;
CREATE INDEX event_by_status ON event (status, seq);
CREATE INDEX event_waiting ON event (customer, seq) WHERE status IN ('unmatched', 'waiting');
CREATE INDEX event_by_id ON event (id);

-- What others are told of, written with what it tells of. A row goes when it is accepted.
CREATE TABLE outbox (
  seq        INTEGER PRIMARY KEY AUTOINCREMENT,
  id         TEXT   NOT NULL UNIQUE,
  kind       TEXT   NOT NULL,
  account_id TEXT   NOT NULL REFERENCES account(id),
  body       TEXT   NOT NULL,
  at         BIGINT NOT NULL,
  attempts   BIGINT NOT NULL DEFAULT 0 CHECK (attempts >= 0),
  next_at    BIGINT,
  last_error TEXT
);
CREATE INDEX outbox_due ON outbox (next_at) WHERE next_at IS NOT NULL;
