"""What the studies share: recipe, fitting, choosing, results on disk, and the small pieces in between."""
