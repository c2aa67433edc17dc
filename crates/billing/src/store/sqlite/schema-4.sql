-- What was paid for each subscription and what that brought: later payments, refills and rollovers depend on it.
CREATE TABLE paid (
  account_id   TEXT NOT NULL REFERENCES account(id),
  subscription TEXT NOT NULL,
  body         TEXT NOT NULL,
  PRIMARY KEY (account_id, subscription)
);
