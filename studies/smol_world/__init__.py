"""The world of smol-llava: pictograms that people recognise, scenes of them, and the training of its deltas."""
