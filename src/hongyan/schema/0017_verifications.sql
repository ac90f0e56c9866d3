-- Verification codes: who was asked to prove a number, how often, and how strict a tenant is about it.

-- otp: one proof of a number asked for (issue, check, ripen, proof, fallback, persons). Times are the program's. What is compared
-- is a MAC; what may be sent again is sealed, and gone once the verification has ended.
CREATE TABLE verification (
    tenant_id    int NOT NULL,
    id           uuid NOT NULL,                      -- version 7: when it was asked for
    app_id       int NOT NULL,
    site_key_id  int NOT NULL DEFAULT 0,             -- 0: the app's own server asked
    scene        smallint NOT NULL,                  -- vocab.verification.Scene
    state        smallint NOT NULL DEFAULT 0,        -- vocab.verification.State
    medium       text NOT NULL,                      -- the last one used: sms, email …
    sandbox      boolean NOT NULL,
    phone_index  bytea NOT NULL,
    sealed       bytea NOT NULL,                     -- the number and what was asked; the tenant's key
    code         bytea,                              -- sealed with the same key; NULL once it has ended
    mac          bytea,                              -- of the code and all it is bound to; the same
    mac_before   bytea,                              -- of the code before, where a resend makes a new one
    pepper       smallint NOT NULL,                  -- version of the key of the MACs
    guess_space  float8 NOT NULL,                    -- how many codes there might have been
    tries        smallint NOT NULL DEFAULT 0,
    tries_max    smallint NOT NULL,
    sends        smallint NOT NULL DEFAULT 1,
    country      text NOT NULL,
    operator     text NOT NULL,
    province     text NOT NULL,
    prefix       text NOT NULL,                      -- E.164 without its last four digits
    level        smallint NOT NULL,                  -- of the challenge that was solved before
    device       bytea,                              -- keyed hash
    reference    text,
    message_ids  uuid[] NOT NULL,                    -- of every send, the first first
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    resend_at    timestamptz NOT NULL,               -- not before then
    fallback_at  timestamptz,                        -- when to see whether another medium is needed; NULL: never
    ended_at     timestamptz,
    proof_hash   bytea,                              -- of the proof that was given out
    proof_until  timestamptz,
    proved_at    timestamptz,                        -- when it was redeemed
    counted      boolean NOT NULL DEFAULT false,     -- in conversion, credit and funnel
    PRIMARY KEY (tenant_id, id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX verification_expiring ON verification (expires_at) WHERE state = 0;
CREATE INDEX verification_ended ON verification (ended_at) WHERE ended_at IS NOT NULL AND NOT counted;
CREATE INDEX verification_fallback ON verification (fallback_at) WHERE fallback_at IS NOT NULL;
CREATE INDEX verification_number ON verification (tenant_id, phone_index, id);

CREATE TYPE verification_row AS (
    tenant_id int, id uuid, app_id int, site_key_id int, scene smallint, medium text, sandbox boolean, phone_index bytea,
    sealed bytea, code bytea, mac bytea, pepper smallint, guess_space float8, tries_max smallint, country text, operator text,
    province text, prefix text, level smallint, device bytea, reference text, message_ids uuid[], created_at timestamptz,
    expires_at timestamptz, resend_at timestamptz, fallback_at timestamptz
);

-- otp.limits: when somebody or something, known here by a keyed hash alone, asked lately: a number in a scene, an address, a
-- device. The number's own row also counts wrong codes.
CREATE TABLE otp_limit (
    key        bytea PRIMARY KEY,
    hits       bigint[] NOT NULL DEFAULT '{}',       -- Unix milliseconds, the oldest first
    failures   int NOT NULL DEFAULT 0,               -- wrong codes since the last right one
    last_id    uuid,                                 -- the verification asked for last
    proved_at  timestamptz,                          -- a right code was given last
    touched_on date NOT NULL                         -- a day of UTC: what is idle long is forgotten
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX otp_limit_idle ON otp_limit (touched_on);

-- otp.policies: how strict a tenant is, in a scene or ('') in all of them.
CREATE TABLE verify_policy (
    tenant_id  int NOT NULL REFERENCES tenant,
    scene      text NOT NULL,
    policy     text NOT NULL,                        -- JSON, otp.policy.Policy: what differs from the defaults
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, scene)
);
