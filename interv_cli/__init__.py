"""The command line `interv`: each command is a function of the toolkit, with the same name."""
