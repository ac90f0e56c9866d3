-- Codes sent once more by letter, what follows by itself counted by the guard, and why a challenge was asked.

-- otp: issue, resend, fallback.
ALTER TABLE verification
    ADD COLUMN challenge_reasons text[] NOT NULL DEFAULT '{}',   -- why the challenge was asked that was passed
    ADD COLUMN owed boolean NOT NULL DEFAULT false,              -- the letter of the last id has not been handed over yet
    ADD COLUMN unasked smallint NOT NULL DEFAULT 0;              -- texts that followed by themselves; no sends, but the guard's

-- A type of its own, because a column more in the one before would stop the version that is running.
CREATE TYPE verification_row_2 AS (
    tenant_id int, id uuid, app_id int, site_key_id int, scene smallint, medium text, sandbox boolean, phone_index bytea,
    sealed bytea, code bytea, mac bytea, pepper smallint, guess_space float8, tries_max smallint, country text, operator text,
    province text, prefix text, level smallint, challenge_reasons text[], device bytea, reference text, message_ids uuid[],
    created_at timestamptz, expires_at timestamptz, resend_at timestamptz, fallback_at timestamptz
);
