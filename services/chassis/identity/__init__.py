"""Who calls: people by signed tokens, services of the house by certificates."""
