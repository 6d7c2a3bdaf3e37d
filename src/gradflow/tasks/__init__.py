"""What is learned: data, loss and metric."""
