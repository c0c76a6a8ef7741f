"""The HTTP API: one router a file, and the JSON that they take and answer."""
