"""asv's benchmarks: one number, one case; a refusal is n/a."""
