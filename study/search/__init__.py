"""`study search`: Optuna suggests trials, Ray Tune runs them, ASHA stops bad ones early.

The winner becomes a preset.
"""
