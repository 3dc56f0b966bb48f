"""Channel attention, one kind a file: `attention(channels[, kernel_size], *, ...) -> nn.Module`."""
