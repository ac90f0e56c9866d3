"""The management API: one file a noun, each with its ROUTES."""
