"""What can be known before anything trains: of a point, of a space, and of this machine."""
