"""Is this machine, and are all hosts together, fit to work? doctor.py asks all, training a part."""

from autoguide_jax.health.verdict import before_connecting, check_room, quick

__all__ = ['before_connecting', 'check_room', 'quick']
