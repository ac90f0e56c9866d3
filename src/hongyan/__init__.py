"""鸿雁: a self-hosted SMS platform. docs/ARCHITECTURE.md walks one message through the house."""
