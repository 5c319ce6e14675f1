"""The store in one SQLite file: nothing to install, every promise kept.

store.py      the store's two protocols over the parts below
file.py       opening, creating and upgrading the file; what went wrong, in words
watch.py      whether the files are still those that were opened
wal_index.py  how far the log is copied into the file
writer.py     the one thread that writes, and groups the commits of concurrent callers
readers.py    the threads that read
jobs.py       statements about jobs and leases
work.py       statements about pieces, failures and progress
lists.py      statements that read pages of jobs
outbox.py     statements about event rows, the relay, parked rows and replays
"""

from segexport.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
