-- A repetition is held like any other request, and what was charged for those before it is taken off what it costs.
ALTER TABLE repeated ADD COLUMN paid_credits BIGINT NOT NULL DEFAULT 0 CHECK (paid_credits >= 0);
ALTER TABLE repeated ADD COLUMN paid_requests BIGINT NOT NULL DEFAULT 0 CHECK (paid_requests >= 0);
ALTER TABLE repeated ADD COLUMN count INTEGER NOT NULL DEFAULT 0 CHECK (count >= 0);
UPDATE repeated SET count = json_array_length(repeated);
ALTER TABLE repeated DROP COLUMN repeated;
