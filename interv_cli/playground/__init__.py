"""`interv playground`: a local page that shows unsteered and steered replies side by side as they grow."""
