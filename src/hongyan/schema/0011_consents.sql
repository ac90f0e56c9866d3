-- What persons agreed to and took back, what they complained about, and how long all of it is kept.

-- way.consent: one row each time a person agreed or took it back. Rows are only added; erasing a person empties `sealed`.
CREATE TABLE consent (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id    int NOT NULL,
    phone_index  bytea NOT NULL,
    scope        text NOT NULL,                      -- what for: 'promotional', a word of the tenant's own, '*' = all
    given        boolean NOT NULL,                   -- false: taken back
    source       text NOT NULL,                      -- where it was said: 'form', 'paper', 'inbound', …
    text_version text NOT NULL DEFAULT '',           -- which wording the person was shown
    at           timestamptz NOT NULL,               -- when the person said so
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    sealed       bytea                               -- number and evidence; null once erased
);
CREATE INDEX consent_person ON consent (tenant_id, phone_index, at, id);
CREATE INDEX consent_tenant ON consent (tenant_id, id);
CREATE INDEX consent_withdrawn ON consent (at) WHERE NOT given;

-- way.complaint: somebody complained about what a tenant sent.
CREATE TABLE complaint (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   int NOT NULL,
    phone_index bytea NOT NULL,
    source      text NOT NULL CHECK (source IN ('operator', '12321', 'regulator', 'person', 'inbound')),
    state       text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'answered', 'closed')),
    reference   text NOT NULL DEFAULT '',            -- the file number of whoever passed it on
    message_id  uuid,                                -- the message it is about, where that is known
    channel_id  int NOT NULL DEFAULT 0,              -- the one that carried it; 0 = not known
    received_at timestamptz NOT NULL,
    due_at      timestamptz NOT NULL,                -- an answer is owed by then
    answered_at timestamptz,
    closed_at   timestamptz,
    sealed      bytea                                -- number, words, answer; null once erased
);
CREATE INDEX complaint_tenant ON complaint (tenant_id, id);
CREATE INDEX complaint_person ON complaint (tenant_id, phone_index);
CREATE INDEX complaint_received ON complaint (received_at);
CREATE INDEX complaint_closed ON complaint (closed_at) WHERE closed_at IS NOT NULL;

-- What one person texted, for an export or an erasure.
CREATE INDEX inbound_phone ON inbound (phone_index, id);

-- A tenant's opt-outs and blocks as a list.
CREATE INDEX suppression_tenant ON suppression (tenant_id, kind, phone_index);

-- Whether promotional messages of a tenant need a consent on record. Lists are asked when they are sent; see
-- control/consents.py.
ALTER TABLE tenant ADD COLUMN consent_demanded boolean NOT NULL DEFAULT false;

-- control.retention: how long a class of rows or texts is kept, where somebody has said so. The rest follows
-- way/retention.py.
CREATE TABLE retention (
    tenant_id  int NOT NULL DEFAULT 0,               -- 0 = the platform; a tenant may only shorten its own texts
    class      text NOT NULL,
    days       int NOT NULL CHECK (days > 0),
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, class)
);

-- way.retention: how far the texts of each tenant have been taken away.
CREATE TABLE fading (
    tenant_id int NOT NULL,
    class     text NOT NULL,
    up_to     uuid NOT NULL,                         -- ids below have been looked at
    PRIMARY KEY (tenant_id, class)
);

-- way.retention: messages that were still open, or final too recently, when their turn came.
CREATE TABLE fading_later (
    tenant_id  int NOT NULL,
    class      text NOT NULL,
    message_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, class, message_id)
);
