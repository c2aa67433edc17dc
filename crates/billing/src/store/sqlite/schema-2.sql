-- The last sync of each worker that came: one that comes later, and was sent earlier, is nobody's any more.
ALTER TABLE worker ADD COLUMN sent_seq BIGINT NOT NULL DEFAULT 0 CHECK (sent_seq >= 0);
