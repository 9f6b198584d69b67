"""Every method fitted by its recipe, and its layers and strength selected on validation."""
