"""What ./scripts/bench is made of: works and peers are tables, everything else has one job each."""
