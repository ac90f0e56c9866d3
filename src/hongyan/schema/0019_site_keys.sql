-- What a browser may do by itself: publishable keys of pages, and answers to challenges, each of which counts once.

-- control.site_keys: a key that a page shows to everybody. It has no secret: what it may is start a verification and check a code,
-- from pages of its origins, and always after a challenge.
CREATE TABLE site_key (
    id               int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key_id           text NOT NULL UNIQUE,
    app_id           int NOT NULL REFERENCES app,
    name             text NOT NULL,
    origins          text[] NOT NULL,                -- as browsers write them: scheme://host, and :port unless it is usual
    return_addresses text[] NOT NULL DEFAULT '{}',   -- where the hosted page may hand its proof to
    scenes           text[] NOT NULL,                -- vocab.verification.Scene
    sandbox          boolean NOT NULL DEFAULT false, -- it reaches sandbox numbers only
    active           boolean NOT NULL DEFAULT true,
    created_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX site_key_app ON site_key (app_id);

-- otp.challenge: a challenge that was answered, right or wrong, until it has expired by itself.
CREATE TABLE challenge_used (
    token bytea PRIMARY KEY,
    until timestamptz NOT NULL
);
CREATE INDEX challenge_used_until ON challenge_used (until);
