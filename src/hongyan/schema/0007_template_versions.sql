-- Templates: the live text stands still while new wording is proposed, in several languages.

-- control.templates: took its table over from the room that had signatures and templates.
-- Body and variables are the live text of its default language.
ALTER TABLE template
    ADD COLUMN language text NOT NULL DEFAULT 'zh' CHECK (language ~ '^[A-Za-z0-9-]{2,35}$'),  -- BCP 47, as RFC 5646 writes it
    ADD COLUMN blocked  boolean NOT NULL DEFAULT false;   -- disabled by the platform: the tenant cannot enable it
UPDATE template SET language = 'en' WHERE body !~ '[一-龥]';

-- control.templates: the live texts of a template's further languages.
CREATE TABLE template_text (
    template_id int NOT NULL REFERENCES template,
    language    text NOT NULL CHECK (language ~ '^[A-Za-z0-9-]{2,35}$'),
    body        text NOT NULL,
    variables   jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (template_id, language)
);

-- control.templates: every wording that was ever proposed, and what was decided about it.
CREATE TABLE template_version (
    id          int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    template_id int NOT NULL REFERENCES template,
    number      int NOT NULL CHECK (number > 0),       -- from 1 in each template, over all languages
    language    text NOT NULL CHECK (language ~ '^[A-Za-z0-9-]{2,35}$'),
    body        text NOT NULL,
    variables   jsonb NOT NULL DEFAULT '{}',
    state       text NOT NULL DEFAULT 'reviewing'
                CHECK (state IN ('draft', 'reviewing', 'approved', 'rejected', 'withdrawn')),
    reason      text NOT NULL DEFAULT '',              -- why it was rejected, for the tenant to read
    findings    jsonb NOT NULL DEFAULT '[]',           -- what the linter said when it was handed in
    made_by     text NOT NULL DEFAULT '',
    made_at     timestamptz NOT NULL DEFAULT now(),
    decided_at  timestamptz,
    UNIQUE (template_id, number)
);
-- One at a time is written or reviewed in each language.
CREATE UNIQUE INDEX template_version_open ON template_version (template_id, language)
    WHERE state IN ('draft', 'reviewing');

INSERT INTO template_version (template_id, number, language, body, variables, state, made_at, decided_at)
SELECT id, 1, language, body, variables,
       CASE state WHEN 'disabled' THEN 'approved' WHEN 'canceled' THEN 'withdrawn' ELSE state END,
       created_at, CASE WHEN state IN ('draft', 'reviewing') THEN NULL ELSE created_at END
  FROM template ORDER BY id;
INSERT INTO review (tenant_id, kind, subject, title)
SELECT t.tenant_id, 'template', v.id, left(translate(t.code || ': ' || v.body, E'\n\r\t', '   '), 200)
  FROM template_version v JOIN template t ON t.id = v.template_id WHERE v.state = 'reviewing' ORDER BY v.id;
