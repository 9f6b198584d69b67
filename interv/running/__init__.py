"""A plan of ops carried out: checked, traced or hooked, from the prompt's cache to the replies."""
