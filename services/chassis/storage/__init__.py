"""Durable state: transactions as plain functions, group commit, remembered replies, event streams.

`database.Store` is what services hold. What differs between databases stands in `sqlite.py` and
`writer.py`, in `postgresql.py` and `writers.py`, and in `readers.py`.
"""
