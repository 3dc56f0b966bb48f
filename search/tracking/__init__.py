"""A study as other programs show it: MLflow, made equal to the journal, and optuna-dashboard."""
