"""What a laptop lacks, started here as child processes: MongoDB, chain, vendors."""
