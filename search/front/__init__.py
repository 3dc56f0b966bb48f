"""The Pareto front: what is on it and how surely, what it depends on, its tables and pictures.

Nothing here knows a study: fronts are made of trials and objectives.
"""
