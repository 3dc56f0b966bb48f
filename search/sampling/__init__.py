"""What to try next: Optuna's samplers by name, and ours, which knows costs before training.

`search.study.proposing` asks them; nothing here knows a study.
"""
