"""Foreign weights → our denoisers. Safe by construction: nothing foreign is executed."""
