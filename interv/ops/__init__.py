"""What is done at a site: plain values, each a pure function of what it is given."""
