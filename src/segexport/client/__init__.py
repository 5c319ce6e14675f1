"""Asking a service elsewhere, over HTTP."""

from segexport.client.connection import Connection as Connection
from segexport.client.remote import RemoteClerk as RemoteClerk
