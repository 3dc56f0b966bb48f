"""Placements, one a file: ``placement(site, *, ...) -> bool``, does attention stand there?"""
