-- A message is written twice: when it is accepted and when its report comes. The second version is half as large
-- again and wants to stay on the page of the first: then no index has to learn of it (a HOT update).
DO $$
DECLARE partition regclass;
BEGIN
    FOR partition IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'message'::regclass LOOP
        EXECUTE format('ALTER TABLE %s SET (fillfactor = 40)', partition);
    END LOOP;
END $$;
