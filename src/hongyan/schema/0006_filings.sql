-- Signatures with what proves them, their filings at the operators, and digits of their own at a channel.

-- control.signatures: took its table over from the room that had signatures and templates.
ALTER TABLE signature
    ADD COLUMN source       text NOT NULL DEFAULT 'company' CHECK (source IN ('company', 'trademark', 'app', 'other')),
    ADD COLUMN document_ids int[] NOT NULL DEFAULT '{}',  -- what proves it
    ADD COLUMN note         text NOT NULL DEFAULT '',     -- of the tenant, for whom reviews it
    ADD COLUMN reason       text NOT NULL DEFAULT '',     -- of the last decision, for the tenant
    ADD COLUMN changed_at   timestamptz NOT NULL DEFAULT now();
CREATE INDEX signature_tenant ON signature (tenant_id, id);

-- control.upstreams
ALTER TABLE channel
    ADD COLUMN filing_demanded  boolean NOT NULL DEFAULT false,  -- carries only signatures filed at the number's operator
    ADD COLUMN extension_digits smallint NOT NULL DEFAULT 0      -- of signatures' own extensions here; 0: given by hand only
        CHECK (extension_digits BETWEEN 0 AND 8);

-- control.filings: how far a signature's filing is at one operator. No row: none.
CREATE TABLE filing (
    signature_id int NOT NULL REFERENCES signature,
    operator     text NOT NULL,                      -- vocab/phone.py, OPERATOR_NAMES
    state        text NOT NULL CHECK (state IN ('none', 'filing', 'filed', 'ok', 'failed', 'lapsed')),
    reason_code  text NOT NULL DEFAULT '',           -- why it failed or lapsed; control/filings.py, Reason
    reason       text NOT NULL DEFAULT '',           -- the operator's own words
    document_id  int,                                -- the operator's answer, where we have it
    filed_at     timestamptz,                        -- when it was last handed in
    valid_until  date,                               -- the last day in China; null: it has no end that we know
    changed_by   text NOT NULL,
    changed_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (signature_id, operator)
);
CREATE INDEX filing_end ON filing (valid_until) WHERE state = 'ok';

-- control.filings: each step of a filing; append-only.
CREATE TABLE filing_step (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    signature_id int NOT NULL REFERENCES signature,
    operator     text NOT NULL,
    at           timestamptz NOT NULL DEFAULT now(),
    who          text NOT NULL,
    state        text NOT NULL,
    reason_code  text NOT NULL DEFAULT '',
    reason       text NOT NULL DEFAULT '',
    valid_until  date
);
CREATE INDEX filing_step_of ON filing_step (signature_id, operator, id);

-- control.extensions: the digits a signature has behind the access number of one channel.
CREATE TABLE signature_extension (
    channel_id   int NOT NULL REFERENCES channel,
    signature_id int NOT NULL REFERENCES signature,
    extension    text NOT NULL CHECK (extension ~ '^[0-9]{1,12}$'),
    PRIMARY KEY (signature_id, channel_id),
    UNIQUE (channel_id, extension)
);
