-- A clock set wrong by years makes everything too old, and what is forgotten then nobody brings back.

-- leap: the time as it was last looked at, one row; and when it went on by more than a day at once.
CREATE TABLE clock_seen (
    one      boolean PRIMARY KEY CHECK (one),
    at       timestamptz NOT NULL,
    leapt_at timestamptz                     -- by the clock after it; null: it did not, or was set back since
) WITH (fillfactor = 20);
