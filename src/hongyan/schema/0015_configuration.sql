-- The configuration as one document, in versions.

-- control.configuration: a version, kept after whatever altered the document. `sections` names each section's part.
CREATE TABLE configuration (
    version  int PRIMARY KEY,                          -- 1, 2, 3 … without gaps
    sections jsonb NOT NULL,                           -- {"channels": "<digest in hex>", …}
    parts    bytea[] NOT NULL,                         -- every digest it needs, those of word lists too
    made_by  text NOT NULL,
    action   text NOT NULL,                            -- what was done, as the audit has it
    note     text NOT NULL DEFAULT '',
    made_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX configuration_parts ON configuration USING gin (parts);

-- control.configuration: a section, or the words of one list, stored once under the keyed hash of what it says. It holds
-- the passwords of channels, so it is sealed whole.
CREATE TABLE configuration_part (
    digest  bytea PRIMARY KEY CHECK (length(digest) = 16),
    section text NOT NULL,
    sealed  bytea NOT NULL                             -- deflated before
);
ALTER TABLE configuration_part ALTER COLUMN sealed SET STORAGE EXTERNAL; -- what is sealed cannot be compressed

-- control.configuration: which part a list's words are at one version of it, so that they are not read again for each.
CREATE TABLE configuration_list (
    list_id int PRIMARY KEY REFERENCES word_list ON DELETE CASCADE,
    version bigint NOT NULL,
    digest  bytea NOT NULL
) WITH (fillfactor = 70);
