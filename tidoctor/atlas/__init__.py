"""What should be there: families of checkpoints and the tensors their classes expect."""
