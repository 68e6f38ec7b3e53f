"""Measuring what the house promises: how French the answers are, and how well the guards judge."""
