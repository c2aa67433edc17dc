-- What a reversal (a refund, a dispute) undid of a grant: see `Reversed` in the ledger. Nothing was reversed before.
ALTER TABLE grants ADD COLUMN revoked BIGINT NOT NULL DEFAULT 0 CHECK (revoked BETWEEN 0 AND amount);
ALTER TABLE grants ADD COLUMN aside BIGINT NOT NULL DEFAULT 0 CHECK (aside BETWEEN 0 AND voided + void_claim);
ALTER TABLE grants ADD COLUMN reclaimed BIGINT NOT NULL DEFAULT 0 CHECK (reclaimed BETWEEN 0 AND used - clawed);
ALTER TABLE grants ADD COLUMN owed BIGINT NOT NULL DEFAULT 0 CHECK (owed BETWEEN 0 AND reclaimed);
ALTER TABLE grants ADD COLUMN owes BIGINT NOT NULL DEFAULT 1 CHECK (owes IN (0, 1));
CREATE INDEX grants_frozen ON grants (account_id) WHERE aside > revoked;

-- What Stripe told of one payment, or of one invoice: folded, so that the order in which it was told does not matter.
CREATE TABLE payment_fact (
  id         TEXT PRIMARY KEY,
  account_id TEXT REFERENCES account(id),
  package    TEXT,
  body       TEXT NOT NULL
);
CREATE INDEX payment_fact_of ON payment_fact (account_id, package) WHERE package IS NOT NULL;
