"""Whoever is asked about jobs: by a person on the command line, or over HTTP."""

from segexport.clerk.clerk import Clerk as Clerk
from segexport.clerk.clerk import Submitted as Submitted
from segexport.clerk.documents import JobDocument as JobDocument
from segexport.clerk.local import LocalClerk as LocalClerk
