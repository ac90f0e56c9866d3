-- The tables of the way and of what it flies by.
-- Every table is written by one room, named above it. Money is bigint, millionths of the tenant's currency.
-- Statuses, purposes and causes are the numbers of vocab/message.py and vocab/cause.py.
-- The tenant stands first in every key of the data plane, so that the same schema also distributes by tenant.

-- ─── control ──────────────────────────────────────────────────────────────────────────────────────────

-- control.data_keys: wrapped by the master key, which never enters the database.
CREATE TABLE vault_key (
    name       text PRIMARY KEY,              -- 'index' (MAC of numbers), 'secrets', 'tenant:<id>'
    wrapped    bytea NOT NULL,                -- AES-256-GCM: nonce, ciphertext, tag; AAD = name
    created_at timestamptz NOT NULL DEFAULT now()
);

-- control.tenants
CREATE TABLE tenant (
    id               int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name             text NOT NULL UNIQUE CHECK (name <> ''),
    active           boolean NOT NULL DEFAULT true,
    currency         char(3) NOT NULL DEFAULT 'CNY',
    charge_on        text NOT NULL DEFAULT 'submit' CHECK (charge_on IN ('submit', 'delivery')),
    countries        text[] NOT NULL DEFAULT '{CN}',     -- ISO alpha-2; '*' = every country with a price
    weight           smallint NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 100),  -- share inside a lane
    quiet_from_hour  smallint NOT NULL DEFAULT 20 CHECK (quiet_from_hour BETWEEN 9 AND 21),
    quiet_until_hour smallint NOT NULL DEFAULT 9 CHECK (quiet_until_hour BETWEEN 8 AND 12),
    limits           jsonb NOT NULL DEFAULT '{}',         -- per purpose: {"otp": [1, 5, 10]} a minute, hour, day
    duplicate_s      int NOT NULL DEFAULT 0 CHECK (duplicate_s BETWEEN 0 AND 86400), -- same text, same number
    created_at       timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE app (
    id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id  int NOT NULL REFERENCES tenant,
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name)
);

-- control.keys
CREATE TABLE app_key (
    id          int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key_id      text NOT NULL UNIQUE,
    app_id      int NOT NULL REFERENCES app,
    sealed      bytea NOT NULL,               -- the secret, needed again to check MACs
    allow_basic boolean NOT NULL DEFAULT false,
    free_text   boolean NOT NULL DEFAULT false,
    sandbox     boolean NOT NULL DEFAULT false,
    addresses   text[] NOT NULL DEFAULT '{}', -- CIDR; empty = everywhere
    rate_per_s  int NOT NULL DEFAULT 0 CHECK (rate_per_s >= 0),  -- 0 = no limit
    active      boolean NOT NULL DEFAULT true,
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- control.wording
CREATE TABLE signature (
    id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id  int NOT NULL REFERENCES tenant,
    name       text NOT NULL CHECK (name <> ''),
    state      text NOT NULL DEFAULT 'reviewing',   -- draft reviewing approved rejected canceled disabled
    extension  text NOT NULL DEFAULT '' CHECK (extension ~ '^[0-9]{0,12}$'),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name)
);
CREATE TABLE template (
    id           int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id    int NOT NULL REFERENCES tenant,
    code         text NOT NULL,                      -- what callers say
    body         text NOT NULL,                      -- ${name} or {name}
    purpose      smallint NOT NULL CHECK (purpose BETWEEN 0 AND 2),
    scope        text NOT NULL DEFAULT 'any' CHECK (scope IN ('mainland', 'international', 'any')),
    signature_id int REFERENCES signature,           -- bound, or any of the tenant's
    variables    jsonb NOT NULL DEFAULT '{}',        -- name → {"kind": …, "max": …}
    resend       boolean NOT NULL DEFAULT true,      -- a notice that may be sent again when unsure
    state        text NOT NULL DEFAULT 'reviewing',
    created_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, code)
);

-- control.upstreams
CREATE TABLE channel (
    id            int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text NOT NULL UNIQUE,
    kind          text NOT NULL,
    sealed        bytea NOT NULL,                    -- the kind's Config as JSON: it holds passwords
    active        boolean NOT NULL DEFAULT true,
    paused        boolean NOT NULL DEFAULT false,
    parts_per_s   int NOT NULL DEFAULT 0 CHECK (parts_per_s >= 0),  -- 0 = as fast as the window allows
    sessions      smallint NOT NULL DEFAULT 1 CHECK (sessions BETWEEN 1 AND 64),
    access_number text NOT NULL DEFAULT '',
    report_parts  text NOT NULL DEFAULT 'every' CHECK (report_parts IN ('every', 'one')),
    currency      char(3) NOT NULL DEFAULT 'CNY',
    cost_micro    bigint NOT NULL DEFAULT 0,         -- per part, in the channel's currency
    created_at    timestamptz NOT NULL DEFAULT now()
);

