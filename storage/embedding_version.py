"""What kind of features the store holds."""

# Raise it when features change for equal files: everything computed from the former becomes unknown.
EMBEDDING_VERSION = 1

# The last hidden layer, pooled as each of tasks.sources documents.
LAYER = "last"
POOLING = "default"
