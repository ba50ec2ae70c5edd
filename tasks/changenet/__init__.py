"""The native siamese engine: data, model, train, inference, evaluate, export."""
