-- The first schema. Amounts are whole micro-credits or requests, instants microseconds since 1970.
-- The CHECK constraints are the last line of the ledger's invariants: a bug becomes a transaction that fails, not a credit.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);

CREATE TABLE account (
  id                 TEXT   PRIMARY KEY,
  tier               TEXT,
  stage              TEXT   NOT NULL,
  why                TEXT,
  current_period_end BIGINT,
  cancel_at          BIGINT,
  changes_at         BIGINT,
  suspended          BIGINT NOT NULL CHECK (suspended IN (0, 1)),
  credited           BIGINT NOT NULL CHECK (credited IN (0, 1)),
  debt               BIGINT NOT NULL CHECK (debt >= 0),
  epoch              BIGINT NOT NULL CHECK (epoch >= 0),
  ver                BIGINT NOT NULL
);
CREATE INDEX account_due ON account (changes_at) WHERE changes_at IS NOT NULL;

CREATE TABLE grants (
  id         BIGINT PRIMARY KEY,
  account_id TEXT   NOT NULL REFERENCES account(id),
  unit       TEXT   NOT NULL CHECK (unit IN ('credits', 'requests')),
  scope      TEXT   NOT NULL,
  source     TEXT   NOT NULL CHECK (source IN ('window', 'subscription', 'purchase', 'promo', 'adjust')),
  source_ref TEXT   NOT NULL,
  priority   BIGINT NOT NULL,
  starts_at  BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  amount     BIGINT NOT NULL CHECK (amount BETWEEN 0 AND 9007199254740991),
  avail      BIGINT NOT NULL CHECK (avail >= 0),
  leased     BIGINT NOT NULL CHECK (leased >= 0),
  used       BIGINT NOT NULL CHECK (used >= 0),
  expired    BIGINT NOT NULL CHECK (expired >= 0),
  voided     BIGINT NOT NULL CHECK (voided >= 0),
  void_claim BIGINT NOT NULL CHECK (void_claim BETWEEN 0 AND leased),
  clawed     BIGINT NOT NULL CHECK (clawed >= 0),
  ver        BIGINT NOT NULL,
  UNIQUE (account_id, unit, source, source_ref),
  CHECK (amount = avail + leased + used + expired + voided)
);
CREATE INDEX grants_open ON grants (account_id) WHERE avail > 0 OR leased > 0;
CREATE INDEX grants_window ON grants (account_id, expires_at) WHERE source = 'window';
CREATE INDEX grants_due ON grants (expires_at) WHERE avail > 0;

CREATE TABLE grant_note (grant_id BIGINT PRIMARY KEY REFERENCES grants(id), note TEXT NOT NULL);

CREATE TABLE cell (
  account_id  TEXT   NOT NULL REFERENCES account(id),
  grant_id    BIGINT NOT NULL REFERENCES grants(id),
  node        TEXT   NOT NULL,
  incarnation BIGINT NOT NULL,
  generation  BIGINT NOT NULL,
  granted     BIGINT NOT NULL CHECK (granted >= 0),
  returned    BIGINT NOT NULL CHECK (returned >= 0),
  admitted    BIGINT NOT NULL CHECK (admitted >= 0),
  finished    BIGINT NOT NULL CHECK (finished >= 0),
  used        BIGINT NOT NULL CHECK (used >= 0),
  short       BIGINT NOT NULL CHECK (short >= 0),
  late        BIGINT NOT NULL CHECK (late >= 0),
  soft_at     BIGINT NOT NULL,
  hard_at     BIGINT NOT NULL,
  state       TEXT   NOT NULL CHECK (state IN ('open', 'soft', 'closed')),
  exposure    BIGINT NOT NULL CHECK (exposure >= 0),
  ver         BIGINT NOT NULL,
  PRIMARY KEY (grant_id, node, incarnation, generation),
  CHECK (finished <= admitted),
  CHECK (returned + used + (admitted - finished) <= granted)
);
CREATE INDEX cell_live ON cell (account_id) WHERE state <> 'closed';
CREATE INDEX cell_hold ON cell (node, incarnation, generation);
CREATE INDEX cell_soft ON cell (soft_at) WHERE state = 'open';
CREATE INDEX cell_hard ON cell (hard_at) WHERE state <> 'closed';

CREATE TABLE journal (
  seq         INTEGER PRIMARY KEY,
  at          BIGINT NOT NULL,
  account_id  TEXT   NOT NULL REFERENCES account(id),
  grant_id    BIGINT REFERENCES grants(id),
  node        TEXT,
  incarnation BIGINT,
  generation  BIGINT,
  kind        TEXT   NOT NULL,
  amount      BIGINT NOT NULL CHECK (amount >= 0)
);
CREATE INDEX journal_of ON journal (account_id, seq);

