"""What is watched. Instruments know nothing of gradflow's models: they work on any `torch.nn.Module`."""
