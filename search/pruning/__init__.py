"""Which trials stop early: any Optuna pruner by name, and ours, which spares the front."""

from search.pruning.pruners import PRUNERS, ParetoPruner, Pruning, SpecError, pruner, warning

__all__ = ["PRUNERS", "ParetoPruner", "Pruning", "SpecError", "pruner", "warning"]
