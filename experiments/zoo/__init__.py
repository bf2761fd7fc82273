"""The cells beside each other: one task for all, what a gradient of each costs, and their page."""
