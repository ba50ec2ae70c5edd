"""Embedding: encoders and image embeddings."""
