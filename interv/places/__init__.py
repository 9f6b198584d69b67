"""Where in a model and on which tokens: sites, scopes, kinds of columns, and each family's paths."""
