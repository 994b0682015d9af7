"""Texts as vectors: one model a client, whoever computes it."""

from aideon_core.embeddings.values import EmbeddingModel, EmbeddingRequest, Embeddings, EmbedParams

__all__ = ["EmbedParams", "EmbeddingModel", "EmbeddingRequest", "Embeddings"]
