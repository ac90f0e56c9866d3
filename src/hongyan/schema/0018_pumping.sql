-- The guard against SMS pumping: what is remembered of prefixes and countries, money spent on codes, wrong guesses, and what
-- was withheld.

-- otp: pumping and wards: a prefix ('+8613800000' without its last four digits), a country (prefix '') or all (country '' too) of a tenant.
-- Whoever changes one holds the row of all, so that batches of a tenant follow each other. Times are Unix seconds.
CREATE TABLE ward (
    tenant_id        int NOT NULL,
    country          text NOT NULL,
    prefix           text NOT NULL,
    credit           float8 NOT NULL DEFAULT 0,      -- so many messages may be under way unverified; 0: not asked yet
    outstanding      int NOT NULL DEFAULT 0,         -- so many are
    evidence         float8 NOT NULL DEFAULT 0,      -- of the CUSUM: an alarm at ln 10⁶
    codes            float8 NOT NULL DEFAULT 0,      -- the baseline is made of
    verified         float8 NOT NULL DEFAULT 0,      -- of them
    pending_codes    int NOT NULL DEFAULT 0,         -- under suspicion, and so not learnt from
    pending_verified int NOT NULL DEFAULT 0,
    spans            int[] NOT NULL DEFAULT '{}',    -- of codes that have not all matured: when, open, verified, not; again
    said             float8,                         -- a baseline that people have said
    turn             smallint NOT NULL DEFAULT 0,    -- 0 clear, 1 alarmed, 2 paused
    turned_at_s      float8 NOT NULL DEFAULT 0,
    probe_at_s       float8 NOT NULL DEFAULT 0,
    probes_right     smallint NOT NULL DEFAULT 0,
    probes_wrong     smallint NOT NULL DEFAULT 0,
    budget_micro     bigint NOT NULL DEFAULT 0,      -- as the rules last said, for alarms; 0: none
    allowed          text[] NOT NULL DEFAULT '{}',   -- of all: prefixes that are let by
    touched_on       date NOT NULL,                  -- a day of UTC: what is idle long is forgotten
    PRIMARY KEY (tenant_id, country, prefix)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX ward_turned ON ward (tenant_id, country, prefix) WHERE turn > 0;
CREATE INDEX ward_budget ON ward (tenant_id, country) WHERE prefix = '' AND budget_micro > 0;
CREATE INDEX ward_idle ON ward (touched_on);

-- otp.pumping: money spent on codes to a country, or ('') to all, in an hour (of Unix time).
CREATE TABLE code_spend (
    tenant_id int NOT NULL,
    country   text NOT NULL,
    hour      int NOT NULL,
    micro     bigint NOT NULL,
    PRIMARY KEY (tenant_id, country, hour)
) WITH (fillfactor = 60);
CREATE INDEX code_spend_hour ON code_spend (hour);

-- otp.meter: how often guessing would by now have hit, in expectation: wrong codes ÷ codes there are, in an hour. What
-- turns out to have been a slip of a person who then verified is taken back.
CREATE TABLE guess_meter (
    tenant_id int NOT NULL,
    hour      int NOT NULL,
    hits      float8 NOT NULL,
    PRIMARY KEY (tenant_id, hour)
) WITH (fillfactor = 60);
CREATE INDEX guess_meter_hour ON guess_meter (hour);

-- otp.withheld: codes that were not simply sent, counted. A prefix is named only where there is a ward of it, so that
-- whoever makes numbers up fills no table.
CREATE TABLE withheld (
    tenant_id  int NOT NULL,
    hour       timestamptz NOT NULL,
    app_id     int NOT NULL,
    country    text NOT NULL,
    prefix     text NOT NULL,
    reason     text NOT NULL,                        -- pumping.prefix_window … budget.country …
    action     text NOT NULL,                        -- otp.withheld.Action
    asks       bigint NOT NULL,
    cost_micro bigint NOT NULL,                      -- what they would have cost; of those passed, what they cost
    PRIMARY KEY (tenant_id, hour, app_id, country, prefix, reason, action)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX withheld_hour ON withheld (hour);

-- control.alarms: what an operator would want to know anyway.
INSERT INTO alarm_rule (kind, name, threshold, window_s, volume_min, for_s) VALUES
    ('pumping', 'Codes are pumped', 0, 60, 0, 0),
    ('guessing', 'Codes are guessed', 0.0008, 60, 0, 0),
    ('code_budget', 'The budget for codes runs out', 0.8, 60, 0, 0);
