-- What waits knows itself until when it may: to ask each of a million messages for it took a core for seconds.

-- way: acceptance, tick. Null: of a row that a version before this one made after the next statement.
ALTER TABLE outbox ADD COLUMN expires_at timestamptz;
UPDATE outbox o SET expires_at = m.expires_at FROM message m WHERE m.tenant_id = o.tenant_id AND m.id = o.id;

-- These grow by a tenth every ten seconds under a large list, and nothing that is asked of them depends on how many there are.
ALTER TABLE outbox SET (autovacuum_analyze_scale_factor = 0.5);
ALTER TABLE frequency SET (autovacuum_analyze_scale_factor = 0.5);
