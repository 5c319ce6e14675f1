"""The two public APIs over HTTP, and who may use them."""
