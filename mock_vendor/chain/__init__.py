"""A local EVM chain with LocalUSDC, as JSON-RPC."""
