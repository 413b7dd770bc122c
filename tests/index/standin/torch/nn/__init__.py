"""`torch.nn`: nothing of it is needed for a matmul."""
