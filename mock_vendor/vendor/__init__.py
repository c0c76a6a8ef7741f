"""A GPU vendor: quotes, payment, jobs, refunds, and faults on purpose."""
