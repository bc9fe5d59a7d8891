"""What a run is known by and leaves: series, observation times, identity, files (no torch)."""
