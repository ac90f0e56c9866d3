"""The migrations: numbered SQL, forward only. db.migrate() applies them."""
