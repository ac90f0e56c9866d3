-- Alarms: what is watched, what is amiss, and whom that is still to be told.

-- control.alarms: what is watched, for the platform or for one tenant.
CREATE TABLE alarm_rule (
    id          int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   int REFERENCES tenant,               -- null = of the platform
    kind        text NOT NULL,                       -- control/readings.py, Kind
    name        text NOT NULL CHECK (name <> ''),
    threshold   float8 NOT NULL,                     -- in the kind's unit
    window_s    int NOT NULL CHECK (window_s BETWEEN 60 AND 3600),
    volume_min  int NOT NULL DEFAULT 0 CHECK (volume_min >= 0), -- with fewer messages nothing is said
    for_s       int NOT NULL DEFAULT 60 CHECK (for_s BETWEEN 0 AND 3600),  -- it must stay so, for so long
    repeat_s    int NOT NULL DEFAULT 14400 CHECK (repeat_s BETWEEN 600 AND 604800), -- told again while nobody has seen it
    emails      text[] NOT NULL DEFAULT '{}',
    webhook_url text NOT NULL DEFAULT '',
    sealed      bytea,                               -- the secret its POSTs are signed with
    active      boolean NOT NULL DEFAULT true,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX alarm_rule_tenant ON alarm_rule (tenant_id, id);

-- control.alarms: something that is, or was, amiss. At most one open for a rule and subject.
CREATE TABLE alarm (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule_id      int NOT NULL REFERENCES alarm_rule ON DELETE CASCADE,
    tenant_id    int,                                -- whose subject it is; null = the platform's
    subject      text NOT NULL,                      -- channel:3, tenant:7, filing:5/cmcc
    name         text NOT NULL,                      -- of the subject, for people
    value        float8 NOT NULL,                    -- the last one
    worst        float8 NOT NULL,
    flaps        int NOT NULL DEFAULT 0,             -- how often it came back soon after it had gone
    raised_at    timestamptz NOT NULL,
    recovered_at timestamptz,
    told_at      timestamptz NOT NULL,               -- when people were last told
    untold       boolean NOT NULL DEFAULT false,     -- it came back so soon after it had gone that nobody was told yet
    seen_by      text NOT NULL DEFAULT '',
    seen_at      timestamptz
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX alarm_open ON alarm (rule_id, subject) WHERE recovered_at IS NULL;
CREATE INDEX alarm_recovered ON alarm (rule_id, subject, recovered_at);
CREATE INDEX alarm_tenant ON alarm (tenant_id, id);

-- control.alarm_notes: what somebody is still to be told; deleted when it arrived or was given up.
CREATE TABLE alarm_note (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule_id    int NOT NULL REFERENCES alarm_rule ON DELETE CASCADE,
    way        text NOT NULL,                        -- an e-mail address, or 'webhook'
    subject    text NOT NULL,
    words      text NOT NULL,
    body       jsonb NOT NULL,
    attempt    smallint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    due_at     timestamptz NOT NULL DEFAULT now(),
    last_error text NOT NULL DEFAULT ''
);
CREATE INDEX alarm_note_due ON alarm_note (due_at);

-- What an operator would want to know anyway; e-mail addresses are for the operator to add.
INSERT INTO alarm_rule (kind, name, threshold, window_s, volume_min, for_s) VALUES
    ('channel_down', 'A channel has no session', 60, 60, 0, 0),
    ('channel_success', 'A channel delivers badly', 0.7, 600, 50, 120),
    ('report_latency', 'Reports of a channel come late', 60, 600, 50, 300),
    ('backlog', 'Messages wait too long to leave', 60, 60, 0, 60),
    ('webhook_paused', 'An app does not take its notices', 0, 60, 0, 600),
    ('filing_ends', 'A filing ends soon', 30, 60, 0, 0),
    ('opt_out_rate', 'Many people opt out', 0.02, 3600, 200, 60),
    ('complaint_rate', 'Many people complain', 0.0001, 3600, 1000, 60);
