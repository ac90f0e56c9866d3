-- Enterprises: sign-up, documents, qualification, reviews, and what is told of decisions. More of apps and their keys.

-- Who is a tenant already was let in by hand: an operator vouched for it.
ALTER TABLE tenant
    ADD COLUMN qualified  boolean NOT NULL DEFAULT true,  -- false: sandbox keys alone may send
    ADD COLUMN legal_name text NOT NULL DEFAULT '';       -- of the enterprise, as its licence has it

-- control.tenants: what was done to a tenant, by whom and why; append-only.
CREATE TABLE tenant_change (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id int NOT NULL REFERENCES tenant,
    at        timestamptz NOT NULL DEFAULT now(),
    who       text NOT NULL,                         -- as the audit has it
    action    text NOT NULL CHECK (action IN ('created', 'changed', 'suspended', 'resumed', 'qualified', 'unqualified')),
    reason    text NOT NULL DEFAULT ''
);
CREATE INDEX tenant_change_tenant ON tenant_change (tenant_id, id);

ALTER TABLE app_key
    ADD COLUMN name       text NOT NULL DEFAULT '',
    ADD COLUMN scopes     text[] NOT NULL
        DEFAULT '{ledger.read,messages.read,messages.send,statistics.read}',  -- control/permissions.py, SCOPES_DEFAULT
    ADD COLUMN expires_at timestamptz,               -- null: never. A key that was exchanged works on until then
    ADD COLUMN used_at    timestamptz;               -- to the minute or so
CREATE INDEX app_key_app ON app_key (app_id, id);

-- control.policies: what the operator of the platform has decided, by name. What has no row goes by its default.
CREATE TABLE platform_policy (
    name       text PRIMARY KEY,
    value      jsonb NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);

-- control.documents: files that prove who an enterprise is, and that its brands are its own. Never under a served path.
CREATE TABLE document (
    id           int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id    int NOT NULL REFERENCES tenant,
    kind         text NOT NULL,                      -- licence, person_id, authorisation, trademark, app_proof, other
    name         text NOT NULL,                      -- of the file, made harmless
    content_type text NOT NULL CHECK (content_type IN ('application/pdf', 'image/png', 'image/jpeg')),  -- by its octets
    octets       int NOT NULL CHECK (octets > 0),
    sha256       bytea NOT NULL,                     -- of the file as it came
    sealed       bytea,                              -- under the tenant's key; null once removed
    created_by   text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    removed_at   timestamptz
);
CREATE INDEX document_tenant ON document (tenant_id, id);
ALTER TABLE document ALTER COLUMN sealed SET STORAGE EXTERNAL;  -- it is as random as anything: not to be compressed

-- control.qualifications: one enterprise, as it was handed in; the newest row of a tenant counts.
CREATE TABLE qualification (
    id                int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id         int NOT NULL REFERENCES tenant,
    state             text NOT NULL DEFAULT 'draft'
                      CHECK (state IN ('draft', 'reviewing', 'approved', 'rejected', 'lapsed', 'replaced')),
    legal_name        text NOT NULL,
    credit_code       text NOT NULL CHECK (credit_code = '' OR length(credit_code) = 18),  -- GB 32100-2015
    country           char(2) NOT NULL DEFAULT 'CN',
    business          text NOT NULL DEFAULT '',      -- what they do, and whom they write to
    person_sealed     bytea NOT NULL,                -- the responsible person: name, id number, phone
    licence_until     date,                          -- null: it has no end
    document_ids      int[] NOT NULL DEFAULT '{}',
    reason            text NOT NULL DEFAULT '',      -- of the last decision
    warned            boolean NOT NULL DEFAULT false, -- was told that the licence ends soon
    proposed_by       text NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    changed_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX qualification_tenant ON qualification (tenant_id, id);
CREATE UNIQUE INDEX qualification_open ON qualification (tenant_id) WHERE state IN ('draft', 'reviewing', 'rejected');
CREATE INDEX qualification_licence ON qualification (licence_until) WHERE state = 'approved';

-- control.qualifications: each step of a qualification; append-only.
CREATE TABLE qualification_step (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    qualification_id int NOT NULL REFERENCES qualification,
    at               timestamptz NOT NULL DEFAULT now(),
    who              text NOT NULL,
    state            text NOT NULL,
    reason           text NOT NULL DEFAULT ''
);
CREATE INDEX qualification_step_of ON qualification_step (qualification_id, id);

-- control.reviews: one decision that people owe.
CREATE TABLE review (
    id          int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   int NOT NULL REFERENCES tenant,
    kind        text NOT NULL,                       -- qualification, signature, template, complaint
    subject     int NOT NULL,                        -- id in the table of its kind
    title       text NOT NULL,                       -- enough to tell it from others in a list
    state       text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'approved', 'rejected', 'withdrawn')),
    four_eyes   boolean NOT NULL DEFAULT false,      -- two people have to approve
    proposed_by text NOT NULL DEFAULT '',            -- as the audit has it; may not approve it
    first_by    text NOT NULL DEFAULT '',            -- the first of two who approved
    first_at    timestamptz,
    decided_by  text NOT NULL DEFAULT '',            -- 'policy': nobody had to look
    reason_code text NOT NULL DEFAULT '',            -- of review_reason
    reason      text NOT NULL DEFAULT '',            -- in the reviewer's own words
    created_at  timestamptz NOT NULL DEFAULT now(),
    decided_at  timestamptz
);
CREATE UNIQUE INDEX review_waiting ON review (kind, subject) WHERE state = 'waiting';
CREATE INDEX review_state ON review (state, id);
CREATE INDEX review_tenant ON review (tenant_id, id);
CREATE INDEX review_subject ON review (kind, subject, id);

