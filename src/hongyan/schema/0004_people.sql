-- People at the console: who they are, how they sign in, what their programs call us with; and the audit of it all.

-- control.users: a person at the console. An e-mail belongs to one person, whatever its capitals.
CREATE TABLE console_user (
    id            int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id     int REFERENCES tenant,               -- null = of the platform
    email         text NOT NULL UNIQUE CHECK (email = lower(email) AND length(email) BETWEEN 3 AND 254),
    name          text NOT NULL CHECK (name <> ''),
    role          text NOT NULL,
    password_hash text NOT NULL,                       -- Argon2id, with its parameters and salt
    active        boolean NOT NULL DEFAULT true,
    created_at    timestamptz NOT NULL DEFAULT now(),
    CHECK ((tenant_id IS NULL) = (role IN ('operator', 'reviewer', 'finance', 'support'))),
    CHECK (role IN ('operator', 'reviewer', 'finance', 'support', 'owner', 'developer', 'marketer', 'viewer'))
);
CREATE INDEX console_user_tenant ON console_user ((coalesce(tenant_id, 0)), id);

-- control.authenticators: what makes one-time codes for a person, besides the password.
CREATE TABLE authenticator (
    user_id    int PRIMARY KEY REFERENCES console_user,
    sealed     bytea NOT NULL,                         -- the secret it shares with us
    confirmed  boolean NOT NULL DEFAULT false,         -- it has shown a right code; from then on it is asked for
    step       bigint NOT NULL DEFAULT 0,              -- of the last code that was used: each works once
    created_at timestamptz NOT NULL DEFAULT now()
);

-- control.authenticators: what lets somebody in who lost the authenticator. Deleted when used.
CREATE TABLE recovery_code (
    user_id int NOT NULL REFERENCES console_user,
    hash    bytea NOT NULL,                            -- SHA-256 of 80 random bits
    PRIMARY KEY (user_id, hash)
);

-- control.sign_ins: a browser somebody signed in with. Deleted when it ends.
CREATE TABLE sign_in (
    id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    int NOT NULL REFERENCES console_user,
    token_hash bytea NOT NULL UNIQUE,                  -- SHA-256 of 32 random octets
    address    text NOT NULL,                          -- where it was last seen
    created_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now()      -- renewed once a minute
) WITH (fillfactor = 70);
CREATE INDEX sign_in_user ON sign_in (user_id);
CREATE INDEX sign_in_created ON sign_in (created_at);

-- control.attempts: how often somebody tried to get in lately, for an e-mail and for an address.
CREATE TABLE sign_in_attempt (
    key     bytea PRIMARY KEY,                         -- keyed MAC: what is typed as an e-mail may be a password
    count   int NOT NULL,
    last_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);
CREATE INDEX sign_in_attempt_last ON sign_in_attempt (last_at);

-- control.invitations: who may become a user, or, with user_id, choose a new password.
CREATE TABLE invitation (
    id          int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   int REFERENCES tenant,                 -- null = to the platform
    email       text NOT NULL CHECK (email = lower(email)),
    name        text NOT NULL DEFAULT '',
    role        text NOT NULL,
    token_hash  bytea NOT NULL UNIQUE,
    invited_by  int REFERENCES console_user,           -- null = at the command line
    user_id     int REFERENCES console_user,           -- null = somebody new
    frees_totp  boolean NOT NULL DEFAULT false,        -- with user_id: the authenticator is lost too
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    accepted_at timestamptz,
    revoked_at  timestamptz
);
CREATE INDEX invitation_user ON invitation (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX invitation_tenant ON invitation ((coalesce(tenant_id, 0)), id);

-- control.tokens: what a person's own programs call us with.
CREATE TABLE api_token (
    id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    int NOT NULL REFERENCES console_user,
    name       text NOT NULL CHECK (name <> ''),
    hint       text NOT NULL,                          -- its first characters, to tell it from others
    token_hash bytea NOT NULL UNIQUE,
    scopes     text[] NOT NULL,                        -- it may what is in here and its maker may at the time
    addresses  text[] NOT NULL DEFAULT '{}',           -- CIDR; empty = everywhere
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at    timestamptz,                            -- renewed once a minute
    used_from  text NOT NULL DEFAULT '',
    revoked_at timestamptz
) WITH (fillfactor = 70);
CREATE INDEX api_token_user ON api_token (user_id, id);

-- control.audit: what was changed, by whom, from where. Each record's hash covers the record and the hash before it.
-- Texts are kept as they were hashed, octet by octet: jsonb would write them anew.
CREATE TABLE audit (
    seq        bigint PRIMARY KEY,                     -- 1, 2, 3 … without gaps
    at         timestamptz NOT NULL,
    actor      text NOT NULL,
    action     text NOT NULL,
    subject    text NOT NULL,
    tenant_id  int,
    address    text NOT NULL,
    request_id text NOT NULL,
    detail     text NOT NULL,                          -- JSON
    hash       bytea NOT NULL CHECK (length(hash) = 32)
);
CREATE INDEX audit_tenant ON audit (tenant_id, seq);
CREATE INDEX audit_subject ON audit (subject, seq);
CREATE INDEX audit_actor ON audit (actor, seq);
CREATE INDEX audit_action ON audit (action, seq);

-- control.audit: the last record, so that a tail cut off is missed; its row lock lets one write at a time.
CREATE TABLE audit_head (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq  bigint NOT NULL,
    hash bytea NOT NULL
) WITH (fillfactor = 10);
INSERT INTO audit_head (seq, hash) VALUES (0, '\x0000000000000000000000000000000000000000000000000000000000000000');

CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER audit_head_stays BEFORE DELETE OR TRUNCATE ON audit_head
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();

CREATE FUNCTION demand_audit_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.seq <> OLD.seq + 1 THEN
        RAISE EXCEPTION 'the audit goes forward, by one' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_head_forward BEFORE UPDATE ON audit_head
    FOR EACH ROW EXECUTE FUNCTION demand_audit_forward();
