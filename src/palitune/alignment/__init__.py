"""Preference and reward tuning: GRPO, RLOO and DPO."""