-- control.reviews: why things are rejected, to pick from; in the order of `position`.
CREATE TABLE review_reason (
    kind     text NOT NULL,
    code     text NOT NULL,
    position smallint NOT NULL,
    zh       text NOT NULL,
    en       text NOT NULL,
    PRIMARY KEY (kind, code)
);
INSERT INTO review_reason (kind, code, position, zh, en) VALUES
    ('qualification', 'licence_missing', 1, '未提供营业执照', 'The business licence is missing'),
    ('qualification', 'licence_blurred', 2, '营业执照不清晰或不完整', 'The business licence is blurred or cut off'),
    ('qualification', 'licence_expired', 3, '营业执照已过期', 'The business licence has expired'),
    ('qualification', 'name_mismatch', 4, '企业名称与营业执照不一致', 'The name is not the one on the licence'),
    ('qualification', 'code_mismatch', 5, '统一社会信用代码与营业执照不一致', 'The unified social credit code is not the one on the licence'),
    ('qualification', 'person_id_missing', 6, '责任人身份证件缺失或不清晰', 'The responsible person''s identity document is missing or blurred'),
    ('qualification', 'authorisation_missing', 7, '缺少授权书或授权书不合规', 'The authorisation letter is missing or does not serve'),
    ('qualification', 'business_unclear', 8, '未说明业务用途', 'What the messages are for is not described'),
    ('qualification', 'forbidden_industry', 9, '所属行业不予开通', 'Enterprises of this industry are not taken'),
    ('signature', 'not_own_name', 1, '签名与企业名称、商标或应用名称不符', 'It is neither the enterprise''s name nor its trademark or app'),
    ('signature', 'neutral', 2, '签名过于宽泛，无法识别主体', 'It is neutral: nobody can tell whose it is'),
    ('signature', 'licence_missing', 3, '营业执照缺失或不清晰', 'The business licence is missing or blurred'),
    ('signature', 'authorisation_missing', 4, '他用签名缺少授权书', 'It is somebody else''s, and their authorisation letter is missing'),
    ('signature', 'proof_not_found', 5, '未查到所述商标或应用', 'The trademark or app was not found'),
    ('signature', 'business_unclear', 6, '未说明业务用途', 'What the messages are for is not described'),
    ('signature', 'forbidden_industry', 7, '所属行业不予开通', 'Enterprises of this industry are not taken'),
    ('template', 'wrong_purpose', 1, '模板类型选择错误', 'The purpose is not what the text is for'),
    ('template', 'marketing_in_notice', 2, '通知类模板含营销内容', 'A notice that advertises'),
    ('template', 'code_word_missing', 3, '验证码模板缺少“验证码”字样', 'A code''s text does not say that it is one'),
    ('template', 'variable_unclear', 4, '变量不合规或含义不明', 'A variable is not allowed, or nobody can tell what it will hold'),
    ('template', 'variable_link', 5, '变量不能是链接', 'A variable that stands for a link'),
    ('template', 'opt_out_missing', 6, '营销模板缺少退订提示', 'A promotional text does not say how to opt out'),
    ('template', 'forbidden_industry', 7, '内容所属行业不予发送', 'Texts of this industry are not sent'),
    ('template', 'business_unclear', 8, '未说明业务场景', 'What it is used for is not described'),
    ('message', 'forbidden_content', 1, '内容不合规', 'The text is not allowed'),
    ('message', 'marketing_in_notice', 2, '通知类短信含营销内容', 'A notice that advertises'),
    ('message', 'not_own_name', 3, '冒用他人名义', 'It speaks in somebody else''s name'),
    ('complaint', 'unfounded', 1, '投诉不成立', 'The complaint has no ground'),
    ('complaint', 'duplicate', 2, '重复投诉', 'It was made before');

-- control.announcements: what a tenant is told of decisions, by its webhooks and by e-mail to its owners. Deleted on time.
CREATE TABLE announcement (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id  int NOT NULL REFERENCES tenant,
    event      text NOT NULL,                        -- review.decided, qualification.lapses, qualification.lapsed
    subject    text NOT NULL,                        -- of the e-mail
    words      text NOT NULL,                        -- of the e-mail
    body       jsonb NOT NULL,                       -- of the event
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX announcement_tenant ON announcement (tenant_id, id);

-- control.announcements: one way an announcement goes; deleted when it has gone or was given up.
CREATE TABLE announcement_way (
    announcement_id bigint NOT NULL REFERENCES announcement ON DELETE CASCADE,
    way             text NOT NULL,                   -- 'mail', or 'webhook:<app>'
    attempt         smallint NOT NULL DEFAULT 0,
    due_at          timestamptz NOT NULL DEFAULT now(),
    last_error      text NOT NULL DEFAULT '',
    PRIMARY KEY (announcement_id, way)
);
CREATE INDEX announcement_way_due ON announcement_way (due_at);

-- Signatures that waited before there was a queue. (Templates: where their versions are made.)
INSERT INTO review (tenant_id, kind, subject, title) SELECT tenant_id, 'signature', id, name FROM signature
 WHERE state = 'reviewing' ORDER BY id;
