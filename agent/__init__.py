"""The speaker-follower agent. Importing does nothing."""
