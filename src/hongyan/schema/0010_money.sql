-- Packages of parts, sold ahead; what operators bill us; and top-ups that cannot be booked twice.

-- control.packages: parts paid for ahead, at a price of their own until they expire. The money stands in the balance;
-- what is not used by then is taken back.
CREATE TABLE package (
    id           int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id    int NOT NULL REFERENCES tenant,
    name         text NOT NULL CHECK (name <> ''),
    parts        bigint NOT NULL CHECK (parts > 0),
    part_micro   bigint NOT NULL CHECK (part_micro > 0),  -- what each is counted as in the balance
    paid_micro   bigint NOT NULL CHECK (paid_micro >= 0), -- what the tenant paid for all of them
    sold_at      timestamptz NOT NULL DEFAULT now(),
    sold_entry   bigint NOT NULL,                         -- ledger.id then: what is used later, is above
    expires_at   timestamptz NOT NULL,
    lapsed_at    timestamptz,                             -- when the rest was taken back
    lapsed_entry bigint,                                  -- ledger.id then
    lapsed_micro bigint NOT NULL DEFAULT 0                -- how much that was
);
CREATE INDEX package_tenant ON package (tenant_id, expires_at);
CREATE INDEX package_live ON package (expires_at) WHERE lapsed_at IS NULL;

-- control.bills: an operator's bill for a span of days, line by line as it came, beside what we counted then.
CREATE TABLE bill (
    id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel_id int NOT NULL REFERENCES channel,
    name       text NOT NULL,
    zone       text NOT NULL,                             -- IANA name: where its days begin
    first_day  date NOT NULL,
    last_day   date NOT NULL,
    currency   char(3) NOT NULL,
    made_by    text NOT NULL,
    made_at    timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE bill_line (
    bill_id      int NOT NULL REFERENCES bill,
    day          date NOT NULL,
    operator     text NOT NULL,                           -- empty: the bill does not tell them apart
    parts        bigint NOT NULL,                         -- theirs
    amount_micro bigint,                                  -- theirs; null where the bill tells no amounts
    our_parts    bigint NOT NULL,
    our_micro    bigint NOT NULL,
    PRIMARY KEY (bill_id, day, operator)
);

-- What a top-up stands for, such as an invoice: booked once, however often somebody asks.
ALTER TABLE ledger ADD COLUMN reference text;
CREATE UNIQUE INDEX ledger_reference ON ledger (tenant_id, reference) WHERE reference IS NOT NULL;
