"""What an operator asks of a ledger and a chain: audits, balances, removal of old runs."""
