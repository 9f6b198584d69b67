"""What the speed study compares: random models of real sizes, and the published procedure in plain hooks."""
