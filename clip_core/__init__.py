"""The shared core: what we store, how we read text, how we learn. Knows torch and no simulator."""
