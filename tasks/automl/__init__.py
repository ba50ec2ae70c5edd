"""AutoML: a search for better hyper-parameters that can be killed, resumed and believed."""
