"""The work: profiles read from a snapshot, merged, and written as batches of a dataset."""
