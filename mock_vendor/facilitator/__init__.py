"""An x402 facilitator: verifies a payment, and settles it on the chain."""
