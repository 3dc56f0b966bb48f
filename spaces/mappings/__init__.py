"""Kernel mappings, one a file: ``mapping(channels, stage=None, *, ...) -> kernel size``."""
