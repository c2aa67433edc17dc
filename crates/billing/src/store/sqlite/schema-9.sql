-- Requests that clients named (Idempotency-Key), as digests: a repetition of one is charged once. A row goes when the time for
-- repeating is over.
CREATE TABLE repeated (
  account_id  TEXT   NOT NULL REFERENCES account(id),
  key         TEXT   NOT NULL CHECK (length(key) = 64),
  body        TEXT   NOT NULL CHECK (length(body) = 64),
  node        TEXT   NOT NULL,
  incarnation BIGINT NOT NULL,
  generation  BIGINT NOT NULL,
  at          BIGINT NOT NULL,
  repeated    TEXT   NOT NULL,
  PRIMARY KEY (account_id, key)
);
CREATE INDEX repeated_at ON repeated (at);
