"""What is said to customers who log in: one file a protocol."""