-- control.routes
CREATE TABLE route_rule (
    id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    priority   int NOT NULL DEFAULT 100,             -- lower is tried first; equal ones share by weight
    channel_id int NOT NULL REFERENCES channel,
    weight     int NOT NULL DEFAULT 1 CHECK (weight >= 0),
    tenant_id  int REFERENCES tenant,                -- null = any
    country    text,
    operator   text,
    purpose    smallint,
    active     boolean NOT NULL DEFAULT true
);

-- control.prices
CREATE TABLE price (
    tenant_id  int NOT NULL DEFAULT 0,               -- 0 = every tenant without a row of its own
    country    text NOT NULL DEFAULT '*',
    operator   text NOT NULL DEFAULT '*',
    purpose    smallint NOT NULL DEFAULT -1,         -- -1 = every purpose
    part_micro bigint NOT NULL CHECK (part_micro >= 0),
    PRIMARY KEY (tenant_id, country, operator, purpose)
);

-- control.webhooks
CREATE TABLE webhook (
    id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app_id     int NOT NULL UNIQUE REFERENCES app,
    url        text NOT NULL,
    sealed     bytea NOT NULL,                       -- the secret our POSTs are signed with
    active     boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- ─── the way ──────────────────────────────────────────────────────────────────────────────────────────

-- way: what was promised, and what became of it. One row a message; day partitions follow from the id.
CREATE TABLE message (
    tenant_id    int NOT NULL,
    id           uuid NOT NULL,
    app_id       int NOT NULL,
    status       smallint NOT NULL DEFAULT 0,
    cause        smallint NOT NULL DEFAULT 0,
    purpose      smallint NOT NULL,
    part_count   smallint NOT NULL,
    pending      smallint NOT NULL,                  -- parts without a final word
    worst        smallint NOT NULL DEFAULT 0,        -- the worst final status among the others, but unknown
    lost         smallint NOT NULL DEFAULT 0,        -- parts given up as unknown
    attempt      smallint NOT NULL DEFAULT 1,
    channel_id   int NOT NULL DEFAULT 0,             -- the last attempt's; 0 until a report came
    signature_id int NOT NULL DEFAULT 0,
    template_id  int NOT NULL DEFAULT 0,
    price_micro  bigint NOT NULL,                    -- of the whole message
    refund_micro bigint NOT NULL DEFAULT 0,
    cost_micro   bigint NOT NULL DEFAULT 0,          -- what upstreams charge us, all attempts
    accepted_at  timestamptz NOT NULL,
    due_at       timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    done_at      timestamptz,
    decision     bigint NOT NULL DEFAULT 0,          -- which rules spoke at acceptance
    phone_index  bytea NOT NULL,                     -- keyed MAC of the number, 16 octets
    sealed       bytea,                              -- number, text, parameters; null once erased
    country      text NOT NULL,
    operator     text NOT NULL,
    province     text NOT NULL,
    extension    text NOT NULL DEFAULT '',
    reference    text,
    sandbox      boolean NOT NULL DEFAULT false,     -- accepted under a sandbox key: only the loopback channel
    resend       boolean NOT NULL DEFAULT true,      -- may be sent again when a crash left it unsure
    code         text NOT NULL DEFAULT '',           -- the upstream's last word, verbatim
    attempts     jsonb,                              -- one array an ended attempt of a part; see way/report.py
    PRIMARY KEY (tenant_id, id)
) PARTITION BY RANGE (id);
CREATE INDEX message_phone ON message (phone_index, id);
CREATE INDEX message_reference ON message (tenant_id, reference) WHERE reference IS NOT NULL;
CREATE TABLE message_rest PARTITION OF message DEFAULT WITH (fillfactor = 60);

-- What a statement of the way is given, one composite a row: half the cost of an array for every column, on both sides.
CREATE TYPE accept_row AS (
    tenant_id int, id uuid, app_id int, purpose smallint, part_count smallint, signature_id int, template_id int,
    price_micro bigint, due_s float8, validity_s int, decision bigint, phone_index bytea, sealed bytea, country text,
    operator text, province text, extension text, reference text, owner int, sandbox boolean, resend boolean,
    fkey bytea, hit bigint, minute_max smallint, hour_max smallint, day_max smallint, same_s int,
    key_id int, key bytea, body bytea
);
CREATE TYPE ack_row AS (
    channel_id int, upstream_id text, tenant_id int, message_id uuid, part_index smallint, attempt smallint,
    sent_ms bigint, cost_micro bigint, decision bigint, upstream_raw text
);
CREATE TYPE report_row AS (
    channel_id int, upstream_id text, status smallint, cause smallint, code text, at_ms bigint, elsewhere boolean,
    for_all boolean
);

-- way: what still has to leave. Narrow; the message row has the rest.
CREATE TABLE outbox (
    tenant_id       int NOT NULL,
    id              uuid NOT NULL,
    lane            smallint NOT NULL,               -- = purpose
    owner           int NOT NULL,                    -- the gateway that has it in hand; 0 = nobody
    due_at          timestamptz NOT NULL,
    attempt         smallint NOT NULL DEFAULT 1,
    avoid_channel   int NOT NULL DEFAULT 0,          -- where the attempt before failed
    leaving_channel int NOT NULL DEFAULT 0,          -- promotional: committed before its bytes leave
    leaving_at      timestamptz,
    PRIMARY KEY (tenant_id, id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX outbox_waiting ON outbox (lane, tenant_id, due_at) WHERE owner = 0;

-- way: parts an upstream has taken (or may have) and not yet reported.
CREATE TABLE submitted (
    tenant_id   int NOT NULL,
    channel_id  int NOT NULL,
    upstream_id text NOT NULL,                       -- canonical; 'unsure:…' where none was heard
    message_id  uuid NOT NULL,
    part_index  smallint NOT NULL,
    attempt     smallint NOT NULL,
    state       smallint NOT NULL DEFAULT 0,         -- 0 acknowledged, 1 unsure, 2 given up as unknown
    sent_at     timestamptz NOT NULL,
    acked_at    timestamptz,
    asked_at    timestamptz,
    cost_micro  bigint NOT NULL DEFAULT 0,
    decision    bigint NOT NULL DEFAULT 0,           -- why this channel
    upstream_raw text,                               -- as it came, where it differs
    phone_index bytea,                               -- only where unsure: a report may name the number
    PRIMARY KEY (channel_id, upstream_id)
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX submitted_message ON submitted (message_id);
CREATE INDEX submitted_unsure ON submitted (channel_id, phone_index) WHERE state = 1;

-- way: reports that came before their ack was stored, or that match nothing.
CREATE TABLE early_report (
    channel_id  int NOT NULL,
    upstream_id text NOT NULL,
    status      smallint NOT NULL,
    cause       smallint NOT NULL,
    code        text NOT NULL,
    at          timestamptz NOT NULL,
    phone_index bytea,
    candidates  text[] NOT NULL DEFAULT '{}',
    came_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (channel_id, upstream_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- way: how each upstream writes its ids, learned from the first pairs.
CREATE TABLE dialect (
    channel_id int PRIMARY KEY,
    dialect    text NOT NULL,
    pairs      int NOT NULL DEFAULT 1,
    learned_at timestamptz NOT NULL DEFAULT now()
);

-- way: traces of decisions. Few distinct ones exist, so messages only carry the id (a hash of the trace).
CREATE TABLE decision (
    id      bigint PRIMARY KEY,
    trace   jsonb NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);

-- way: events owed to apps. Deleted when paid.
CREATE TABLE notice (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   int NOT NULL,
    app_id      int NOT NULL,
    kind        smallint NOT NULL,                   -- 1 status, 2 correction, 3 inbound
    message_id  uuid NOT NULL,                       -- of the message, or of the inbound
    status      smallint NOT NULL DEFAULT 0,
    cause       smallint NOT NULL DEFAULT 0,
    code        text NOT NULL DEFAULT '',
    at          timestamptz NOT NULL,
    attempt     smallint NOT NULL DEFAULT 0,
    due_at      timestamptz NOT NULL DEFAULT now(),
    lease       uuid,                                -- given out by a pull, until acknowledged or over
    lease_until timestamptz
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX notice_app ON notice (app_id, id);

-- way: endpoints that keep failing rest, and cost the others nothing.
CREATE TABLE webhook_health (
    webhook_id   int PRIMARY KEY,
    failures     int NOT NULL DEFAULT 0,
    paused_until timestamptz,
    last_error   text NOT NULL DEFAULT '',
    changed_at   timestamptz NOT NULL DEFAULT now()
);

-- way: when this number was last written to under this signature and purpose (sliding log).
CREATE TABLE frequency (
    key        bytea PRIMARY KEY,                    -- keyed MAC of tenant, number, signature, purpose
    hits       bigint[] NOT NULL,                    -- seconds << 32 | hash of the text, oldest first
    minute_max smallint NOT NULL,                    -- 0 = no limit
    hour_max   smallint NOT NULL,
    day_max    smallint NOT NULL,
    same_s     int NOT NULL                          -- the same text not again within
) WITH (fillfactor = 80);

-- way: numbers not to be written to. A person's stop and a block are looked up together.
CREATE TABLE suppression (
    phone_index bytea NOT NULL,
    tenant_id   int NOT NULL,                        -- 0 = the whole platform
    kind        smallint NOT NULL,                   -- 1 opt-out (promotional), 2 block (everything); also accept's reasons
    reason      text NOT NULL DEFAULT '',
    since       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (phone_index, tenant_id, kind)
);

-- way: number portability and corrections learned from reports; wins over the prefix table.
CREATE TABLE number_override (
    tenant_id   int NOT NULL DEFAULT 0,
    phone_index bytea NOT NULL,
    operator    text NOT NULL DEFAULT '',
    province    text NOT NULL DEFAULT '',
    source      text NOT NULL,                       -- 'operator' (a person said so), 'report', 'lookup'
    since       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (phone_index, tenant_id)
);
CREATE TABLE prefix_override (
    prefix   text PRIMARY KEY,                       -- digits of the E.164 form, longest wins
    operator text NOT NULL DEFAULT '',
    province text NOT NULL DEFAULT ''
);

-- way: prepaid balance, in shards by writer so that writers do not wait for each other. Never below zero.
CREATE TABLE balance (
    tenant_id    int NOT NULL,
    shard        int NOT NULL,
    amount_micro bigint NOT NULL CHECK (amount_micro >= 0),
    PRIMARY KEY (tenant_id, shard)
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE ledger (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id     int NOT NULL,
    at            timestamptz NOT NULL DEFAULT now(),
    kind          text NOT NULL CHECK (kind IN ('top_up', 'charge', 'refund', 'correction')),
    amount_micro  bigint NOT NULL,                   -- signed; the sum is the balance
    message_count int NOT NULL DEFAULT 0,
    note          text NOT NULL DEFAULT ''
);
CREATE INDEX ledger_tenant ON ledger (tenant_id, id);

-- way: the first answer under an Idempotency-Key.
CREATE TABLE idempotency (
    key_id     int NOT NULL,
    key        bytea NOT NULL,                       -- hash of the header
    body       bytea NOT NULL,                       -- hash of the request
    first_id   uuid NOT NULL,                        -- of the request's first message; the others' follow from it
    answer     bytea,                                -- of a batch: JSON, once it is complete
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (key_id, key)
);

-- doors: nonces seen within the clock skew, and the rate of each key.
CREATE TABLE nonce (
    key_id  int NOT NULL,
    nonce   bytea NOT NULL,
    until   timestamptz NOT NULL,
    PRIMARY KEY (key_id, nonce)
);
CREATE TABLE key_rate (
    key_id int PRIMARY KEY,
    next_at timestamptz NOT NULL                     -- GCRA: theoretical arrival time
) WITH (fillfactor = 20);

-- way: counted cells. Sharded by writer; the reader sums.
CREATE TABLE tally (
    hour        timestamptz NOT NULL,
    tenant_id   int NOT NULL,
    status      smallint NOT NULL,                   -- 0 = accepted
    cause       smallint NOT NULL,
    purpose     smallint NOT NULL,
    template_id int NOT NULL,
    channel_id  int NOT NULL,
    country     text NOT NULL,
    operator    text NOT NULL,
    province    text NOT NULL,
    latency     smallint NOT NULL,                   -- bucket of accept → final; see way/measure.py
    shard       int NOT NULL,
    messages    bigint NOT NULL,
    parts       bigint NOT NULL,
    price_micro bigint NOT NULL,
    cost_micro  bigint NOT NULL,
    PRIMARY KEY (hour, tenant_id, status, cause, purpose, template_id, channel_id, country, operator, province, latency, shard)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- way: what people text back.
CREATE TABLE inbound (
    id            uuid PRIMARY KEY,
    tenant_id     int NOT NULL,                      -- 0 = nobody's
    app_id        int NOT NULL,
    channel_id    int NOT NULL,
    access_number text NOT NULL,
    phone_index   bytea NOT NULL,
    sealed        bytea,
    message_id    uuid,                              -- the message it answers, where it is known
    opt_out       boolean NOT NULL DEFAULT false,
    came_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX inbound_tenant ON inbound (tenant_id, id);
CREATE TABLE inbound_part (
    channel_id    int NOT NULL,
    access_number text NOT NULL,
    phone_index   bytea NOT NULL,
    reference     int NOT NULL,
    width         smallint NOT NULL,
    part_count    smallint NOT NULL,
    part_index    smallint NOT NULL,
    sealed        bytea NOT NULL,
    came_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (channel_id, phone_index, access_number, reference, width, part_count, part_index)
);

-- way: who is alive, and who holds which session of a channel.
CREATE TABLE gateway (
    id      int PRIMARY KEY,
    socket  text NOT NULL,                           -- where doors hand over
    seen_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE session_lease (
    channel_id int NOT NULL,
    slot       smallint NOT NULL,
    gateway    int NOT NULL,
    until      timestamptz NOT NULL,
    PRIMARY KEY (channel_id, slot)
);
