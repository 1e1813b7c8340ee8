"""What each process needs for itself: its log, its name, its parent's death, and others for what may crash."""
