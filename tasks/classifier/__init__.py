"""The image classifier: a second kind of model, trained by transformers on lists of labelled images."""
