-- Long work that people ask for and that goes on after a crash: lists that are sent to, exports.

-- control.jobs: one piece of such work. It is claimed with a lease; whoever holds it writes how far it has come, and
-- nobody else can: `worker` is made anew with each claim.
CREATE TABLE job (
    id          int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   int NOT NULL,                        -- 0 = the platform's
    kind        text NOT NULL CHECK (kind <> ''),    -- list.read, list.check, list.send, export
    state       text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'paused', 'stopped', 'done', 'failed')),
    asked       jsonb NOT NULL,                      -- what it is to do; the kind's own
    done        int NOT NULL DEFAULT 0,              -- rows
    total       int NOT NULL DEFAULT 0,              -- 0 = not known yet
    counts      jsonb NOT NULL DEFAULT '{}',         -- the kind's own
    place       text NOT NULL DEFAULT '',            -- where to go on; the kind's own
    error       text NOT NULL DEFAULT '',            -- why it was paused or failed: a public code, or words
    made_by     text NOT NULL,
    made_at     timestamptz NOT NULL DEFAULT now(),
    started_at  timestamptz,
    ended_at    timestamptz,
    worker      uuid,
    lease_until timestamptz,
    keep_until  timestamptz NOT NULL,                -- then its chunks are forgotten
    has_chunks  boolean NOT NULL DEFAULT true        -- they are not forgotten yet
) WITH (fillfactor = 70);
CREATE INDEX job_open ON job (id) WHERE state IN ('waiting', 'running');
CREATE INDEX job_tenant ON job (tenant_id, id);
CREATE INDEX job_keep ON job (keep_until) WHERE has_chunks;

-- control.jobs: a piece of a file that went in, comes out, or tells what was left out. Sealed under the tenant's key.
CREATE TABLE job_chunk (
    job_id int NOT NULL REFERENCES job,
    role   text NOT NULL CHECK (role IN ('in', 'out', 'left_out')),
    number int NOT NULL,                             -- from 0; there may be gaps
    rows   int NOT NULL,
    sealed bytea NOT NULL,
    PRIMARY KEY (job_id, role, number)
);
ALTER TABLE job_chunk ALTER COLUMN sealed SET STORAGE EXTERNAL; -- what is sealed cannot be compressed

-- control.lists: a file of numbers to write to, and the jobs that read, check and send it.
CREATE TABLE sending_list (
    id        int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id int NOT NULL REFERENCES tenant,
    name      text NOT NULL CHECK (name <> ''),
    columns   text[] NOT NULL,
    row_count int NOT NULL,
    read_job  int NOT NULL REFERENCES job,
    check_job int REFERENCES job,
    send_job  int REFERENCES job,
    made_by   text NOT NULL,
    made_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sending_list_tenant ON sending_list (tenant_id, id);

-- control.sending: which numbers a check has met already. Forgotten when the check has ended.
CREATE TABLE list_number (
    job_id      int NOT NULL,
    phone_index bytea NOT NULL,
    PRIMARY KEY (job_id, phone_index)
);

-- control.sending: the ids that the messages of one chunk of ready rows have, decided before any of them is accepted.
CREATE TABLE list_batch (
    job_id   int NOT NULL REFERENCES job,            -- that sends
    number   int NOT NULL,                           -- of the chunk
    first_id uuid NOT NULL,                          -- the others' follow from it
    accepted int NOT NULL DEFAULT 0,                 -- as counted so far
    done     boolean NOT NULL DEFAULT false,
    PRIMARY KEY (job_id, number)
) WITH (fillfactor = 70);
