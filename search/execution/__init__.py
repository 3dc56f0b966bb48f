"""Driving a study: a space becomes one, and its attempts go to workers, on Ray or in this process.

A replay is driven as well: its trainings were recorded before, its time is virtual.
"""
