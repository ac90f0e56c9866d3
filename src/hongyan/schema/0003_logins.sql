-- Customers whose systems log in to us with SMPP, CMPP, SGIP or SMGP.

-- control.logins: an account of a protocol. Its app is owed what its messages become; reports go back over its sessions.
CREATE TABLE login (
    id            int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    protocol      text NOT NULL CHECK (protocol IN ('smpp', 'cmpp', 'sgip', 'smgp')),
    name          text NOT NULL CHECK (name <> ''),  -- system_id, Source_Addr, LoginName, ClientID
    app_id        int NOT NULL UNIQUE REFERENCES app,
    sealed        bytea NOT NULL,                    -- the password: authenticators are made of it
    version       smallint NOT NULL DEFAULT 0,       -- CMPP: 0x20 or 0x30; 0 = what the client says
    access_number text NOT NULL DEFAULT '' CHECK (access_number ~ '^[0-9]{0,20}$'), -- what their source address begins with
    free_text     boolean NOT NULL DEFAULT false,    -- a text that matches no template passes, under `purpose`
    hold          boolean NOT NULL DEFAULT false,    -- such a text is held until a person decides
    purpose       smallint NOT NULL DEFAULT 1 CHECK (purpose BETWEEN 0 AND 2),
    sandbox       boolean NOT NULL DEFAULT false,
    sessions_max  smallint NOT NULL DEFAULT 2 CHECK (sessions_max BETWEEN 1 AND 64),
    window_size   smallint NOT NULL DEFAULT 16 CHECK (window_size BETWEEN 1 AND 1000), -- both directions
    rate_per_s    int NOT NULL DEFAULT 100 CHECK (rate_per_s >= 0),  -- submits; 0 = no limit
    duplicate_s   int NOT NULL DEFAULT 0 CHECK (duplicate_s BETWEEN 0 AND 86400), -- same text to the same number, over sessions
    addresses     text[] NOT NULL DEFAULT '{}',      -- CIDR; empty = everywhere
    deliver_to    text NOT NULL DEFAULT '',          -- SGIP: host:port of the customer's listener
    settings      jsonb NOT NULL DEFAULT '{}',       -- what only one protocol has; see doors/tongues
    active        boolean NOT NULL DEFAULT true,
    created_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (protocol, name)
);

-- doors.sessions: how many sessions a login has at each door. A door that is gone stops renewing them.
CREATE TABLE login_session (
    login_id int NOT NULL,
    door     int NOT NULL,
    count    smallint NOT NULL,
    seen_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (login_id, door)
) WITH (fillfactor = 50);

-- way.assemble: parts of long submits, acknowledged and waiting for the others; or failed, and not yet told so.
CREATE TABLE submit_part (
    id          bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    tenant_id   int NOT NULL,
    app_id      int NOT NULL,
    phone_index bytea NOT NULL,
    sender      text NOT NULL,
    reference   int NOT NULL,
    width       smallint NOT NULL,
    part_count  smallint NOT NULL,
    part_index  smallint NOT NULL,
    message_id  uuid NOT NULL,                       -- under which the whole will be accepted
    sealed      bytea NOT NULL,                      -- number, text and origin of the part
    failed      text NOT NULL DEFAULT '',            -- the public code of why there will be no whole; its report is owed
    came_at     timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz,                         -- somebody joins it, or tells that it failed
    PRIMARY KEY (app_id, phone_index, sender, reference, width, part_count, part_index)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX submit_part_failed ON submit_part (app_id) WHERE failed <> '';

-- way: what is held for a person's review: an outbox row with the owner -1, due never. The index is here, and not on
-- message.status, because with that in an index no update of a message could stay on its page (0002).
CREATE INDEX outbox_held ON outbox (id) WHERE owner < 0;
