"""`study search`: Optuna suggests, Ray Tune tries, ASHA stops; the winner becomes a preset."""
