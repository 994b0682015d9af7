"""What a chat model over an Aideon client is made of."""
