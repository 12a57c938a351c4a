"""Words that every service shares: errors, money, ids, time. Standard library only; pure."""
