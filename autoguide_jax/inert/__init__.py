"""Foreign pickles as inert records: nothing in them is executed."""
