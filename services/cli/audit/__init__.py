"""What must hold across services, as questions to several databases and the broker at once.

Each service answers for its own books in its `audit.py`; here stands what no service can know alone. Books
that move are read one after the other, so a check names every difference by what it is about, and only those
count that are still there at a second reading (`reading.py`).
"""
