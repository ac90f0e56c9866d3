-- Lists of words that texts must not have, or may have all the same.

-- control.words: a list of the platform (no tenant), of a tenant, or of a channel. The version counts its changes, so that
-- the plane reads words again only where they changed.
CREATE TABLE word_list (
    id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id  int REFERENCES tenant,
    channel_id int REFERENCES channel,                -- only what goes by this channel
    name       text NOT NULL CHECK (name <> ''),
    allows     boolean NOT NULL DEFAULT false,        -- its words cover forbidden ones that lie inside them
    grants     boolean NOT NULL DEFAULT false,        -- given to the tenant by the platform: covers the platform's too
    level      text NOT NULL DEFAULT 'block' CHECK (level IN ('block', 'hold', 'warn')),
    tag        text NOT NULL DEFAULT '',
    source     text NOT NULL DEFAULT '',              -- where the words come from, for people
    active     boolean NOT NULL DEFAULT true,
    version    bigint NOT NULL DEFAULT 1,
    word_count int NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    CHECK (tenant_id IS NULL OR channel_id IS NULL),
    CHECK (NOT grants OR (allows AND tenant_id IS NOT NULL))
);
CREATE UNIQUE INDEX word_list_name ON word_list (coalesce(tenant_id, 0), coalesce(channel_id, 0), name);
CREATE INDEX word_list_tenant ON word_list (tenant_id, id);

-- control.words: `plain` is what texts are compared with (vocab/plain.py), `written` what a person wrote.
CREATE TABLE word (
    list_id int NOT NULL REFERENCES word_list ON DELETE CASCADE,
    plain   text COLLATE "C" NOT NULL CHECK (plain <> ''),
    written text NOT NULL,
    PRIMARY KEY (list_id, plain)
);