CREATE TABLE subject (
  kind       TEXT NOT NULL,
  value      TEXT NOT NULL,
  account_id TEXT NOT NULL REFERENCES account(id),
  at         BIGINT NOT NULL,
  PRIMARY KEY (kind, value)
);
CREATE TABLE customer (id TEXT PRIMARY KEY, account_id TEXT NOT NULL REFERENCES account(id), at BIGINT NOT NULL);
CREATE TABLE api_key (
  id         TEXT PRIMARY KEY,
  sha256     TEXT NOT NULL UNIQUE CHECK (length(sha256) = 64),
  account_id TEXT NOT NULL REFERENCES account(id),
  created_at BIGINT NOT NULL,
  revoked_at BIGINT
);

CREATE TABLE subscription (
  id         TEXT PRIMARY KEY,
  account_id TEXT NOT NULL REFERENCES account(id),
  body       TEXT NOT NULL
);
CREATE INDEX subscription_of ON subscription (account_id);
CREATE TABLE event (
  seq         INTEGER PRIMARY KEY,
  livemode    BIGINT NOT NULL CHECK (livemode IN (0, 1)),
  account     TEXT   NOT NULL,
  id          TEXT   NOT NULL,
  kind        TEXT   NOT NULL,
  received_at BIGINT NOT NULL,
  status      TEXT   NOT NULL CHECK (status IN ('applied', 'ignored', 'unmatched', 'waiting', 'conflict', 'review')),
  detail      TEXT   NOT NULL,
  customer    TEXT,
  account_id  TEXT   REFERENCES account(id),
  body        TEXT   NOT NULL,
  UNIQUE (livemode, account, id)
);
CREATE INDEX event_by_status ON event (status, seq);
CREATE INDEX event_waiting ON event (customer, seq) WHERE status IN ('unmatched', 'waiting');
CREATE TABLE payment (id TEXT PRIMARY KEY, account_id TEXT NOT NULL REFERENCES account(id), at BIGINT NOT NULL);
CREATE TABLE command (key TEXT PRIMARY KEY, digest TEXT NOT NULL, answer TEXT NOT NULL, at BIGINT NOT NULL);

CREATE TABLE node (node TEXT PRIMARY KEY, incarnation BIGINT NOT NULL CHECK (incarnation > 0), at BIGINT NOT NULL);
CREATE TABLE worker (
  node        TEXT   NOT NULL,
  incarnation BIGINT NOT NULL,
  worker      BIGINT NOT NULL,
  usage_acked BIGINT NOT NULL CHECK (usage_acked >= 0),
  PRIMARY KEY (node, incarnation, worker)
);
CREATE TABLE usage (
  seq           INTEGER PRIMARY KEY,
  node          TEXT   NOT NULL,
  incarnation   BIGINT NOT NULL,
  worker        BIGINT NOT NULL,
  n             BIGINT NOT NULL CHECK (n > 0),
  account_id    TEXT   NOT NULL,
  request_id    TEXT   NOT NULL,
  endpoint      TEXT   NOT NULL,
  outcome       TEXT   NOT NULL,
  returned      BIGINT NOT NULL CHECK (returned >= 0),
  price_version BIGINT NOT NULL,
  model         TEXT,
  input         BIGINT,
  cached        BIGINT,
  output        BIGINT,
  at            BIGINT NOT NULL,
  received_at   BIGINT NOT NULL,
  UNIQUE (node, incarnation, worker, n)
);
CREATE INDEX usage_of ON usage (account_id, seq);
CREATE TABLE charge (
  usage_seq  BIGINT NOT NULL REFERENCES usage(seq),
  grant_id   BIGINT NOT NULL,
  generation BIGINT NOT NULL,
  amount     BIGINT NOT NULL CHECK (amount >= 0),
  PRIMARY KEY (usage_seq, grant_id, generation)
);

CREATE TABLE claim (
  endpoint TEXT   NOT NULL,
  livemode BIGINT NOT NULL CHECK (livemode IN (0, 1)),
  account  TEXT   NOT NULL,
  event_id TEXT   NOT NULL,
  state    TEXT   NOT NULL CHECK (state IN ('claimed', 'free', 'done')),
  claimant TEXT   NOT NULL,
  token    TEXT   NOT NULL,
  until_at BIGINT NOT NULL,
  PRIMARY KEY (endpoint, livemode, account, event_id)
);
