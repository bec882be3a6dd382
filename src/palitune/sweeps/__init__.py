"""Several runs by one command: grid and Optuna sweeps, their runners, and their report page."""
