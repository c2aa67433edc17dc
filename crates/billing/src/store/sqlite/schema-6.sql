-- Whose credits a member spends. A pool is an account like any other, and has no pool itself.
CREATE TABLE member (
  account_id TEXT   PRIMARY KEY REFERENCES account(id),
  pool_id    TEXT   NOT NULL REFERENCES account(id),
  at         BIGINT NOT NULL,
  CHECK (account_id <> pool_id)
);
CREATE INDEX member_pool ON member (pool_id);
