"""What an answer may look like, enforced while it is written."""
