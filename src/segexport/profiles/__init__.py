"""The profile store: what a fragment is, loading, samples, and the snapshots exports read."""
