"""The control plane: what the plane flies by is laid and changed here, one plural noun per file."""
